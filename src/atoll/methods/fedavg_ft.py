"""FedAvg with fine-tuning."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import fine_tune, sgd
from atoll.core.method import hyper, method


class Reply(NamedTuple):
    w: Vector  # the client's model after local training
    weight: Array  # n_k


@method
class FedAvgFT:
    """FedAvg, and before it predicts each client trains a copy of the common model a little more on its own train rows.

    The simplest personalization, and the one that any other has to beat: it costs no traffic and no private state, and often wins.

    Wang, Mathews, Kiddon, Eichner, Beaufays, Ramage, "Federated Evaluation of On-device Personalization", arXiv 1910.10252, 2019, who evaluate
    fine-tuning; the common model is FedAvg's (McMahan et al., AISTATS 2017).

    Kept: server w; clients nothing: they fine-tune anew whenever they predict.
    Traffic per round and client: w down, w and n_k up: FedAvg's. To predict, every client needs the newest w once, which is not counted.
    Identity: the common model is FedAvg's, and ft_epochs=0 predicts with it, bit for bit.
    Departures from the paper: (1) Every client takes its fine-tuned model, better or not; the table also scores the common one. (2) All clients take
    the same number of epochs, none stops early. (3) what="head" trains the last block alone, on features of the common base as it
    predicts (its BatchNorm statistics stay, and nothing is dropped out). The defaults are ours: five epochs at the rate of training.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)  # E
    batch: int = hyper(20, ge=0)  # B, also of fine-tuning; 0 = all rows of the client
    ft_epochs: int = hyper(5, ge=0, search=[1, 2, 5, 10])  # J
    ft_lr: float = hyper(0.0, ge=0)  # 0 = as lr
    what: str = hyper("all", choices=("all", "head"))  # of the model is fine-tuned

    label = "FedAvg+FT"

    def init(self, fed: Fed) -> Vector:
        return fed.model.init(fed.key())

    def round(self, w: Vector, fed: Fed) -> Vector:
        S = fed.sample()
        up = fed.ask(S, self.update, w, reduce=mean)
        return up.w  # w <- sum_k n_k / n w_k

    def update(self, k: Client, w: Vector) -> Reply:
        w, _ = sgd(k, w, self.lr, epochs=self.epochs, batch=self.batch)
        return Reply(w, k.n.astype("float32"))

    def personalize(self, k: Client, w: Vector) -> Any:
        # theta_k <- J epochs of SGD from w
        return fine_tune(k, w, self.ft_lr or self.lr, what=self.what, batch=self.batch, epochs=self.ft_epochs)

    def global_model(self, k: Client, w: Vector) -> Any:
        return w
