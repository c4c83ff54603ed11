"""Local training alone: the baseline without federation."""

from __future__ import annotations

from typing import Any

import numpy as np
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.local import sgd
from atoll.core.method import hyper, method


@method
class Local:
    """Every client trains a model of its own on its own rows; nothing is ever sent.

    The baseline that any personalized method must beat. A client alone is bound to no schedule of rounds, so all clients train in every round, those
    held out of the federation too, until each has done `budget` epochs: a Local row that is undertrained because few clients are sampled
    would flatter every other method. Who misses a round (drop-out, straggler) makes up for it later.

    A baseline; there is no paper.

    Kept: server how many epochs each client has done; client w_i.
    Traffic per round and client: nothing, either way.
    Identity: plain SGD on each client's rows; in a federation of one client it is FedAvg until the budget is spent, bit for bit.
    Departures from the paper: there is none to depart from.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)  # per round
    batch: int = hyper(20, ge=0)  # 0 = all rows of the client
    budget: int = hyper(50, ge=1)  # epochs per client in all, rounded up to whole rounds

    many_architectures = True

    def init(self, fed: Fed) -> np.ndarray:
        return np.zeros(len(fed.with_unseen()), np.int32)  # epochs done by each client

    def share(self, done: np.ndarray) -> None:
        return None

    def join(self, i: Client, _: None) -> Vector:
        return i.model.init(i.common_key)

    def round(self, done: np.ndarray, fed: Fed) -> np.ndarray:
        short = np.flatnonzero(done < self.budget)
        if not len(short):
            return done
        up = fed.ask(short, self.update)
        return done + self.epochs * np.isin(fed.with_unseen(), up.ids).astype(np.int32)

    def update(self, i: Client, _: None) -> tuple[None, Vector]:
        w, _steps = sgd(i, i.state, self.lr, epochs=self.epochs, batch=self.batch)
        return None, w

    def personalize(self, i: Client, _: None) -> Any:
        return i.state
