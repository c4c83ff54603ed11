"""FedProx."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import data_loss, sgd, with_proximal
from atoll.core.method import hyper, method


class Reply(NamedTuple):
    w: Vector  # the client's model, an inexact minimiser of h_k( . ; w)
    weight: Array  # n_k


@method
class FedProx:
    """FedProx: a spring holds every client to the common model while it trains, and slow clients send what they have managed.

    A client minimises h_k(v; w) = F_k(v) + mu/2 ||v - w||^2. The spring keeps clients with unlike data from drifting apart, and makes the
    partial work of a straggler worth having, where FedAvg drops it.

    Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, "Federated Optimization in Heterogeneous Networks", MLSys 2020.

    Kept: server w; clients nothing.
    Traffic per round and client: w down, w and n_k up: FedAvg's.
    Identity: mu=0 without stragglers is FedAvg, bit for bit. On quadratics (a_i/2) (w - b_i)^2 with enough local steps the fixed point weighs b_i by
    a_i / (a_i + mu): the mean of the clients' optima for mu -> 0, the true optimum for mu -> infinity.
    Departures from the paper: (1) Clients are sampled uniformly and averaged by n_k, as in the authors' code; the paper's text samples by n_k and averages
    uniformly. (2) How much a straggler manages is drawn in steps, by the run's conditions; in the authors' code in whole epochs. (3) mu is
    constant. The paper has no default for it, the authors' code advises to try 0.001 to 1; lr, epochs and batch are FedAvg's here.
    """

    lr: float = hyper(0.05, gt=0)  # eta
    epochs: int = hyper(1, ge=1)  # E
    batch: int = hyper(20, ge=0)  # B; 0 = all rows of the client
    mu: float = hyper(0.1, ge=0)

    partial_work = True

    def check(self) -> None:
        if self.lr * self.mu >= 2:
            raise AtollError(
                f"FedProx(lr={self.lr:g}, mu={self.mu:g}): local steps diverge where lr * mu >= 2, since each overshoots the pull toward the common model "
                f"by more than it mends. Take lr < {2 / self.mu:.3g} or a smaller mu."
            )

    def init(self, fed: Fed) -> Vector:
        return fed.model.init(fed.key())

    def round(self, w: Vector, fed: Fed) -> Vector:
        S = fed.sample()  # server selects a subset S_t of devices
        up = fed.ask(S, self.update, w, reduce=mean)  # sends w to them; each sends back its w_k
        return up.w  # w <- mean of w_k

    def update(self, k: Client, w: Vector) -> Reply:
        h = with_proximal(data_loss, self.mu, w)
        v, _ = sgd(k, w, self.lr, epochs=self.epochs, batch=self.batch, loss=h)  # w_k ~ argmin_v h_k(v; w), gamma_k-inexact
        return Reply(v, k.n.astype("float32"))

    def global_model(self, k: Client, w: Vector) -> Any:
        return w
