"""FedProx."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import data_loss, full_gradient, sgd, with_proximal
from atoll.core.method import hyper, method


class Server(NamedTuple):
    """The server's state."""

    w: Vector
    gamma: Array | None  # float32, mean of the gamma_k that the last round's clients reached; None where gamma=0 leaves it unmeasured


class Reply(NamedTuple):
    w: Vector  # the client's model, a gamma_k-inexact minimiser of h_k( . ; w)
    gamma: Array | None  # float32 gamma_k; None where gamma=0
    weight: Array  # n_k


@method
class FedProx:
    """FedProx: a spring holds every client to the common model while it trains, and slow clients send what they have managed.

    A client minimises h_k(v; w) = F_k(v) + mu/2 ||v - w||^2. The spring keeps clients with unlike data from drifting apart, and makes the
    partial work of a straggler worth having, where FedAvg drops it.

    Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, "Federated Optimization in Heterogeneous Networks", MLSys 2020.

    w_k is gamma_k-inexact where ||grad h_k(w_k; w)|| <= gamma_k ||grad h_k(w; w)||, gradients over all rows of the client. With 0 < gamma < 1 a client measures
    that ratio after every epoch and stops once it is at most gamma, or after `epochs`, or where its time is up; the reply carries the gamma_k that it reached.
    A gamma too small to be reached measures and does not stop. Measuring costs one pass over the rows per epoch and two per round. The default gamma=0
    neither measures nor stops: work is by epochs, as in the paper's experiments.

    Kept: server w (and with gamma > 0 the last round's mean gamma_k); clients nothing.
    Traffic per round and client: w down, w and n_k up: FedAvg's; with gamma > 0 also gamma_k up.
    Identity: mu=0 without stragglers is FedAvg, bit for bit. On quadratics (a_i/2) (w - b_i)^2 with enough local steps the fixed point weighs b_i by
    a_i / (a_i + mu): the mean of the clients' optima for mu -> 0, the true optimum for mu -> infinity; t full steps there reach
    gamma_i = |1 - lr (a_i + mu)|^t.
    Departures from the paper: (1) By default clients are sampled uniformly and averaged by n_k, as in the authors' code; the paper's text samples by n_k
    and averages uniformly, which is weighting="alike" with the selector `weighted`. (2) How much a straggler manages is drawn in steps, by the run's
    conditions; in the authors' code in whole epochs. (3) mu is constant. The paper has no default for it, the authors' code advises to try 0.001 to 1; lr,
    epochs and batch are FedAvg's here. (4) gamma is one number for all clients, and is checked once per epoch; what each client reaches is its own.
    """

    lr: float = hyper(0.05, gt=0)  # eta
    epochs: int = hyper(1, ge=1)  # E
    batch: int = hyper(20, ge=0)  # B; 0 = all rows of the client
    mu: float = hyper(0.1, ge=0, search=[0.001, 0.01, 0.1, 0.5, 1.0])
    gamma: float = hyper(0.0, ge=0, lt=1)  # inexactness at which a client stops; 0 = after its epochs
    weighting: str = hyper("rows", choices=("rows", "alike"))  # of replies; "alike" where clients are drawn by their rows (--select weighted)

    partial_work = True

    def check(self) -> None:
        if self.lr * self.mu >= 2:
            raise AtollError(
                f"FedProx(lr={self.lr:g}, mu={self.mu:g}): local steps diverge where lr * mu >= 2, since each overshoots the pull toward the common model "
                f"by more than it mends. Take lr < {2 / self.mu:.3g} or a smaller mu."
            )

    def init(self, fed: Fed) -> Server:
        return Server(fed.model.init(fed.key()), jnp.float32(1) if self.gamma else None)  # the start itself is 1-inexact

    def share(self, s: Server) -> Vector:
        return s.w

    def round(self, s: Server, fed: Fed) -> Server:
        S = fed.sample()  # server selects a subset S_t of devices
        up = fed.ask(S, self.update, s.w, reduce=mean)  # sends w to them; each sends back its w_k
        return Server(up.w, up.gamma)  # w <- mean of w_k

    def update(self, k: Client, w: Vector) -> Reply:
        h = with_proximal(data_loss, self.mu, w)

        def slope(v: Vector) -> Array:
            """||grad h_k(v; w)||, over all rows."""
            g = k.model.parameters(full_gradient(k, v, h)[0])
            return jnp.sqrt(g @ g)

        weight = k.n.astype("float32") if self.weighting == "rows" else jnp.float32(1)
        if not self.gamma:
            v, _ = sgd(k, w, self.lr, epochs=self.epochs, batch=self.batch, loss=h)  # w_k ~ argmin_v h_k(v; w)
            return Reply(v, None, weight)
        first = slope(w)
        # w_k is gamma-inexact, or as near as the epochs take it
        v, _ = sgd(k, w, self.lr, epochs=self.epochs, batch=self.batch, loss=h, until=lambda v: slope(v) <= self.gamma * first)
        gamma_k = slope(v) / jnp.maximum(first, jnp.finfo(first.dtype).tiny)
        return Reply(v, gamma_k, weight)

    def global_model(self, k: Client, w: Vector) -> Any:
        return w
