"""LG-FedAvg."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import sgd
from atoll.core.method import blocks, hyper, method, stateless


class Shared(NamedTuple):
    l_0: Vector | None  # local layers of the warm start, with which clients join; None = those of the common first model
    g: Vector  # global layers


class Reply(NamedTuple):
    w: Vector  # the client's copy of what it was sent, after local training: g_i; in the warm start the whole model
    weight: Array  # 1: the mean is uniform


@method
class LGFedAvg:
    """LG-FedAvg: each client learns a representation of its own in the lower layers; the layers on top of it are common and averaged.

    Liang, Liu, Ziyin, Salakhutdinov, Morency, "Think Locally, Act Globally: Federated Learning with Local and Global Representations",
    NeurIPS workshop on federated learning, 2019 (arXiv 2001.01523).

    Kept: server the global layers g and, after a warm start, the local layers with which clients join; client its local layers l_i.
    Traffic per round and client: g down, g and a weight up. In the rounds of a warm start the whole model each way; after one, what it made once
    when a client joins. All clients predict with the newest g: those that were not asked fetch it then, which is not counted.
    Identity: everything shared is FedAvg with the uniform mean, nothing shared is Local, bit for bit; while the warm start lasts it is that FedAvg.
    Departures from the paper: (1) No warm start by default; the authors' code trains 400 or 1200 rounds of FedAvg before 200 of its own. (2) One
    block is shared by default, the head; the authors share the last three layers of five on MNIST. Their CIFAR-10 network lists its layers
    top down, so their code shares the convolutions and keeps the classifier local; here the top is shared, as in the paper. (3) No momentum;
    the authors' is 0.5. (4) Local layers learn from the labels alone, without an auxiliary or an adversary's loss. (5) A client that never joined
    predicts with the local layers of the warm start (without one, the untrained first ones), not with the ensemble of all clients' models; the method
    lg-ensemble does.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)
    batch: int = hyper(10, ge=0)  # 0 = all rows of the client
    shared: int | tuple[str, ...] = blocks(1)  # how many last blocks are global; or the names of blocks, anywhere in the model
    warmup: int = hyper(0, ge=0)  # first rounds: FedAvg on the whole model

    label = "LG-FedAvg"

    def init(self, fed: Fed) -> Shared:
        l_0, g = fed.model.split(fed.model.init(fed.key()), self.shared)
        return Shared(l_0 if self.warmup else None, g)

    def join(self, i: Client, s: Shared) -> Vector:
        return i.model.split(i.model.init(i.common_key), self.shared)[0] if s.l_0 is None else s.l_0  # l_i

    def round(self, s: Shared, fed: Fed) -> Shared:
        S = fed.sample()
        if s.l_0 is not None and fed.round <= self.warmup:
            up = fed.ask(S, self.warm, fed.model.join(s.l_0, s.g), reduce=mean)  # warm start: FedAvg on the whole model
            return Shared(*fed.model.split(up.w, self.shared))
        # Who joins is sent all of s. Without a warm start that is the message itself and sent once; after one, l_0 is not for those who have joined.
        up = fed.ask(S, self.update, s if s.l_0 is None else Shared(None, s.g), reduce=mean)  # send g
        return Shared(s.l_0, up.w)  # g <- 1/|S| sum_i g_i

    @stateless
    def warm(self, i: Client, w: Vector) -> Reply:
        w, _ = sgd(i, w, self.lr, epochs=self.epochs, batch=self.batch)
        return Reply(w, jnp.float32(1))

    def update(self, i: Client, s: Shared) -> tuple[Reply, Vector]:
        w = i.model.join(i.state, s.g)
        w, _ = sgd(i, w, self.lr, epochs=self.epochs, batch=self.batch)  # (l_i, g_i) <- SGD: both in the same backward pass
        l_i, g_i = i.model.split(w, self.shared)
        return Reply(g_i, jnp.float32(1)), l_i  # g_i to the server, l_i stays

    def personalize(self, i: Client, s: Shared) -> Any:
        return i.model.join(i.state, s.g)
