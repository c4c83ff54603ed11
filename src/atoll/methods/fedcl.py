"""FedCL."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.importance import importance
from atoll.core.local import data_loss, sgd
from atoll.core.method import hyper, method
from atoll.core.rows import Batch


class Shared(NamedTuple):
    """What the server sends."""

    w: Vector
    omega: Vector  # importance of each parameter


class Reply(NamedTuple):
    w: Vector  # the client's model after local training
    weight: Array  # n_k


@method
class FedCL:
    """Continual local training: a client changes little what matters on the server's proxy data, and the rest as its own rows want.

    Before a round the server estimates on public rows how much each parameter matters (EWC's diagonal Fisher information); the clients' penalty
    lam sum_i Omega_i (v_i - w_i)^2 holds important parameters and leaves the others free, where FedProx holds all alike.

    Yao, Sun, "Continual Local Training for Better Initialization of Federated Models", ICIP 2020.

    Kept: server w; clients nothing.
    Traffic per round and client: w and Omega down, w and n_k up.
    Identity: lam=0 is FedAvg; Omega = c everywhere is FedProx with mu = 2 lam c; a parameter with a huge Omega does not move.
    Departures from the paper: (1) Omega is the empirical Fisher information: squared gradients of single rows with the public rows' labels, in evaluation mode;
    the text leaves open which. (2) The default of lam is ours; lr, epochs and batch are FedAvg's.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)  # E
    batch: int = hyper(20, ge=0)  # B; 0 = all rows of the client
    lam: float = hyper(1.0, ge=0, search=(0.01, 100.0, "log"))

    needs_public = True

    def init(self, fed: Fed) -> Vector:
        return fed.model.init(fed.key())

    def round(self, w: Vector, fed: Fed) -> Vector:
        S = fed.sample()
        omega = fed.at_server(importance, w)  # Omega_i <- E (d log p(y | x; w) / d w_i)^2 on the proxy data
        up = fed.ask(S, self.update, Shared(w, omega), reduce=mean)  # send w, Omega
        return up.w  # w <- sum_k n_k / n w_k

    def update(self, k: Client, s: Shared) -> Reply:
        def loss(k: Client, v: Vector, rows: Batch) -> tuple[Array, Vector]:
            value, buffered = data_loss(k, v, rows)
            moved = k.model.parameters(v) - k.model.parameters(s.w)
            return value + self.lam * (s.omega @ (moved * moved)), buffered  # f_k(v) + lam sum_i Omega_i (v_i - w_i)^2

        v, _ = sgd(k, s.w, self.lr, epochs=self.epochs, batch=self.batch, loss=loss)
        return Reply(v, k.n.astype("float32"))

    def global_model(self, k: Client, w: Vector) -> Any:
        return w
