"""SCAFFOLD."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import full_gradient, sgd
from atoll.core.method import hyper, method


class Server(NamedTuple):
    x: Vector  # common model
    c: Vector  # server control variate, the mean of all c_i; parameters only


class Reply(NamedTuple):
    dy: Vector  # y_i - x
    dc: Vector  # c_i+ - c_i; parameters only
    weight: Array  # 1: the paper averages clients uniformly


class First(NamedTuple):
    """What a client replies in a warm start."""

    c: Vector  # c_i, its gradient at x; parameters only
    weight: Array  # 1


@method
class Scaffold:
    """SCAFFOLD: control variates correct each local step for the client's drift away from the common direction.

    Every client remembers the direction c_i in which its own rows pull, the server the mean c of these; a client steps along its gradient + c - c_i,
    which on average is the direction of all. The goal is the plain mean of the clients' losses, whatever their numbers of rows.

    Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020.

    All control variates begin at 0, so that in a client's first round nothing corrects it. With warm_start the first round is one gradient pass of all clients
    instead, which trains nothing: c_i = grad f_i(x), c = mean c_i. Then the first correction is exact already.

    Kept: server x and c; client c_i (as large as the model).
    Traffic per round and client: x and c down, dy and dc up: twice FedAvg's each way (BatchNorm statistics once). In the
    round of a warm start x and c down, c_i up.
    Identity: c is the mean of all c_i at all times; on quadratics the fixed point is the true optimum, where FedAvg's is not. After a warm start
    one full step of any single client is a step of gradient descent on the mean loss of all.
    Departures from the paper: (1) Local work is counted in epochs, so that K, the number of steps, is the client's own; in the paper it is the same for all.
    (2) BatchNorm statistics are averaged like parameters, and have no control variates. (3) A warm start takes the first round, whatever the selector,
    and its traffic and work are counted; a client that can't be reached in it, or joins later, begins with c_i = 0 as without one. The defaults are ours.
    """

    lr: float = hyper(0.05, gt=0)  # eta_l
    epochs: int = hyper(1, ge=1)
    batch: int = hyper(20, ge=0)  # 0 = all rows of the client
    server_lr: float = hyper(1.0, gt=0, search=(0.1, 2.0, "log"))  # eta_g
    option: int = hyper(2, choices=(1, 2))  # how c_i is renewed: 1 = fresh gradient at x, 2 = from the path
    warm_start: bool = hyper(False)  # the first round gives all clients c_i = g_i(x)

    label = "SCAFFOLD"

    def init(self, fed: Fed) -> Server:
        x = fed.model.init(fed.key())
        return Server(x, 0.0 * fed.model.parameters(x))

    def join(self, k: Client, s: Server) -> Vector:
        return 0.0 * s.c  # c_i

    def round(self, s: Server, fed: Fed) -> Server:
        if self.warm_start and fed.round == 1:
            up = fed.ask(fed.everyone(), self.first, s, reduce=mean)
            return Server(s.x, len(up.ids) / len(fed.everyone()) * up.c)  # c <- mean of all c_i; those that did not answer have 0
        S = fed.sample()  # sample clients S
        up = fed.ask(S, self.update, s, reduce=mean)  # communicate (x, c) to all i in S
        x = s.x + self.server_lr * up.dy  # x <- x + eta_g / |S| sum dy_i
        c = s.c + len(up.ids) / len(fed.everyone()) * up.dc  # c <- c + |S| / N mean dc_i
        return Server(x, c)

    def update(self, i: Client, s: Server) -> tuple[Reply, Vector]:
        c_i = i.state
        y, K = sgd(i, s.x, self.lr, epochs=self.epochs, batch=self.batch, correction=s.c - c_i)  # y <- y - eta_l (g_i(y) - c_i + c)
        c_new = c_i - s.c + i.model.parameters(s.x - y) / (K * self.lr)  # (ii) c_i+ <- c_i - c + (x - y) / (K eta_l)
        if self.option == 1:
            c_new = self._gradient(i, s.x)  # or (i) c_i+ <- g_i(x)
        return Reply(y - s.x, c_new - c_i, jnp.float32(1)), c_new  # communicate (dy, dc); c_i <- c_i+

    def first(self, i: Client, s: Server) -> tuple[First, Vector]:
        g = self._gradient(i, s.x)
        return First(g, jnp.float32(1)), g  # c_i <- g_i(x)

    def _gradient(self, i: Client, x: Vector) -> Vector:
        return i.model.parameters(full_gradient(i, x)[0])

    def global_model(self, k: Client, s: Server) -> Any:
        return s.x
