"""Training inside clusters of clients, for any method: clients that learn alike are put together, and each cluster trains by itself."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.clusters import Found, distances, hierarchy, in_mean_distances, means, nearest, one, placed, placed_first, side_by_side, table
from atoll.core.errors import AtollError
from atoll.core.federation import Fed, NobodyAnswered
from atoll.core.local import sgd
from atoll.core.method import hyper, hyperparameters, shown, stateless, welcome
from atoll.parts.around import Around, Wrapping, completed, passed_on, title_of

WITH_ITS_OWN = ("personalize", "global_model", "before")  # what is given the method's own shared value, of the client's cluster


class Server(NamedTuple):
    """The server's state."""

    inner: tuple[Any, ...]  # the method's, of each cluster; of one before the first round
    cluster: np.ndarray  # int32 [n]; -1: the client has not been reached yet
    found: Found | None


class Shown(NamedTuple):
    """What clients may see."""

    inner: Any  # [clusters, ...] what the method shows in each
    cluster: Any
    found: Found | None


class Update(NamedTuple):
    dw: Vector  # parameters


def Clustered(  # noqa: N802 - it makes a method, and reads like one
    inner: Any, k: int | None = None, *, threshold: float | None = None, metric: str | None = None, linkage: str | None = None, **pretraining: Any
) -> Any:
    """The method `inner` (an instance), trained in each of `k` clusters of clients by itself.

    threshold: instead of k, clusters farther apart than so many mean distances of all pairs of clients stay apart. metric, linkage: between clients' updates,
    and of the hierarchy. pretraining: lr, epochs and batch of the updates that tell clients apart.

    The result is a method like any other; its hyperparameters are those of `inner` and cluster_k, cluster_threshold, cluster_metric, ... On the command line
    it is --method fedper+clustered --set fedper+clustered.cluster_k=4.
    """
    asked = {"k": k, "threshold": threshold, "metric": metric, "linkage": linkage, **pretraining}
    return clustered(type(inner))(**hyperparameters(inner), **{f"cluster_{name}": value for name, value in asked.items() if value is not None})


