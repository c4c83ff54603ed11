"""FedGroup."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.clusters import Mine, cosines_with, count, decomposed, gram, in_clusters, k_means, means, one, placed, placed_first, table, trained
from atoll.core.federation import Fed
from atoll.core.fold import GroupMean
from atoll.core.keys import host_generator
from atoll.core.local import sgd
from atoll.core.method import hyper, method


class Server(NamedTuple):
    """The server's state."""

    w0: Vector  # the model from which all clients are pre-trained
    w: Vector  # [groups, ...]
    direction: Vector  # [groups, ...] parameters, mean pre-training update of the clients with which each group began
    group: np.ndarray  # int32 [n]; -1: not pre-trained yet


class Update(NamedTuple):
    dW: Vector  # of pre-training


class Reply(NamedTuple):
    w: Vector  # the client's model after local training
    group: Array  # int32
    weight: Array  # n_i


@method
class FedGroup:
    """FedGroup: clients are put into groups by the direction in which a short pre-training takes them, and each group trains a model of its own.

    Updates are compared by their cosines with the few main directions of all of them (the Euclidean distance of decomposed cosines, EDC), not with each other.

    Duan, Liu, Ji, Liu, Liang, Chen, Tan, "FedGroup: Efficient Clustered Federated Learning via Decomposed Data-Driven Measure", ISPA 2021.

    Kept: server a model and a direction per group, and the model of pre-training; clients nothing.
    Traffic per round and client: its group's model and number down; model, number and n_i up. Once, when it is first asked, w0 down and its pre-training up.
    Identity: g=1 with eta_G=0 is FedAvg from the mean of the pre-trained models; g orthogonal directions and a little noise give g groups; the EDC does not
    depend on the signs of the directions.
    Departures from the paper: (1) Between groups the authors' code is followed, which divides by 1 + eta_G sum_{l != j} 1 / ||w_l||; the paper's formula adds
    and does not divide. (2) A client that is not reached at the start is pre-trained when it is first asked, from the same w0, as newcomers are; an unseen
    client does so before it predicts. (3) Only parameters count in cosines and norms, not BatchNorm statistics. (4) FedProx in the groups (FedGrouProx) is
    Clustered(FedProx()). Groups are fixed, as in the paper. lr, E, batch, pre-training of 50 batches and g are the authors' code's for MNIST, eta_G that of
    its first version.
    """

    lr: float = hyper(0.03, gt=0)
    epochs: int = hyper(10, ge=1)  # E
    batch: int = hyper(10, ge=0)  # B; 0 = all rows of the client
    g: int = hyper(3, ge=1, search=[2, 3, 5])  # groups
    alpha: int = hyper(20, ge=1)  # alpha g clients are pre-trained at the start, or all if they are fewer
    pretrain_steps: int = hyper(50, ge=1)
    eta_G: float = hyper(0.01, ge=0)  # how much groups' models mix

    def init(self, fed: Fed) -> Server:
        w0 = fed.model.init(fed.key())
        random = host_generator(fed.seed, "pretrain", 0)
        S = np.sort(random.choice(fed.n, min(self.alpha * self.g, fed.n), replace=False))  # alpha g random clients
        up = fed.ask(S, self.pretrain, w0)  # dW_i <- pre-training from w0
        E = decomposed(gram(fed.model.parameters(up.dW)), self.g)  # E_ij <- cos(dW_i, V_j), V the first g singular directions; EDC(i, k) = 1/g ||E_i - E_k||
        label = k_means(E, self.g, int(random.integers(1 << 31)))
        w = jax.tree.map(lambda a, b: a + b, w0, means(up.dW, label))  # a group begins with the mean of its clients' models
        return Server(w0, w, fed.model.parameters(means(up.dW, label)), table(fed.n, up.ids, label))

    def round(self, s: Server, fed: Fed) -> Server:
        group, S = placed_first(fed, fed.sample(), s.group, self.pretrain, s.w0, lambda up: self._nearest(s, fed.model.parameters(up.dW)))
        up = fed.ask(S, self.update, each=in_clusters(s.w, group[S]), reduce=GroupMean(count(s.w)))
        w = trained(s.w, up.w, up.weight)  # w~_j <- sum_i n_i / n w_i over the group's clients
        return s._replace(w=between(w, fed.model.parameters(w), self.eta_G), group=group)

    def pretrain(self, i: Client, w0: Vector) -> Update:
        return Update(sgd(i, w0, self.lr, steps=self.pretrain_steps, batch=self.batch)[0] - w0)

    def update(self, i: Client, _: None, mine: Mine) -> Reply:
        w, _steps = sgd(i, mine.theta, self.lr, epochs=self.epochs, batch=self.batch)
        return Reply(w, mine.group, i.n.astype("float32"))

    def personalize(self, i: Client, s: Server) -> Any:
        return one(s.w, self.cluster(i, s))

    def cluster(self, i: Client, s: Server) -> Array:
        return placed(i, s.group, lambda: self._nearest(s, i.model.parameters(self.pretrain(i, s.w0).dW)))

    def _nearest(self, s: Server, dW: Vector) -> Array:
        return jnp.argmin((1 - cosines_with(s.direction, dW)) / 2)  # the group with the smallest normalised cosine dissimilarity


def between(w: Vector, parameters: Vector, eta: float) -> Vector:
    """Inter-group aggregation: w_j <- (w~_j + eta sum_{l != j} w~_l / ||w~_l||) / (1 + eta sum_{l != j} 1 / ||w~_l||)."""
    if not eta:
        return w
    squares = jax.tree.reduce(jnp.add, jax.tree.map(lambda leaf: jnp.square(leaf).sum(axis=tuple(range(1, leaf.ndim))), parameters))
    share = jnp.broadcast_to(eta / jnp.sqrt(squares), (len(squares),) * 2)
    share = jnp.where(jnp.eye(len(squares), dtype=bool), 1, share)
    share /= share.sum(axis=1, keepdims=True)
    return jax.tree.map(lambda leaf: jnp.tensordot(share, leaf, axes=1), w)
