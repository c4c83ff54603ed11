"""FedAvg."""

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
    w: Vector  # the client's model after local training
    weight: Array  # n_k


@method
class FedAvg:
    """Federated averaging: clients train the common model on their own rows, the server averages what they send back.

    McMahan, Moore, Ramage, Hampson, Agüera y Arcas, "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017.

    Kept: server w; clients nothing.
    Traffic per round and client: w down, w and n_k up.
    Identity: with one client it is plain SGD, bit for bit; one epoch of full batches with all clients is one step of gradient descent.
    Departures from the paper: none. BatchNorm statistics, which its models do not have, are averaged like parameters. The defaults are ours; the paper
    tunes the rate and sweeps E over 1, 5, 20 and B over 10, 50 and all rows.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)  # E
    batch: int = hyper(20, ge=0)  # B; 0 = all rows of the client

    def init(self, fed: Fed) -> Vector:
        return fed.model.init(fed.key())

    def round(self, w: Vector, fed: Fed) -> Vector:
        S = fed.sample()  # S_t <- random set of clients
        up = fed.ask(S, self.update, w, reduce=mean)  # each client k in S_t in parallel: w_k <- ClientUpdate(k, w)
        return up.w  # w <- sum_k n_k / n w_k

    def update(self, k: Client, w: Vector) -> Reply:
        w, _ = sgd(k, w, self.lr, epochs=self.epochs, batch=self.batch)  # E epochs of w <- w - eta grad l(w; b)
        return Reply(w, k.n.astype("float32"))

    def global_model(self, k: Client, w: Vector) -> Any:
        return w
