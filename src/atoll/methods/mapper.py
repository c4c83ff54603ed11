"""MAPPER."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.candidates import check_mixtures, kept_apart, losses, mixtures, smallest
from atoll.core.client import Client
from atoll.core.clusters import alike, count, one
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import gradient, step
from atoll.core.method import hyper, method
from atoll.core.rows import Batch


class Own(NamedTuple):
    h: Vector  # h_l
    share: Array  # float32 scalar, lambda


class Reply(NamedTuple):
    h: Vector  # h_c after the client's steps
    weight: Array  # m_k


@method
class MAPPER:
    """MAPPER: a client predicts with a mixture of the common model and one of its own; the common model learns to be a good part of such mixtures.

    It minimises sum_k m_k / m L_k(lambda_k h_l,k + (1 - lambda_k) h_c) over the common model h_c, the own models h_l,k and the shares lambda_k. A client tries
    several shares, with a model trained for each, and takes the one that is best on rows kept apart. The gradient of h_c goes through the mixture, so a client
    that relies on its own model moves the common one little. (In APFL the common model is trained for itself, and shares follow a gradient.)

    Mansour, Mohri, Ro, Suresh, "Three Approaches for Personalization with Applications to Federated Learning", arXiv:2002.10619, 2020.

    Kept: server h_c; client h_l and lambda (as large as the model, and a number).
    Traffic per round and client: h_c down, h_c and m_k up: FedAvg's.
    Identity: with lowest=highest=0 h_c is trained as by FedAvg on the rows that are not kept apart; with both 1 it never moves, and own models are trained
    alone; with shares from 0 to 1 the one taken is at least as good, on the rows kept apart, as an own model and as the common one.
    Departures from the paper: (1) Many clients per round; the paper's is one. (2) h_l begins at h_c of the round in which a client is first asked, and goes on
    from where it was; one that has not been asked predicts with h_c. (3) h_c takes passes of mini-batch steps instead of one step; with one large batch and
    global_epochs=1 it is one. (4) Rows kept apart are drawn once and never trained on. (5) Parameters are mixed, and BatchNorm statistics with them; those of
    the part that moves follow the batches as the mixture sees them. (6) The personal model has the newest h_c.
    The shares tried are those of a third party's code: a client whose share is 1 does not move h_c, and all may soon be there. The other defaults are ours.
    """

    lr: float = hyper(0.1, gt=0)  # gamma, of h_l and h_c
    epochs: int = hyper(1, ge=1)  # of h_l, for each share
    global_epochs: int = hyper(1, ge=1)  # of h_c
    batch: int = hyper(20, ge=1)
    grid: int = hyper(2, ge=1)  # shares lambda that are tried: from lowest to highest in so many parts
    lowest: float = hyper(0.25, ge=0, le=1)
    highest: float = hyper(0.75, ge=0, le=1)
    kept: float = hyper(0.2, gt=0, lt=1)  # share of the train rows by which lambda is chosen

    def check(self) -> None:
        check_mixtures(self)

    def init(self, fed: Fed) -> Vector:
        return fed.model.init(fed.key())

    def join(self, k: Client, h_c: Vector) -> Own:
        return Own(h_c, jnp.float32(self.lowest))

    def round(self, h_c: Vector, fed: Fed) -> Vector:
        S = fed.sample()
        up = fed.ask(S, self.update, h_c, reduce=mean)  # send h_c to clients
        return up.h  # h_c <- sum_k m_k / m h_c,k

    def update(self, k: Client, h_c: Vector) -> tuple[Reply, Own]:
        h_l, share = own = self._fitted(k, h_c)

        def down(h: Vector, D: Batch) -> Vector:
            g, buffered = gradient(k, mixture(h_l, share, h), D)
            return step(k, h, (1 - share) * g, buffered, self.lr)  # h_c <- h_c - gamma grad_{h_c} L(lambda h_l + (1 - lambda) h_c)

        train, _ = kept_apart(k, self.kept)
        h_c, _ = train.fold(down, h_c, batch=self.batch, epochs=self.global_epochs, key=k.key_for(1))
        return Reply(h_c, k.n.astype(jnp.float32)), own

    def _fitted(self, k: Client, h_c: Vector) -> Own:
        """(h_l, lambda), the best on the rows kept apart."""
        train, kept = kept_apart(k, self.kept)
        shares = jnp.asarray(mixtures(self.lowest, self.highest, self.grid))  # for each lambda, side by side:

        def down(h: Vector, D: Batch) -> Vector:
            def of(h_l: Vector, share: Array) -> Vector:
                g, buffered = gradient(k, mixture(h_l, share, h_c), D)
                return step(k, h_l, share * g, buffered, self.lr)  # h_l <- h_l - gamma grad_{h_l} L(lambda h_l + (1 - lambda) h_c)

            return jax.vmap(of)(h, shares)

        h, _ = train.fold(down, alike(k.state.h, len(shares)), batch=self.batch, epochs=self.epochs)
        best = smallest(losses(kept, [mixture(one(h, j), shares[j], h_c) for j in range(count(h))]))
        return Own(one(h, best), shares[best])

    def personalize(self, k: Client, h_c: Vector) -> Any:
        return mixture(k.state.h, k.state.share, h_c)

    def global_model(self, k: Client, h_c: Vector) -> Any:
        return h_c


def mixture(h_l: Vector, share: Array, h_c: Vector) -> Vector:
    """lambda h_l + (1 - lambda) h_c."""
    return share * h_l + (1 - share) * h_c
