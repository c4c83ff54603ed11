"""FedHealth."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array
from tree_math import Vector

from atoll.core.adaptation import Moments, adapted, check_upper, feature_size, moments, pooled
from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import sgd
from atoll.core.method import blocks, hyper, method
from atoll.core.model import Model


class Server(NamedTuple):
    """The server's state, sent to who predicts."""

    w_S: Vector
    source: Moments  # of the features that w_S gives all rows of the last round's clients


class Reply(NamedTuple):
    w: Vector  # the client's model after local training
    weight: Array  # n_k


@method
class FedHealth:
    """FedAvg makes a common model; each client then trains its upper layers on its own rows, with features that keep the covariance they have at all clients.

    The lower layers, which find what all clients have in common, are frozen. Drawing the covariances of features together (CORAL) makes the client's rows look
    to the last layer like those it was trained on.

    Chen, Qin, Wang, Yu, Gao, "FedHealth: A Federated Transfer Learning Framework for Wearable Healthcare", IEEE Intelligent Systems 2020, arXiv 1907.09173.

    Kept: server w_S and the moments of its features; clients nothing: they adapt anew whenever they predict.
    Traffic per round and client: w_S twice down (the second time without its last block), w, n_k and the moments of d features (d^2 + d + 1 numbers) up. To
    predict, every client needs the newest w_S and moments once, which is not counted.
    Identity: the common model is FedAvg's; eta=0 with all blocks trained is FedAvg+FT; frozen blocks stay; the pooled covariance is that of all rows.
    Departures from the paper: (1) Its server holds public data, whose features are the source. Here the source are the features of the round's clients: each
    sends their mean and covariance under the new model, and the server pools them. (2) The target covariance is that of a batch. (3) Features are the input of
    the last block. How many last blocks are trained is a hyperparameter; the paper trains the dense layers and freezes the convolutions. Frozen BatchNorm
    layers keep their statistics, but normalise by the batch while others train. (4) No encryption. (5) Clients adapt to predict, and do not send what they
    adapted. The defaults are ours.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)
    batch: int = hyper(20, ge=2)  # also of adapting; a covariance needs two rows
    ft_epochs: int = hyper(5, ge=0)  # of adapting
    ft_lr: float = hyper(0.0, ge=0)  # 0 = as lr
    upper: int | tuple[str, ...] = blocks(2)  # how many last blocks a client trains as its own, or their names; the others are frozen
    eta: float = hyper(1.0, ge=0)  # weight of the alignment

    def check_model(self, model: Model) -> None:
        check_upper(self, model)

    def init(self, fed: Fed) -> Server:
        w_S = fed.model.init(fed.key())
        return Server(w_S, Moments.none(feature_size(fed.model, w_S)))

    def round(self, s: Server, fed: Fed) -> Server:
        S = fed.sample()
        up = fed.ask(S, self.update, s.w_S, reduce=mean)
        base, _ = fed.model.split(up.w, 1)  # w_S <- sum_k n_k / n w_k
        source = fed.ask(up.ids, self.describe, base, reduce=pooled)  # C_S of the new features, from all clients' rows
        return Server(up.w, source.reply)

    def update(self, k: Client, w: Vector) -> Reply:
        w, _ = sgd(k, w, self.lr, epochs=self.epochs, batch=self.batch)
        return Reply(w, k.n.astype("float32"))

    def describe(self, k: Client, base: Vector) -> Moments:
        return moments(k, lambda rows: k.model.features(base, rows.x))

    def personalize(self, k: Client, s: Server) -> Any:
        how: Any = {"upper": self.upper, "eta": self.eta, "lr": self.ft_lr or self.lr, "epochs": self.ft_epochs, "batch": self.batch}
        return adapted(k, s.w_S, s.source, **how)  # min over the upper layers of CE + eta ||C_S - C_T||_F^2 / (4 d^2)

    def global_model(self, k: Client, s: Server) -> Any:
        return s.w_S
