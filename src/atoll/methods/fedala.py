"""FedALA."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.keys import shuffle
from atoll.core.local import data_loss, sgd
from atoll.core.method import blocks, hyper, method
from atoll.core.rows import Batch

WINDOW = 10  # epochs over which the loss must be steady


class State(NamedTuple):
    theta: Vector  # theta_i after the client's last local training
    W: Vector  # a weight in [0, 1] for each parameter of the upper blocks
    learned: Array  # bool, have weights been learned to the end once?


class Reply(NamedTuple):
    theta: Vector  # the client's model after local training
    weight: Array  # n_i


class Search(NamedTuple):
    """Weights while they are learned."""

    W: Vector
    losses: Array  # [WINDOW] loss of the last batch of each of the newest epochs
    t: Array  # int32, steps done


@method
class FedALA:
    """FedALA: before it trains, a client learns, weight by weight, how much of the common model to take and how much of its own last one to keep.

    The lower layers are taken as they come; in the upper ones every parameter has a weight W in [0, 1]. The weights are learned on some of the client's rows,
    in its second round until the loss is steady, and for one epoch per round from then on.

    Zhang, Hua, Wang, Song, Xue, Ma, Guan, "FedALA: Adaptive Local Aggregation for Personalized Federated Learning", AAAI 2023.

    Kept: server Theta; client theta_i and W_i (as large as the model and as its upper blocks).
    Traffic per round and client: Theta down, theta_i and n_i up: FedAvg's.
    Identity: eta=0 leaves W = 1, and Theta is FedAvg's, bit for bit; where theta_i = Theta nothing is learned; one step moves W by
    - eta grad L(theta-hat) (Theta - theta_i), clipped to [0, 1].
    Departures from the paper: (1) One last block is upper by default; the paper counts layers. (2) The s % of the rows are drawn at random each time; the
    authors' code takes neighbours in their order. (3) Where the loss does not become steady, the first search ends after `longest` epochs; in their code it
    never does. (4) BatchNorm statistics are taken from Theta. (5) A client predicts with its theta_i after local training; one that has not trained, with
    Theta. s, eta, the window of ten epochs and its threshold are the authors'; lr, epochs and batch are FedAvg's here.
    """

    lr: float = hyper(0.05, gt=0)  # alpha
    epochs: int = hyper(1, ge=1)
    batch: int = hyper(20, ge=1)  # also of learning W
    eta: float = hyper(1.0, ge=0, search=(0.1, 10.0, "log"))  # rate of W
    s: int = hyper(80, ge=1, le=100)  # % of the rows on which W is learned
    p: int | tuple[str, ...] = blocks(1)  # how many last blocks are upper ones, or the names of blocks
    steady: float = hyper(0.1, gt=0)  # standard deviation of ten losses at which the first search ends
    longest: int = hyper(100, ge=1)  # epochs of the first search at most

    def init(self, fed: Fed) -> Vector:
        return fed.model.init(fed.key())

    def join(self, i: Client, Theta: Vector) -> State:
        top = i.model.parameters(i.model.split(Theta, self.p)[1])
        return State(Theta, jax.tree.map(jnp.ones_like, top), jnp.bool_(False))  # W_i <- 1

    def round(self, Theta: Vector, fed: Fed) -> Vector:
        S = fed.sample()
        up = fed.ask(S, self.update, Theta, reduce=mean)  # send Theta to the clients
        return up.theta  # Theta <- sum_i k_i / k theta_i

    def update(self, i: Client, Theta: Vector) -> tuple[Reply, State]:
        s = self._learned(i, Theta)
        start = self._aggregated(i, Theta, s.theta, s.W)  # theta-hat_i, by adaptive local aggregation
        theta, _ = sgd(i, start, self.lr, epochs=self.epochs, batch=self.batch)  # theta_i <- theta-hat_i - alpha grad L
        return Reply(theta, i.n.astype("float32")), s._replace(theta=theta)

    def _learned(self, i: Client, Theta: Vector) -> State:
        """The client's state with W learned against `Theta`."""
        theta, W, learned = i.state
        apart = self._upper(i, Theta) - self._upper(i, theta)  # Theta - theta_i
        differ = jax.tree.reduce(jnp.logical_or, jax.tree.map(lambda leaf: (leaf != 0).any(), apart), jnp.bool_(False))
        some = _drawn(i, self.s)
        per_epoch = (some.n + self.batch - 1) // self.batch

        def one(search: Search, rows: Batch) -> Search:
            hat = self._aggregated(i, Theta, theta, search.W)
            loss, g = jax.value_and_grad(lambda w: data_loss(i, w, rows)[0])(hat)
            W = jax.tree.map(lambda w: jnp.clip(w, 0, 1), search.W - self.eta * (self._upper(i, g) * apart))  # W <- clip(W - eta grad_W L)
            return Search(W, search.losses.at[search.t // per_epoch % WINDOW].set(loss), search.t + 1)

        def done(search: Search) -> Array:
            return learned | (search.t > WINDOW * per_epoch) & (jnp.std(search.losses) < self.steady)

        steps = jnp.where(differ, jnp.where(learned, 1, self.longest), 0) * per_epoch
        first = Search(W, jnp.zeros(WINDOW), jnp.int32(0))
        search, _ = some.fold(one, first, batch=self.batch, steps=steps, key=i.key_for(1), until=done)
        return State(theta, search.W, learned | differ)

    def _aggregated(self, i: Client, Theta: Vector, theta: Vector, W: Vector) -> Vector:
        """theta_i + (Theta - theta_i) * [1, W]: Theta's lower blocks, and a mixture in the upper ones."""
        low, top = i.model.split(Theta, self.p)
        mixed = W * self._upper(i, Theta) + (1 - W) * self._upper(i, theta)
        return i.model.join(low, Vector({**top.tree, **mixed.tree}))

    def _upper(self, i: Client, w: Vector) -> Vector:
        return i.model.parameters(i.model.split(w, self.p)[1])

    def personalize(self, i: Client, Theta: Vector) -> Any:
        return i.state.theta

    def global_model(self, i: Client, Theta: Vector) -> Any:
        return Theta


def _drawn(i: Client, s: int) -> Client:
    """The client with s % of its train rows, drawn anew in every round; one row at least."""

    def make(at: Array) -> tuple[Array, Array]:
        rows = i.train.take(shuffle(at, i.n, i.key_for(0)))
        return rows.x, rows.y

    return i.on(i.train.instead(make, jnp.maximum(1, s * i.n // 100), i.train.room))
