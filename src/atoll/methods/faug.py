"""FAug."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.balance import filled, label_counts, some_of
from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import sgd
from atoll.core.method import hyper, method, stateless
from atoll.core.model import Model
from atoll.models.gan import ConditionalGan, Generator


class Maker(NamedTuple):
    """What clients make rows with."""

    G: Generator
    known: Array  # bool [L], labels of which there were seeds


class Server(NamedTuple):
    """The server's state."""

    w: Vector
    maker: Maker
    given: Array  # bool [n], which clients have the maker


class Seeds(NamedTuple):
    """What a client uploads."""

    x: Array  # [(T + R) seeds, ...], rows as the model sees them
    y: Array  # int32, -1: filling


class Reply(NamedTuple):
    w: Vector  # the client's model after local training
    weight: Array  # rows it trained on, made ones included


@method
class FAug:
    """The server learns to make rows from a few that clients upload; every client then fills up its scarce labels with made rows until all are even.

    A client uploads a few rows of labels that are scarce at it, and of others beside, which hide from the server which ones those are. On these seeds the
    server trains a conditional GAN, whose generator makes rows of a wanted label. After filling up, clients' label distributions are alike, as FedAvg likes it.

    Jeong, Oh, Kim, Park, Bennis, Kim, "Communication-Efficient On-Device Machine Learning: Federated Distillation and Augmentation under Non-IID Private
    Data", NeurIPS workshop MLPCD, 2018, arXiv 1811.11479.

    Kept: server w and the generator (of the seeds, which are rows as they are, nothing but it); clients the generator.
    Traffic per round and client: w down, w and the number of rows up: FedAvg's. Once: (targets + redundant) x seeds rows up; the generator and L bits down.
    Identity: where labels are even already it is FedAvg; with one generator for all, filled clients have L times the rows of their most frequent label; what a
    client makes is the same in all rounds.
    Departures from the paper: (1) The scarcest labels that a client has rows of are its targets, up to a number; it has no row to upload of a missing label.
    Every label of which anybody uploaded a seed is filled up. (2) The paper enlarges the seeds by similar images from the web; here the GAN draws each label
    equally often. (3) Its networks, left open in the paper, are dense; G maximises log D, as Goodfellow et al. advise, and D sees rows blurred by noise.
    (4) All uploads are equally long: filling counts as sent. (5) Clients that could not be reached at the start upload nothing. (6) The defaults are ours.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)  # E
    batch: int = hyper(20, ge=0)  # B; 0 = all rows
    seeds: int = hyper(5, ge=1)  # rows of each uploaded label
    targets: int = hyper(3, ge=1)  # |T|, scarce labels that a client uploads at most
    redundant: int = hyper(2, ge=0)  # |R|, other labels; |T| / (|T| + |R|) of what it uploads tells what is scarce
    noise: int = hyper(16, ge=1)  # length of z
    hidden: int = hyper(128, ge=1)  # units of G and of D
    gan_steps: int = hyper(2000, ge=1)
    gan_batch: int = hyper(64, ge=1)
    gan_lr: float = hyper(1e-3, gt=0)  # of Adam

    def check_model(self, model: Model) -> None:
        if model.task != "classification":
            raise AtollError(f"FAug evens out labels, and rows for {model.task} have none. Take a federation for classification.")

    def init(self, fed: Fed) -> Server:
        up = fed.ask(fed.everyone(), self.upload)  # seeds (x, y), y in T_i and R_i
        real = np.asarray(up.y) >= 0
        x, y = (jnp.asarray(np.asarray(part)[real]) for part in (up.x, up.y))
        gan, key = self._gan(fed.model), fed.key("gan")
        G = gan.fit(x, y, key, steps=self.gan_steps, batch=self.gan_batch, lr=self.gan_lr) if len(y) else gan.init(key)
        known = jnp.zeros(fed.outputs, bool).at[y].set(True)
        return Server(fed.model.init(fed.key()), Maker(G, known), jnp.zeros(fed.n, bool))

    def share(self, s: Server) -> Vector:
        return s.w

    def join(self, k: Client, w: Vector) -> Maker:
        like = jax.eval_shape(self._gan(k.model).init, k.key)
        return Maker(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like), jnp.zeros(k.outputs, bool))

    def round(self, s: Server, fed: Fed) -> Server:
        S, given = fed.sample(), np.asarray(s.given)
        new = [None if given[k] else s.maker for k in S.tolist()]  # who has no generator gets it
        up = fed.ask(S, self.update, s.w, each=new, reduce=mean)
        return s._replace(w=up.w, given=s.given.at[up.ids].set(True))  # w <- sum_k n_k / n w_k

    @stateless
    def upload(self, k: Client, _: None) -> Seeds:
        counts = label_counts(k)
        scarce = (counts > 0) & (counts < counts.max())
        T = jnp.argsort(jnp.where(scarce, counts, k.n))[: self.targets]  # target labels: the scarcest
        others = (counts > 0) & ~(scarce & jnp.isin(jnp.arange(k.outputs), T))
        R = jnp.argsort(jnp.where(others, jax.random.uniform(k.key_for(0), counts.shape), 1.0))[: self.redundant]  # redundant ones: at random
        numbers, real = some_of(k, jnp.concatenate([T, R]), self.seeds, k.key)
        real &= jnp.concatenate([scarce[T], others[R]])[:, None]
        rows = k.train.take(jnp.where(real, numbers, 0).reshape(-1))
        if rows.x.dtype == jnp.int32:
            raise AtollError("FAug makes rows of numbers with a GAN, and these are tokens.")
        real = real.reshape(-1)
        return Seeds(jnp.where(real.reshape(-1, *(1,) * (rows.x.ndim - 1)), rows.x, 0), jnp.where(real, rows.y, -1))

    def update(self, k: Client, w: Vector, new: Maker | None = None) -> tuple[Reply, Maker]:
        maker = k.state if new is None else new
        even = self._filled(k, maker)
        w, _ = sgd(even, w, self.lr, epochs=self.epochs, batch=self.batch)
        return Reply(w, even.n.astype("float32")), maker

    def global_model(self, k: Client, w: Vector) -> Any:
        return w

    def _filled(self, k: Client, maker: Maker) -> Client:
        """k with G(z|y) for every row that a label y lacks."""
        key, gan = k.lasting_key(0), self._gan(k.model)

        def make(number: Array, y: Array) -> Array:
            z = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (self.noise,)))(number)
            return gan.make(maker.G, z, y)

        return filled(k, make, maker.known)

    def _gan(self, model: Model) -> ConditionalGan:
        return ConditionalGan(model.input_shape, model.outputs, self.noise, self.hidden)
