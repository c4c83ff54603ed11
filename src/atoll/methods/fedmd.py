"""FedMD."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.keys import host_generator
from atoll.core.local import descend, masked_mean
from atoll.core.method import hyper, method
from atoll.core.rows import Batch, Rows

ROUNDING = 1e-5  # scores that differ by less, relative to 1 + their size, agree


class Party(NamedTuple):
    w: Vector  # the party's own model f_i, of any architecture
    A: Array  # [alignment] int32, the public rows it scored last (the first N_a entries)


class Scores(NamedTuple):
    y: Array  # [N_a, outputs] pre-softmax scores of the public rows A_t
    weight: Array  # 1: the consensus is the plain mean


@method
class FedMD:
    """FedMD: clients with models of different architectures agree on the scores of public rows, and learn from that agreement.

    Li, Wang, "FedMD: Heterogenous Federated Learning via Model Distillation", NeurIPS workshop on federated learning, 2019.

    Kept: server nothing (everyone has the public rows); client its model f_i and which public rows it scored last.
    Traffic per round and client: N_a row numbers and N_a x outputs scores down, N_a x outputs scores up; whatever the model's size.
    Identity: with one client, or where all models are the same, the consensus is the own scores and digesting it changes nothing;
    digest_epochs=0 is training alone.
    Departures from the paper: (1) fixed numbers of epochs; the authors' code stops the transfer phase by accuracy on private test rows.
    (2) Adam's moments begin anew in every phase; the authors' code keeps two sets per party, as large as four models. (3) The digest takes
    its batches in the random order in which the server drew the rows. (4) Scores that agree but for
    rounding have gradient 0, not the sign of the rounding. (5) No weight penalty on the last layer, no dropout.
    Smaller public sets than the paper's 5000 alignment rows are used whole. The paper revisits for 2, 4 or 10 epochs, by data set.
    """

    lr: float = hyper(1e-3, gt=0)  # of Adam, in all phases
    public_epochs: int = hyper(20, ge=0)  # transfer: on public rows,
    public_batch: int = hyper(128, ge=1)
    private_epochs: int = hyper(25, ge=0)  # then on the own ones
    private_batch: int = hyper(32, ge=1)
    alignment: int = hyper(5000, ge=1)  # N_a, rows of A_t
    digest_epochs: int = hyper(1, ge=0)
    digest_batch: int = hyper(256, ge=1)
    revisit_epochs: int = hyper(4, ge=0)
    revisit_batch: int = hyper(5, ge=1)

    many_architectures = True
    needs_public = True

    def init(self, fed: Fed) -> None:
        _ = fed.public  # refused here where there are none

    def share(self, _: None) -> None:
        return None

    def join(self, i: Client, _: None) -> Party:
        w = i.model.init(i.common_key)
        w = self._fit(i, w, i.public, self.public_epochs, self.public_batch)  # transfer learning: on D_0
        w = self._fit(i, w, i.train, self.private_epochs, self.private_batch)  # and on D_i
        return Party(w, jnp.zeros(self.alignment, jnp.int32))

    def round(self, _: None, fed: Fed) -> None:
        _x, y = fed.public
        random = host_generator(fed.seed, "alignment", fed.round)
        A = stratified(np.asarray(y), min(self.alignment, len(y)), random)  # the server draws A_t from D_0
        up = fed.ask(fed.sample(), self.communicate, A, reduce=mean)  # communicate, aggregate: f~(x) = 1/m sum_i f_i(x), x in A_t
        fed.ask(up.ids, self.learn, up.y)  # distribute, digest, revisit

    def communicate(self, i: Client, A: Array) -> tuple[Scores, Party]:
        w, kept = i.state

        def score(t: Array, y: Array) -> Array:
            rows, at = self._aligned(i, A, t)
            return y.at[at].set(i.model.apply(w, rows.x), mode="drop")  # filling lies behind the end

        like = jax.eval_shape(lambda: i.model.apply(w, self._aligned(i, A, jnp.int32(0))[0].x))
        y, _ = i.public.repeat(score, jnp.zeros((len(A), *like.shape[1:]), like.dtype), self._passes(len(A)))
        return Scores(y, jnp.float32(1)), Party(w, kept.at[: len(A)].set(A))

    def learn(self, i: Client, consensus: Array) -> tuple[None, Party]:
        w, kept = i.state
        A = kept[: len(consensus)]
        adam: Any = optax.adam(self.lr)

        def digest(t: Array, carry: Any) -> Any:
            rows, at = self._aligned(i, A, t % self._passes(len(A)))

            def distance(i: Client, w: Vector, rows: Batch) -> tuple[Array, Vector]:
                f, w = i.model.train(w, rows.x, rows.mask, rows.key)
                return masked_mean(_distance(f, consensus.at[at].get(mode="clip")), rows.mask), w

            return descend(i, adam, carry, rows, distance)

        (w, _), _ = i.public.repeat(digest, (w, adam.init(w)), self.digest_epochs * self._passes(len(A)))  # digest: toward f~ on A_t
        w = self._fit(i, w, i.train, self.revisit_epochs, self.revisit_batch)  # revisit: D_i
        return None, Party(w, kept)

    def personalize(self, i: Client, _: None) -> Any:
        return i.state.w

    def _fit(self, i: Client, w: Vector, rows: Rows, epochs: int, batch: int) -> Vector:
        adam: Any = optax.adam(self.lr)
        (w, _), _ = rows.fold(lambda carry, rows: descend(i, adam, carry, rows), (w, adam.init(w)), batch=batch, epochs=epochs)
        return w

    def _passes(self, n: int) -> int:
        return -(-n // self.digest_batch)

    def _aligned(self, i: Client, A: Array, t: Array) -> tuple[Batch, Array]:
        """Batch `t` of the public rows numbered A, and its positions [batch] in A; positions behind the end are masked filling."""
        size = min(self.digest_batch, len(A))
        at = t * size + jnp.arange(size, dtype=jnp.int32)
        real = at < len(A)
        return i.public.take(A[jnp.where(real, at, 0)])._replace(mask=real.astype(jnp.float32)), at


def _distance(f: Array, target: Array) -> Array:
    """Mean absolute difference of scores per row [batch]. Differences of rounding do not count: Adam would make full steps of their signs."""
    error = jnp.abs(f - target)
    return jnp.where(error > ROUNDING * (1 + jnp.abs(target)), error, 0).reshape(len(f), -1).mean(axis=1)


def stratified(y: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """`size` distinct row numbers in random order, int32 [size]: each row equally likely, each label with its share of the rows."""
    order = random.permutation(len(y))
    order = order[np.argsort(y.reshape(len(y), -1)[order, 0], kind="stable")]  # by label, in random order within each
    at = (np.arange(size) * len(y) + random.integers(len(y))) // size  # evenly spaced
    return random.permutation(order[at]).astype(np.int32)