@functools.cache
def clustered(kind: type[Any]) -> type[Any]:
    """The class of a method's class in clusters: the same hyperparameters and cluster_k, cluster_threshold, ..."""
    title = title_of(kind)
    if hasattr(kind, "cluster"):
        raise AtollError(f"{title} finds clusters by itself: leave the wrapper out.")
    if any(f.name.startswith("cluster_") for f in dataclasses.fields(kind)):
        raise AtollError(f"{title} has hyperparameters of clusters already: leave the wrapper out.")

    class InClusters(Wrapping):
        around = Around(kind, "clustered")
        label = f"{title}+clusters"
        many_architectures = False  # updates are compared

        def init(self, fed: Fed) -> Server:
            return Server((self.inner.init(fed),), np.zeros(fed.n, np.int32), None)

        def share(self, s: Server) -> Shown:
            return Shown(_stacked(self.label, [shown(self.inner, state) for state in s.inner]), s.cluster, s.found)

        def round(self, s: Server, fed: Fed) -> Server:
            if s.found is None:
                s = self._clustered(s, fed)
            assert s.found is not None
            found = s.found
            cluster, chosen = placed_first(fed, fed.sample(), s.cluster, self.pretrain, found.w, lambda up: nearest(found, up.dw, self.cluster_metric))
            states, start, end, trained = list(s.inner), fed.traffic.clock, fed.traffic.clock, False
            for c in np.unique(cluster[chosen]):
                state = states[c]
                fed.traffic.clock = start  # clusters train at the same time
                try:
                    states[c] = self.inner.round(state, fed.within(np.flatnonzero(cluster == c), self.inner, shown(self.inner, state)))
                    trained = True
                except NobodyAnswered:  # of this cluster: it keeps its state
                    pass
                end = max(end, fed.traffic.clock)
            fed.traffic.clock = end
            if not trained:
                raise NobodyAnswered
            return Server(tuple(states), cluster, found)

        def _clustered(self, s: Server, fed: Fed) -> Server:
            """All clients train from a fresh model, and those whose updates point the same way are put together; all clusters begin alike."""
            w = fed.model.init(fed.key("clusters"))
            up = fed.ask(fed.everyone(), self.pretrain, w)
            d = distances(up.dw, self.cluster_metric)
            apart = in_mean_distances(self.cluster_threshold, d) if self.cluster_threshold else None
            found = hierarchy(d, self.cluster_linkage, apart, k=self.cluster_k)
            return Server(s.inner * (int(found.max()) + 1), table(fed.n, up.ids, found), Found(w, means(up.dw, found)))

        @stateless
        def pretrain(self, k: Client, w: Vector) -> Update:
            new, _ = sgd(k, w, self.cluster_lr, epochs=self.cluster_epochs, batch=self.cluster_batch)
            return Update(k.model.parameters(new - w))

        def cluster(self, k: Client, s: Shown) -> Array:
            if s.found is None:
                return jnp.int32(0)
            found = s.found
            return placed(k, s.cluster, lambda: nearest(found, self.pretrain(k, found.w).dw, self.cluster_metric))

        def _of(self, k: Client, s: Shown) -> Any:
            """What the method shows in k's cluster."""
            return one(s.inner, self.cluster(k, s))

    for given in WITH_ITS_OWN:
        if hasattr(kind, given):
            setattr(InClusters, given, _with_its_own(given))
    if hasattr(kind, "join"):
        InClusters.join = _joining  # type: ignore[attr-defined]
    if hasattr(kind, "predict"):
        InClusters.predict = passed_on("predict")  # type: ignore[attr-defined]
    more = {
        "cluster_k": ("int", hyper(4, ge=1)),  # clusters
        "cluster_threshold": ("float", hyper(0.0, ge=0)),  # in mean distances of all pairs; 0 = as many clusters as cluster_k
        "cluster_metric": ("str", hyper("cosine", choices=("l1", "l2", "cosine"))),
        "cluster_linkage": ("str", hyper("average", choices=("single", "complete", "average"))),
        "cluster_lr": ("float", hyper(0.05, gt=0)),
        "cluster_epochs": ("int", hyper(3, ge=1)),
        "cluster_batch": ("int", hyper(20, ge=0)),  # 0 = all rows of the client
    }
    return completed(InClusters, more, "Clustered", _DOC.format(title=title))


_DOC = """{title} in clusters: before the first round clients that learn alike are put together, and then each cluster trains by itself as {title} does.

    Every client trains a fresh model a little; clients whose updates are near each other (hierarchical clustering) make a cluster. A client that comes later
    does the same and joins the cluster whose mean update is nearest; an unseen one does so by itself before it predicts.

    Clustering by updates before training is that of Duan et al., "FedGroup", ISPA 2021, and the hierarchy is that of Briggs, Fan, Andras, "Federated learning
    with hierarchical clustering of local updates", IJCNN 2020; around any method it is ours. For {title}'s own paper see {title}.

    Kept: as in {title}, its server state once per cluster; at the server also who is in which cluster, the fresh model and the clusters' mean updates.
    Traffic per round and client: {title}'s. Once, when it is put into a cluster, a model down and an update up.
    Identity: cluster_k=1 is {title}, bit for bit.
    Departures from the paper: (1) Those of {title}. (2) Clusters stay as the first round finds them. (3) All clusters begin as {title} begins, and what {title}
    asks before the first round it asks of all clients together. (4) A selector that compares models sees those of one cluster only. The defaults are ours.
    """


def _stacked(title: str, shown: list[Any]) -> Any:
    try:
        return side_by_side(shown)
    except (ValueError, TypeError):
        raise AtollError(f"{title}: what the method shows its clients has another form in each cluster, so that it can't be kept side by side.") from None


def _with_its_own(name: str) -> Any:
    def call(self: Any, k: Client, shared: Shown) -> Any:
        return getattr(self.inner, name)(k, self._of(k, shared))

    call.__name__ = name
    return call


def _joining(self: Any, k: Client, shared: Shown) -> Any:
    return self.inner.join(k, welcome(self.inner, self._of(k, shared)))
