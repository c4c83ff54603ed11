"""APFL."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import gradient, step
from atoll.core.method import hyper, method
from atoll.core.rows import Batch


class Own(NamedTuple):
    v: Vector  # v_i, the client's own model
    alpha: Array  # float32 scalar in [0, 1], the share of v_i in the mixture it predicts with


class Reply(NamedTuple):
    w: Vector  # w_i, the client's copy of the common model after local training
    weight: Array  # 1: the paper averages clients uniformly


@method
class APFL:
    """APFL: every client mixes the common model with one of its own, and learns how much to take of each.

    The common model is trained as by FedAvg, whatever the mixtures. The own model is trained to make the mixture alpha v + (1 - alpha) w a good one.

    Deng, Kamani, Mahdavi, "Adaptive Personalized Federated Learning", arXiv:2003.13461, 2020.

    Kept: server w; client v_i and alpha_i (as large as the model, and a number).
    Traffic per round and client: w down, w_i up: FedAvg's.
    Identity: for every alpha w is FedAvg's with equal weights; with adaptive=False, alpha=1 trains v_i as Local does and alpha=0 predicts with w; bit for bit.
    Departures from the paper: (1) Local work is counted in epochs, not in tau steps. (2) A constant rate; the paper lets it decay. (3) The personal model
    is the mixture of v_i with the newest w; the paper's guarantees are for an average over past mixtures. (4) A client begins with v_i = w of the round
    in which it is first asked; one that has not trained predicts with w. (5) BatchNorm statistics are mixed and averaged like parameters; those
    of v_i follow the batches as the mixture sees them.
    alpha_i moves at every local step; in the authors' code only at the first one of a round. Their code mixes outputs instead of parameters, which is the
    same for linear models only. The defaults of lr, batch and alpha are those of the example in their code; epochs=1 is ours.
    """

    lr: float = hyper(0.1, gt=0)  # eta, of w, v and alpha
    epochs: int = hyper(1, ge=1)
    batch: int = hyper(50, ge=1)
    alpha: float = hyper(0.5, ge=0, le=1, search=[0.1, 0.25, 0.5, 0.75, 0.9])  # of a client at first
    adaptive: bool = hyper(True)  # clients learn their alpha; False: it stays

    def init(self, fed: Fed) -> Vector:
        return fed.model.init(fed.key())

    def join(self, i: Client, w: Vector) -> Own:
        return Own(w, jnp.float32(self.alpha))

    def round(self, w: Vector, fed: Fed) -> Vector:
        U = fed.sample()  # server samples clients U_t
        up = fed.ask(U, self.update, w, reduce=mean)  # and broadcasts w
        return up.w  # w <- 1 / |U_t| sum_i w_i

    def update(self, i: Client, w: Vector) -> tuple[Reply, Own]:
        def one(carry: tuple[Vector, Own], D: Batch) -> tuple[Vector, Own]:
            w, (v, alpha) = carry  # all steps below start from these old values
            g_w, buffers_w = gradient(i, w, D)
            g, buffers_v = gradient(i, mixture(v, alpha, w), D)  # grad f_i(v-bar)
            new = jnp.clip(alpha - self.lr * ((v - w) @ g), 0, 1) if self.adaptive else alpha  # alpha <- alpha - eta <v - w, grad f_i(v-bar)>
            w = step(i, w, g_w, buffers_w, self.lr)  # w_i <- w_i - eta grad f_i(w_i)
            v = step(i, v, alpha * g, buffers_v, self.lr)  # v_i <- v_i - eta grad_v f_i(v-bar), by the chain rule
            return w, Own(v, new)

        (w, own), _ = i.fold(one, (w, i.state), batch=self.batch, epochs=self.epochs)
        return Reply(w, jnp.float32(1)), own

    def personalize(self, i: Client, w: Vector) -> Any:
        return mixture(i.state.v, i.state.alpha, w)

    def global_model(self, i: Client, w: Vector) -> Any:
        return w


def mixture(v: Vector, alpha: Array, w: Vector) -> Vector:
    """v-bar = alpha v + (1 - alpha) w."""
    return alpha * v + (1 - alpha) * w
