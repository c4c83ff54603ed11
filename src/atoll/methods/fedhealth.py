"""FedHealth and FedSteg."""

from __future__ import annotations

from collections.abc import Callable
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
        return first(fed)

    def round(self, s: Server, fed: Fed) -> Server:
        return federated(s, fed, self.update, self.describe)

    def update(self, k: Client, w: Vector) -> Reply:
        return trained(self, k, w)

    def describe(self, k: Client, base: Vector) -> Moments:
        return described(k, base)

    def personalize(self, k: Client, s: Server) -> Any:
        return personal(self, k, s)

    def global_model(self, k: Client, s: Server) -> Any:
        return s.w_S


@method
class FedSteg:
    """FedSteg: FedHealth's scheme for detectors of hidden messages: a common steganalyser, whose upper layers each participant adapts to its own images.

    Participants differ in their images and in how much is hidden in them. High-pass residuals and convolutions are common and frozen while a participant
    adapts (model "steganalyser", data "steganalysis").

    Yang, He, Zhang, Cao, "FedSteg: A Federated Transfer Learning Framework for Secure Image Steganalysis", IEEE Transactions on Network Science and
    Engineering, 2020.

    Kept: server (the cloud) w_S and the moments of its features; clients nothing: they adapt anew whenever they predict.
    Traffic per round and client: FedHealth's: w_S twice down (the second time without its last block), w, n_k and the moments of d features up.
    Identity: it is FedHealth, bit for bit, at the same hyperparameters; where nothing is hidden (rate 0) every detector is right for half of the images.
    Departures from the paper: (1) As in FedHealth, the source of the alignment are the features of the round's clients, not of public images at the server,
    and nothing is encrypted. (2) The paper detects the adaptive embeddings WOW, S-UNIWARD and HILL; the data here are made by LSB matching. (3) How its
    authors train is not known to us beyond the scheme; the defaults are ours.
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
        return first(fed)

    def round(self, s: Server, fed: Fed) -> Server:
        return federated(s, fed, self.update, self.describe)

    def update(self, k: Client, w: Vector) -> Reply:
        return trained(self, k, w)

    def describe(self, k: Client, base: Vector) -> Moments:
        return described(k, base)

    def personalize(self, k: Client, s: Server) -> Any:
        return personal(self, k, s)

    def global_model(self, k: Client, s: Server) -> Any:
        return s.w_S


def first(fed: Fed) -> Server:
    w_S = fed.model.init(fed.key())
    return Server(w_S, Moments.none(feature_size(fed.model, w_S)))


def federated(s: Server, fed: Fed, update: Callable[..., Reply], describe: Callable[..., Moments]) -> Server:
    S = fed.sample()
    up = fed.ask(S, update, s.w_S, reduce=mean)
    base, _ = fed.model.split(up.w, 1)  # w_S <- sum_k n_k / n w_k
    source = fed.ask(up.ids, describe, base, reduce=pooled)  # C_S of the new features, from all clients' rows
    return Server(up.w, source.reply)


def trained(method: FedHealth | FedSteg, k: Client, w: Vector) -> Reply:
    w, _ = sgd(k, w, method.lr, epochs=method.epochs, batch=method.batch)
    return Reply(w, k.n.astype("float32"))


def described(k: Client, base: Vector) -> Moments:
    return moments(k, lambda rows: k.model.features(base, rows.x))


def personal(m: FedHealth | FedSteg, k: Client, s: Server) -> Vector:
    """min over the upper layers of CE + eta ||C_S - C_T||_F^2 / (4 d^2)."""
    return adapted(k, s.w_S, s.source, upper=m.upper, eta=m.eta, lr=m.ft_lr or m.lr, epochs=m.ft_epochs, batch=m.batch)
