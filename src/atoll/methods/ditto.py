"""Ditto."""

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
    w: Vector  # w_k, the client's copy of the common model after local training
    weight: Array  # n_k


@method
class Ditto:
    """Ditto: beside the common model, which FedAvg trains, every client trains one of its own that a spring holds to the common one.

    The own model v_k minimises h_k(v; w) = F_k(v) + lam/2 ||v - w||^2. The common model never hears of it, so a client that is attacked, or unlike the
    others, spoils only w, and a weak spring keeps v_k out of reach.

    Li, Hu, Beirami, Smith, "Ditto: Fair and Robust Federated Learning Through Personalization", ICML 2021.

    Kept: server w; client v_k (as large as the model).
    Traffic per round and client: w down, w_k and n_k up: FedAvg's.
    Identity: w is FedAvg's whatever lam, and with lam=0 v_k is Local's, bit for bit; on quadratics (a_k/2) (v - b_k)^2 the fixed point of v_k is
    (a_k b_k + lam w) / (a_k + lam), which goes to w for a large lam.
    Departures from the paper: (1) w_k is sent instead of w_k - w; their means with weights n_k are the same step. (2) lam is the same for all clients and
    constant; the authors also let clients choose among 0.05, 0.1, 0.2 or 0.1, 1, 2 on validation rows. (3) A client begins with v_k = w of the round in which
    it is first asked, and one that has not trained predicts with w. (4) Work is counted in epochs, with the same batches for w_k and v_k; s counts steps of
    v_k. lam is that of the authors' code for Fashion-MNIST; the other defaults are FedAvg's here.
    """

    lr: float = hyper(0.05, gt=0)  # eta, of w and v
    epochs: int = hyper(1, ge=1)
    batch: int = hyper(20, ge=0)  # 0 = all rows of the client
    lam: float = hyper(1.0, ge=0, search=[0.1, 1.0, 2.0])  # lambda, how strongly v is held to w
    s: int = hyper(0, ge=0)  # steps of v per round; 0 = as many as w takes

    def check(self) -> None:
        if self.lr * self.lam >= 2:
            raise AtollError(
                f"Ditto(lr={self.lr:g}, lam={self.lam:g}): steps of v diverge where lr * lam >= 2, since each overshoots the pull toward the common model "
                f"by more than it mends. Take lr < {2 / self.lam:.3g} or a smaller lam."
            )

    def init(self, fed: Fed) -> Vector:
        return fed.model.init(fed.key())

    def join(self, k: Client, w: Vector) -> Vector:
        return w  # v_k

    def round(self, w: Vector, fed: Fed) -> Vector:
        S = fed.sample()  # server selects a subset S_t of devices
        up = fed.ask(S, self.update, w, reduce=mean)  # and sends w to them
        return up.w  # w <- w + sum_k n_k / n (w_k - w)

    def update(self, k: Client, w: Vector) -> tuple[Reply, Vector]:
        how: Any = {"epochs": self.epochs, "batch": self.batch}
        h = with_proximal(data_loss, self.lam, w)
        v, _ = sgd(k, k.state, self.lr, **how, steps=self.s or None, loss=h)  # s times: v_k <- v_k - eta (grad F_k(v_k) + lambda (v_k - w))
        w, _ = sgd(k, w, self.lr, **how)  # w_k <- UPDATE_GLOBAL(w, grad F_k)
        return Reply(w, k.n.astype("float32")), v

    def personalize(self, k: Client, w: Vector) -> Any:
        return k.state

    def global_model(self, k: Client, w: Vector) -> Any:
        return w
