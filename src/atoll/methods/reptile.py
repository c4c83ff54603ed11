"""Personalized FedAvg: FedAvg, then Reptile."""

from __future__ import annotations

from typing import Any, NamedTuple

import optax
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import sgd
from atoll.core.method import hyper, method


class Server(NamedTuple):
    """The server's state."""

    w: Vector
    adam: Any  # moments of the second stage


class Reply(NamedTuple):
    w: Vector  # the client's model after local training
    weight: Array  # n_k in the first stage, 1 in the second


@method
class Reptile:
    """Personalized FedAvg: first FedAvg with long local training, then Reptile with K steps per client and Adam at the server, then K steps to personalize.

    FedAvg is a meta-learner already: with K local steps its update is the sum of the gradients of K steps of training at a client, so it looks for a start
    from which such a client gets far. The second stage makes K what it will be when clients personalize.

    Jiang, Konečný, Rush, Kannan, "Improving Federated Learning Personalization via Model Agnostic Meta Learning", arXiv 1909.12488, 2019.

    Kept: server w and, from the second stage on, Adam's moments; clients nothing.
    Traffic per round and client: w down, w and a weight up: FedAvg's.
    Identity: (w - w_K) / lr is the sum of the gradients of the K steps; without a second stage it is FedAvg with fine-tuning of K steps; with equal n_k, server
    "sgd" and server_lr=1 a round of the second stage is FedAvg's with K steps.
    Departures from the paper: (1) The first stage is plain FedAvg, without momentum at the server. (2) The second averages clients uniformly, as Reptile does.
    (3) Rates, the length of the first stage and K are ours. A run that ends within the first stage is FedAvg with fine-tuning: mind `first` in short runs.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(2, ge=1)  # E, of the first stage
    batch: int = hyper(20, ge=1)
    first: int = hyper(25, ge=0)  # rounds of the first stage
    K: int = hyper(10, ge=1)  # local steps of the second stage, and of personalization
    server: str = hyper("adam", choices=("adam", "sgd"))  # optimizer of the second stage
    server_lr: float = hyper(0.002, gt=0, search=(1e-4, 0.1, "log"))

    def init(self, fed: Fed) -> Server:
        w = fed.model.init(fed.key())
        return Server(w, self._optimizer().init(fed.model.parameters(w)))

    def round(self, s: Server, fed: Fed) -> Server:
        S = fed.sample()
        if fed.round <= self.first:
            return s._replace(w=fed.ask(S, self.update, s.w, reduce=mean).w)  # stage 1: FedAvg(E)
        up = fed.ask(S, self.adapt, s.w, reduce=mean)  # stage 2: Reptile(K)
        direction = fed.model.parameters(s.w) - fed.model.parameters(up.w)  # - mean of the clients' updates
        change, adam = self._optimizer().update(direction, s.adam)
        w = Vector({**up.w.tree, **(fed.model.parameters(s.w) + change).tree})  # parameters are stepped, buffers averaged
        return Server(w, adam)

    def update(self, k: Client, w: Vector) -> Reply:
        w, _ = sgd(k, w, self.lr, epochs=self.epochs, batch=self.batch)
        return Reply(w, k.n.astype("float32"))

    def adapt(self, k: Client, w: Vector) -> Reply:
        return Reply(self._personal(k, w), (k.n > 0).astype("float32"))

    def personalize(self, k: Client, s: Server) -> Any:
        return self._personal(k, s.w)  # the very K steps of the second stage

    def global_model(self, k: Client, s: Server) -> Any:
        return s.w

    def _personal(self, k: Client, w: Vector) -> Vector:
        return sgd(k, w, self.lr, batch=self.batch, steps=self.K)[0]

    def _optimizer(self) -> Any:
        return optax.adam(self.server_lr) if self.server == "adam" else optax.sgd(self.server_lr)
