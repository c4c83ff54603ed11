"""L2GD."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.keys import host_generator
from atoll.core.local import sgd
from atoll.core.method import hyper, method


class Server(NamedTuple):
    mean: Vector  # x-bar, of the models that clients sent when the coin changed last
    has: Array  # [n] bool, which clients have been sent it; none where the last coin was 0


class Own(NamedTuple):
    x: Vector  # x_i
    mean: Vector  # x-bar as it was sent last


class Reply(NamedTuple):
    x: Vector  # x_i
    weight: Array  # 1: x-bar is the plain mean


@method
class L2GD:
    """L2GD: every client has its own model, and a coin says in each round whether all of them learn or all of them move toward their mean.

    It minimises 1/n sum_i f_i(x_i) + lam/(2n) sum_i ||x_i - x-bar||^2: lam=0 is local training, a large lam one common model. A round is one coin.
    The mean does not change while models move toward it, so that clients communicate only in a round in which the coin turns from learning to moving.

    Hanzely, Richtarik, "Federated Learning of a Mixture of Global and Local Models", arXiv:2002.05516, 2020.

    Kept: server x-bar, and who has it; client x_i and the x-bar it was sent last (two models).
    Traffic per round and client: x_i up and x-bar down where the coin turns from 0 to 1, in p(1-p) of all rounds; nothing in the others. Once x-bar down.
    Identity: on quadratics the expected step vanishes at the known optimum x_i = x-bar - grad f_i(x_i) / lam; moving keeps x-bar, and shrinks what
    differs from it by the factor 1 - lr lam / p.
    Departures from the paper: (1) lr is its alpha / n, so that a rate does not depend on the number of clients. (2) In the paper all clients take part in
    every round. Of those that are asked here, one that has not got x-bar yet when others already move is sent it; among s of n clients the
    penalty counts n (s-1) / (s (n-1)) times in the mean. (3) BatchNorm statistics move like parameters. The defaults are ours: p = lam / (L + lam), the
    best, for L = 0.9. With a constant rate x_i ends in a neighbourhood of the optimum only: see L2SGD+.
    """

    lr: float = hyper(0.1, gt=0)  # alpha / n; learning steps have the rate lr / (1 - p)
    lam: float = hyper(0.1, ge=0, search=(0.01, 1.0, "log"))  # lambda
    p: float = hyper(0.1, gt=0, lt=1, search=(0.1, 0.5))  # how often the coin is 1
    batch: int = hyper(0, ge=0)  # rows of a learning step; 0 = all rows of the client

    def check(self) -> None:
        check_share(self)

    def init(self, fed: Fed) -> Server:
        return Server(fed.model.init(fed.key()), jnp.zeros(fed.n, bool))

    def share(self, s: Server) -> Vector:
        return s.mean

    def join(self, i: Client, mean: Vector) -> Own:
        return Own(mean, mean)  # at first all x_i are equal

    def round(self, s: Server, fed: Fed) -> Server:
        S = fed.sample()
        if not heads(fed, self.p):  # coin 0, with probability 1 - p
            fed.ask(S, self.learn)
            return Server(s.mean, jnp.zeros(fed.n, bool))
        if not s.has.any():  # the coin was 0 before: communicate
            s = s._replace(mean=fed.ask(S, self.send, reduce=mean).x)  # x-bar <- 1/n sum_i x_i
        has = np.array(s.has)
        if has[S].any():
            fed.ask(S[has[S]], self.move)  # x-bar is still the mean, and known
        if not has[S].all():
            has[fed.ask(S[~has[S]], self.receive, s.mean).ids] = True
        return Server(s.mean, jnp.asarray(has))

    def learn(self, i: Client, _: None) -> tuple[None, Own]:
        x, _steps = sgd(i, i.state.x, self.lr / (1 - self.p), batch=self.batch, steps=1)  # x_i <- x_i - alpha / (n (1-p)) grad f_i(x_i)
        return None, i.state._replace(x=x)

    def send(self, i: Client, _: None) -> tuple[Reply, Own]:
        return Reply(i.state.x, jnp.float32(1)), i.state

    def receive(self, i: Client, mean: Vector) -> tuple[None, Own]:
        return None, Own(self._moved(i.state.x, mean), mean)

    def move(self, i: Client, _: None) -> tuple[None, Own]:
        return None, Own(self._moved(i.state.x, i.state.mean), i.state.mean)

    def _moved(self, x: Vector, mean: Vector) -> Vector:
        return x + self.lr * self.lam / self.p * (mean - x)  # x_i <- x_i - alpha lambda / (n p) (x_i - x-bar)

    def personalize(self, i: Client, _: Vector) -> Any:
        return i.state.x

    def global_model(self, i: Client, mean: Vector) -> Any:
        return mean


def heads(fed: Fed, p: float) -> bool:
    """The coin of this round, which all clients see: 1 with probability p."""
    return bool(host_generator(fed.seed, "coin", fed.round).random() < p)


def check_share(m: Any) -> None:
    """A round of coin 1 takes a model at most the whole way to the mean."""
    if m.lr * m.lam / m.p > 1 + 1e-6:
        raise AtollError(
            f"{type(m).__name__}(lr={m.lr:g}, lam={m.lam:g}, p={m.p:g}): when the coin is 1 models move by the share lr lam / p = {m.lr * m.lam / m.p:.3g} "
            f"of their way to the mean, which is at most 1. Take lr up to p / lam = {m.p / m.lam:.3g}, a smaller lam or a larger p."
        )
