"""L2SGD+."""

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
from atoll.core.local import gradient, step
from atoll.core.method import hyper, method
from atoll.core.rows import Batch
from atoll.methods.l2gd import check_share, heads


class Own(NamedTuple):
    x: Vector  # x_i
    J: Vector  # [m, ...] the last gradient of each of the m blocks of rows; parameters only
    Psi: Vector  # the last lambda (x_i - x-bar); parameters only


class Reply(NamedTuple):
    x: Vector  # x_i
    weight: Array  # 1: x-bar is the plain mean


@method
class L2SGD:
    """L2SGD+: L2GD with stochastic gradients whose noise dies out, so that it ends in the optimum and not somewhere near it.

    A client cuts its rows into blocks and learns on one of them a time. It remembers the last gradient of every block, and its last pull toward the mean;
    each step is corrected by what these say of the blocks that it has not seen and of the coin's other side.

    Hanzely, Richtarik, "Federated Learning of a Mixture of Global and Local Models", arXiv:2002.05516, 2020.

    Kept: server the last x-bar; client x_i, Psi_i and the m gradients J_i (m + 2 models: meant for small ones).
    Traffic per round and client: x_i up and x-bar down where the coin is 1, in the share p of the rounds; nothing in the others. Once x-bar down.
    Identity: every expected step is lr times the gradient of client i's part of L2GD's objective; on quadratics it ends in the known optimum exactly.
    Departures from the paper: (1) lr is its alpha / n. (2) The last block may be smaller: blocks are drawn, and count in the mean of J_i, by their rows.
    (3) In the paper all clients take part in every round; here those that are asked do. (4) BatchNorm statistics follow the batches and move like parameters.
    Unlike L2GD's, moves change x-bar here, by the gradients that correct them, so that each of them needs a new one. The defaults are ours.
    """

    lr: float = hyper(0.1, gt=0)  # alpha / n
    lam: float = hyper(0.1, ge=0, search=(0.01, 1.0, "log"))  # lambda
    p: float = hyper(0.1, gt=0, lt=1, search=(0.1, 0.5))  # how often the coin is 1
    batch: int = hyper(10, ge=1)  # rows of a block

    label = "L2SGD+"

    def check(self) -> None:
        check_share(self)

    def init(self, fed: Fed) -> Vector:
        return fed.model.init(fed.key())

    def join(self, i: Client, mean: Vector) -> Own:
        zero = 0.0 * i.model.parameters(mean)
        assert i.train.room is not None  # the rows are the client's own
        m = -(-i.train.room // self.batch)
        return Own(mean, jax.tree.map(lambda leaf: jnp.zeros((m, *leaf.shape)), zero), zero)

    def round(self, xbar: Vector, fed: Fed) -> Vector:
        S = fed.sample()
        if not heads(fed, self.p):  # coin 0, with probability 1 - p
            fed.ask(S, self.learn)
            return xbar
        up = fed.ask(S, self.send, reduce=mean)  # x-bar <- 1/n sum_i x_i
        fed.ask(up.ids, self.move, up.x)
        return up.x

    def learn(self, i: Client, _: None) -> tuple[None, Own]:
        j = jax.random.randint(i.key_for(0), (), 0, i.n) // self.batch  # the block of a random row

        def one(_: Array, own: Own) -> Own:
            x, J, Psi = own
            g, buffered = gradient(i, x, self._block(i, j))  # grad f_ij(x_i)
            g = i.model.parameters(g)
            v = (g - entry(J, j)) / (1 - self.p) + self._mean(i, J) + Psi  # n g_i = (grad f_ij - J_ij) / (1-p) + 1/m sum_j J_ij + Psi_i
            J = jax.tree.map(lambda all, new: all.at[j].set(new), J, g)  # J_ij <- grad f_ij(x_i)
            return Own(step(i, x, v, buffered, self.lr), J, Psi)  # x_i <- x_i - alpha g_i

        return None, i.repeat(one, i.state, 1)[0]

    def send(self, i: Client, _: None) -> tuple[Reply, Own]:
        return Reply(i.state.x, jnp.float32(1)), i.state

    def move(self, i: Client, xbar: Vector) -> tuple[None, Own]:
        x, J, Psi = i.state
        pull = self.lam * i.model.parameters(x - xbar)
        v = pull / self.p - (1 / self.p - 1) * Psi + self._mean(i, J)  # n g_i = lambda/p (x_i - x-bar) - (1/p - 1) Psi_i + 1/m sum_j J_ij
        buffered = x + self.lr * self.lam / self.p * (xbar - x)
        return None, Own(step(i, x, v, buffered, self.lr), J, pull)  # x_i <- x_i - alpha g_i; Psi_i <- lambda (x_i - x-bar)

    def personalize(self, i: Client, _: Vector) -> Any:
        return i.state.x

    def global_model(self, i: Client, xbar: Vector) -> Any:
        return xbar

    def _block(self, i: Client, j: Array) -> Batch:
        """Block j of the client's rows, which lie in an order that was drawn once."""
        at = j * self.batch + jnp.arange(self.batch, dtype=jnp.int32)
        real = at < i.n
        return i.train.take(shuffle(jnp.where(real, at, 0), i.n, i.lasting_key(0)))._replace(mask=real.astype(jnp.float32))

    def _mean(self, i: Client, J: Vector) -> Vector:
        """1/m sum_j J_ij, where blocks count by their rows."""
        first = self.batch * jnp.arange(len(jax.tree.leaves(J)[0]))
        share = jnp.clip(i.n - first, 0, self.batch) / i.n  # [m]
        return jax.tree.map(lambda leaf: jnp.tensordot(share, leaf, 1), J)


def entry(J: Vector, j: Array) -> Vector:
    return jax.tree.map(lambda leaf: leaf[j], J)
