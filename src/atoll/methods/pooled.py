"""Pooled training: the baseline without privacy."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import sgd
from atoll.core.method import hyper, method


class Reply(NamedTuple):
    w: Vector  # the model after its epochs
    weight: Array  # number of rows; the mean is of one


@method
class Pooled:
    """One model trained by SGD on the train rows of all seen clients in one place, which federated learning exists to avoid.

    It says how much the best common model could reach, and so how much is lost to the federation. It runs where one machine holds all rows, in
    simulation; clients that drop out or are slow do not concern it.

    A baseline; there is no paper.

    Kept: in one place all rows and the model w; clients nothing.
    Traffic per round and client: nothing is metered (the rows would have had to be sent once).
    Identity: plain SGD on the concatenated rows; FedAvg with a single client that owns all of them, bit for bit.
    Departures from the paper: there is none to depart from.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)  # over all rows, per round
    batch: int = hyper(20, ge=0)  # 0 = all rows

    needs_pool = True

    def init(self, fed: Fed) -> Vector:
        return fed.model.init(fed.key())

    def round(self, w: Vector, fed: Fed) -> Vector:
        return fed.ask(fed.pool, self.update, w, reduce=mean).w

    def update(self, pool: Client, w: Vector) -> Reply:
        w, _ = sgd(pool, w, self.lr, epochs=self.epochs, batch=self.batch)
        return Reply(w, pool.n.astype("float32"))

    def global_model(self, k: Client, w: Vector) -> Any:
        return w
