"""FL+HC."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.clusters import (
    Found,
    Mine,
    alike,
    count,
    distances,
    hierarchy,
    in_clusters,
    in_mean_distances,
    means,
    nearest,
    one,
    placed,
    placed_first,
    table,
    trained,
)  # fmt: skip
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.fold import GroupMean
from atoll.core.local import sgd
from atoll.core.method import hyper, method


class Server(NamedTuple):
    """The server's state."""

    w: Vector  # [clusters, ...]
    cluster: np.ndarray  # int32 [n]; -1: the client has not been reached since the others were clustered
    found: Found | None  # None: all are in one cluster still


class Update(NamedTuple):
    dw: Vector  # parameters


class Reply(NamedTuple):
    w: Vector  # the client's model after local training
    group: Array  # int32, its cluster
    weight: Array  # n_k


@method
class FLHC:
    """FL with hierarchical clustering: some rounds of FedAvg, then clients with similar updates are put together, and each cluster goes on by itself.

    Briggs, Fan, Andras, "Federated learning with hierarchical clustering of local updates to improve training on non-IID data", IJCNN 2020.

    Kept: server a model per cluster, the common model and the clusters' mean updates of the clustering; clients nothing.
    Traffic per round and client: its cluster's model and number down; model, number and n_k up. In the round of clustering (after n others) the model down and
    an update up, from all clients; that round's updates serve the clustering only.
    Identity: threshold=inf is FedAvg with one round left out; threshold=0 is training alone from the common model.
    Departures from the paper: (1) With relative=True the threshold counts in the mean distance of all pairs, since distances grow with rate, epochs and the
    size of the model; some pairs are always farther apart than the mean, so that clients which are all alike are parted too. (2) A client that is not reached
    in the round of clustering, or has never been, sends an update from that round's common model when it is next asked, and joins the cluster whose mean
    update is nearest to it in the same metric. An unseen client chooses so by itself before it predicts. The paper does not say. (3) Only parameters count in
    distances, not BatchNorm statistics. Clustering after ten rounds by L1 distance is the paper's advice where the kind of skew is not known; linkage,
    threshold, and the rest of the defaults are ours.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(3, ge=1)  # E
    batch: int = hyper(20, ge=0)  # B; 0 = all rows of the client
    n: int = hyper(10, ge=0, search=[5, 10, 20])  # rounds before the clustering
    metric: str = hyper("l1", choices=("l1", "l2", "cosine"))
    linkage: str = hyper("complete", choices=("single", "complete", "average", "ward"))
    threshold: float = hyper(1.0, ge=0, search=(0.5, 1.5))  # T; clusters farther apart are not merged
    relative: bool = hyper(True)  # T counts in the mean distance of all pairs

    label = "FL+HC"

    def check(self) -> None:
        if self.linkage == "ward" and self.metric != "l2":
            raise AtollError(f"FLHC(metric={self.metric!r}, linkage='ward'): Ward's linkage is defined for L2 distances only. Take metric='l2'.")

    def init(self, fed: Fed) -> Server:
        w = jax.tree.map(lambda leaf: leaf[None], fed.model.init(fed.key()))
        return Server(w, np.zeros(fed.n, np.int32), None)

    def round(self, s: Server, fed: Fed) -> Server:
        if s.found is None and fed.round > self.n:
            return self._clustered(one(s.w, 0), fed)
        S = fed.sample()
        if s.found is not None:
            found = s.found
            cluster, S = placed_first(fed, S, s.cluster, self.fine_tune, found.w, lambda up: nearest(found, up.dw, self.metric))
            s = s._replace(cluster=cluster)
        up = fed.ask(S, self.update, each=in_clusters(s.w, s.cluster[S]), reduce=GroupMean(count(s.w)))
        return s._replace(w=trained(s.w, up.w, up.weight))  # in every cluster c: w_c <- sum_k n_k / n_c w_k

    def _clustered(self, w: Vector, fed: Fed) -> Server:
        up = fed.ask(fed.everyone(), self.fine_tune, w)  # all clients k: dw_k <- ClientUpdate(k, w) - w
        d = distances(up.dw, self.metric)
        T = in_mean_distances(self.threshold, d) if self.relative else self.threshold
        label = hierarchy(d, self.linkage, T)  # merge clusters until none are within T
        theta = alike(w, label.max() + 1)  # each cluster starts from w
        return Server(theta, table(fed.n, up.ids, label), Found(w, means(up.dw, label)))

    def fine_tune(self, k: Client, w: Vector) -> Update:
        return Update(k.model.parameters(self._train(k, w) - w))

    def update(self, k: Client, _: None, mine: Mine) -> Reply:
        return Reply(self._train(k, mine.theta), mine.group, k.n.astype("float32"))

    def personalize(self, k: Client, s: Server) -> Any:
        return one(s.w, self.cluster(k, s))

    def cluster(self, k: Client, s: Server) -> Array:
        if s.found is None:
            return jnp.int32(0)
        found = s.found
        return placed(k, s.cluster, lambda: nearest(found, self.fine_tune(k, found.w).dw, self.metric))

    def _train(self, k: Client, w: Vector) -> Vector:
        return sgd(k, w, self.lr, epochs=self.epochs, batch=self.batch)[0]
