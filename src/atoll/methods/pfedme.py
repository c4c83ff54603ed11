"""pFedMe."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import gradient, step
from atoll.core.method import hyper, method
from atoll.core.model import BUFFERS
from atoll.core.rows import Batch


class Reply(NamedTuple):
    w: Vector  # w_{i,R}, the client's copy of the common model after R local rounds
    weight: Array  # 1: the paper averages clients uniformly


@method
class PFedMe:
    """pFedMe: every client has a model of its own that is held to the common one, and the common one moves toward the clients' own.

    The own model theta_i(w) minimises f_i(theta) + lam/2 ||theta - w||^2; the common model w minimises the mean over clients of that minimum (the
    Moreau envelope of f_i), whose gradient is lam (w - theta_i(w)). The larger lam, the closer the own models are held.

    T. Dinh, Tran, Nguyen, "Personalized Federated Learning with Moreau Envelopes", NeurIPS 2020.

    Kept: server w; client theta_i (as large as the model).
    Traffic per round and client: w down, w_i up: FedAvg's.
    Identity: on quadratics the fixed points of w and of every theta_i are known; with R = 1, beta = 1, eta lam = 1 the new w is the mean of the theta_i.
    Departures from the paper: (1) Only the sampled clients train; in the paper all do, and the server hears of the sampled ones. (2) The paper leaves open
    where the K steps toward theta begin: here at w in the first local round, then at the theta of the one before, as in the authors' code.
    (3) Batches are those of shuffled epochs, the last of an epoch may be partial. (4) A client that has not trained predicts with the theta_i(w) that
    R batches give; the paper does not say. (5) BatchNorm statistics follow theta's batches, also in w_i; the server averages them without beta.
    The authors' code, not the paper, also decays theta by 0.001, weighs clients by rows and scores w_i as the personal model; all that is not done here.
    The defaults are those of the authors' logistic regression on MNIST; they trained a net with plr = 0.09.
    """

    lam: float = hyper(15.0, gt=0, search=(1.0, 50.0, "log"))  # lambda
    K: int = hyper(5, ge=1)  # steps toward theta, per batch
    R: int = hyper(20, ge=1)  # local rounds, a batch each
    batch: int = hyper(20, ge=1)  # |D|
    eta: float = hyper(0.005, gt=0, search=(1e-3, 0.02, "log"))  # rate of w_i; eta lam <= 1
    plr: float = hyper(0.1, gt=0, search=(1e-3, 0.3, "log"))  # rate of theta
    beta: float = hyper(1.0, gt=0)  # share of the clients' mean in the new w; more than 1 goes beyond it

    label = "pFedMe"

    def check(self) -> None:
        if self.eta * self.lam > 1 + 1e-6:
            raise AtollError(
                f"PFedMe(eta={self.eta:g}, lam={self.lam:g}): a local round moves w_i by the share eta * lam = {self.eta * self.lam:g} of its way to theta, "
                f"which is at most 1. Take eta up to 1 / lam = {1 / self.lam:.3g}, or a smaller lam."
            )

    def init(self, fed: Fed) -> Vector:
        return fed.model.init(fed.key())

    def join(self, i: Client, w: Vector) -> Vector:
        theta, _ = i.fold(lambda theta, D: self._toward(i, theta, w, D), w, batch=self.batch, steps=self.R)
        return theta

    def round(self, w: Vector, fed: Fed) -> Vector:
        S = fed.sample()
        up = fed.ask(S, self.update, w, reduce=mean)  # server sends w
        mixed = (1 - self.beta) * w + self.beta * up.w  # w <- (1 - beta) w + beta / S sum_i w_{i,R}
        return Vector({name: up.w.tree[name] if name == BUFFERS else block for name, block in mixed.tree.items()})

    def update(self, i: Client, w: Vector) -> tuple[Reply, Vector]:
        def local_round(carry: tuple[Vector, Vector], D: Batch) -> tuple[Vector, Vector]:
            theta, w_i = carry
            theta = self._toward(i, theta, w_i, D)  # theta ~ theta_i(w_{i,r}), on a fresh batch D
            return theta, step(i, w_i, w_i - theta, theta, self.eta * self.lam)  # w_{i,r+1} <- w_{i,r} - eta lam (w_{i,r} - theta)

        (theta, w_i), _ = i.fold(local_round, (w, w), batch=self.batch, steps=self.R)  # w_{i,0} <- w; for r = 0 ... R-1
        return Reply(w_i, jnp.float32(1)), theta

    def _toward(self, i: Client, theta: Vector, w: Vector, D: Batch) -> Vector:
        """K gradient steps on f(theta; D) + lam/2 ||theta - w||^2."""

        def one(_: Any, theta: Vector) -> Vector:
            g, buffered = gradient(i, theta, D)
            return step(i, theta, g + self.lam * (theta - w), buffered, self.plr)

        return jax.lax.fori_loop(0, self.K, one, theta)

    def personalize(self, i: Client, w: Vector) -> Any:
        return i.state  # theta_i

    def global_model(self, i: Client, w: Vector) -> Any:
        return w
