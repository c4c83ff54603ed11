"""Clusters of clients: models of clusters side by side, how alike clients' updates are, and where a client belongs that the server has not placed."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.cluster.hierarchy
from jax import Array
from scipy.spatial.distance import pdist, squareform
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.federation import Fed, NobodyAnswered

STARTS: Any = 10  # of k-means
ROUNDING = 1e-6  # relative, of what was float32


def one(theta: Any, j: Any) -> Any:
    """Number j of models side by side, [k, ...] -> [...]; an array j [m] gives m of them, [m, ...]."""
    return jax.tree.map(lambda leaf: leaf[j], theta)


def side_by_side(models: list[Any]) -> Any:
    """Models as one tree of arrays [k, ...]."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)


def alike(w: Any, k: int) -> Any:
    """The same model k times side by side."""
    return jax.tree.map(lambda leaf: jnp.repeat(leaf[None], k, axis=0), w)


def count(theta: Any) -> int:
    """How many models lie side by side."""
    return len(jax.tree.leaves(theta)[0])


def per_model(share: Array, like: Array) -> Array:
    """share [k], with axes of length 1 added to go with `like` [k, ...]."""
    return share.reshape((-1,) + (1,) * (like.ndim - 1))


def gram(ws: Vector) -> np.ndarray:
    """[m, m] float64: <w_i, w_j> of ws [m, ...]. Lengths, cosines and the length of any mean follow from it."""
    leaves = [np.asarray(leaf, np.float64).reshape(len(leaf), -1) for leaf in jax.tree.leaves(ws)]
    return sum((leaf @ leaf.T for leaf in leaves), np.zeros((len(leaves[0]),) * 2))


def cosines(products: np.ndarray) -> np.ndarray:
    """[m, m] cosines of the angles, from a Gram matrix; 0 with a vector that is 0."""
    length = np.sqrt(np.diag(products))
    return products / np.maximum(length[:, None] * length, np.finfo(float).tiny)


def cosines_with(ws: Vector, v: Vector) -> Array:
    """[m] cosines of the angles between each of ws [m, ...] and v."""
    products = jax.tree.reduce(jnp.add, jax.tree.map(lambda all, one: jnp.tensordot(all, one, axes=one.ndim), ws, v))
    squares = jax.tree.reduce(jnp.add, jax.tree.map(lambda all: jnp.square(all).sum(axis=tuple(range(1, all.ndim))), ws))
    return products / jnp.maximum(jnp.sqrt(squares * (v @ v)), jnp.finfo(jnp.float32).tiny)


def placed(k: Client, cluster: Any, find: Callable[[], Array]) -> Array:
    """The number (int32) of k's cluster: as the server has it in `cluster` int32 [n]; where k is none of its n clients, or has -1, as `find()` says."""
    known = in_table(k, cluster, -1)
    return k.once("cluster", lambda: k.repeat(lambda _t, _j: find().astype(jnp.int32), known, jnp.where(known < 0, 1, 0))[0])


def in_table(k: Client, table: Any, otherwise: int) -> Array:
    """k's entry (int32) in a table [n] of the server's clients; `otherwise` for a client that is none of them."""
    n = len(table)
    return jnp.where(k.id < n, jnp.asarray(table)[jnp.minimum(k.id, n - 1)], otherwise).astype(jnp.int32)


def distances(ws: Vector, metric: str) -> np.ndarray:
    """Distances of all pairs of ws [m, ...], float64 [m (m - 1) / 2] in SciPy's order. metric: "l1", "l2" or "cosine" (1 - cosine of the angle)."""
    if metric == "cosine":
        return squareform(np.maximum(1 - cosines(gram(ws)), 0), checks=False)
    leaves = [np.asarray(leaf, np.float64).reshape(len(leaf), -1) for leaf in jax.tree.leaves(ws)]
    total = sum(pdist(leaf, "cityblock" if metric == "l1" else "sqeuclidean") for leaf in leaves)
    return np.asarray(total if metric == "l1" else np.sqrt(total))


def distances_to(ws: Vector, v: Vector, metric: str) -> Array:
    """[m] distances between each of ws [m, ...] and v, as in `distances`."""
    if metric == "cosine":
        return 1 - cosines_with(ws, v)
    size = jnp.abs if metric == "l1" else jnp.square
    parts = jax.tree.map(lambda all, one: size(all - one).sum(axis=tuple(range(1, all.ndim))), ws, v)
    total = jax.tree.reduce(jnp.add, parts)
    return total if metric == "l1" else jnp.sqrt(total)


def hierarchy(d: np.ndarray, linkage: str, threshold: float | None = None, *, k: int = 1) -> np.ndarray:
    """int32 [m], the cluster of each: whatever lies within `threshold` under the linkage is merged; or the nearest, until k are left.

    d: as from `distances`; no pair: one alone. Distances that are no numbers tell nobody apart.
    """
    m = (1 + round(np.sqrt(1 + 8 * len(d)))) // 2
    if m == 1 or not np.isfinite(d).all():
        return np.zeros(m, np.int32)
    merged = scipy.cluster.hierarchy.linkage(d, linkage)
    if threshold is None:
        return numbered(scipy.cluster.hierarchy.cut_tree(merged, min(k, m))[:, 0])
    return numbered(scipy.cluster.hierarchy.fcluster(merged, threshold, "distance"))


def in_mean_distances(threshold: float, d: np.ndarray) -> float:
    """A threshold that counts in the mean of the distances d of all pairs; where there is no pair it stays what it is."""
    return threshold * max(d.mean(), np.finfo(float).tiny) if len(d) else threshold


def table(n: int, ids: np.ndarray, label: np.ndarray) -> np.ndarray:
    """int32 [n], the clusters `label` of the clients `ids`, -1 for all others."""
    cluster = np.full(n, -1, np.int32)
    cluster[ids] = label
    return cluster


def numbered(labels: np.ndarray) -> np.ndarray:
    """int32 labels 0, 1, ... in the order of their first members."""
    _, first, label = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first)).astype(np.int32)[label]


def means(ws: Any, label: np.ndarray) -> Any:
    """[k, ...] the mean of ws [m, ...] over the members of each of the clusters 0..k-1."""
    share = jnp.asarray((label == np.arange(label.max() + 1)[:, None]) / np.bincount(label)[:, None], jnp.float32)
    return jax.tree.map(lambda leaf: jnp.tensordot(share, leaf, axes=1), ws)


def placed_first(
    fed: Fed, clients: np.ndarray, cluster: np.ndarray, program: Callable[..., Any], shared: Any, find: Callable[[Any], Array]
) -> tuple[np.ndarray, np.ndarray]:
    """Asks those of `clients` that have no cluster yet (-1 in `cluster` [n]) to run `program`; `find(reply)` says which is theirs.

    Returns (cluster, those of `clients` that have one); NobodyAnswered where there are none.
    """
    new = clients[cluster[clients] < 0]
    if len(new):
        with contextlib.suppress(NobodyAnswered):  # others may have theirs already
            up = fed.ask(new, program, shared)
            cluster = cluster.copy()
            cluster[up.ids] = [int(find(one(up.reply, j))) for j in range(len(up.ids))]
    clients = clients[cluster[clients] >= 0]
    if not len(clients):
        raise NobodyAnswered
    return cluster, clients


class Found(NamedTuple):
    """Clusters found by the updates of clients from one model."""

    w: Vector  # that model
    centre: Vector  # [clusters, ...] parameters of the mean update of each cluster's clients


def nearest(found: Found, dw: Vector, metric: str) -> Array:
    """The number (int32) of the cluster whose mean update is nearest to dw (parameters)."""
    return jnp.argmin(distances_to(found.centre, dw, metric))


class Mine(NamedTuple):
    """What a client of a cluster is sent."""

    theta: Vector  # its cluster's model
    group: Any  # int32, which cluster that is


def in_clusters(theta: Vector, cluster: np.ndarray) -> Mine:
    """[m, ...] messages to clients of these clusters."""
    return Mine(one(theta, cluster), jnp.asarray(cluster, jnp.int32))


def trained(old: Vector, new: Vector, weight: Any) -> Vector:
    """The models [k, ...] after a round: `new` where a cluster had answers (weight [k] > 0), `old` elsewhere."""
    return jax.tree.map(lambda a, b: jnp.where(per_model(jnp.asarray(weight), a) > 0, b, a), old, new)


def points(products: np.ndarray) -> np.ndarray:
    """[m, m] coordinates of vectors along their principal directions (not centred), the longest first, from a Gram matrix: w_i = sum_j points[i, j] v_j."""
    values, vectors = np.linalg.eigh(products)
    values = np.where(values > len(values) * np.finfo(float).eps * values.max(), values, 0)  # the rest is rounding
    return (vectors * np.sqrt(values))[:, ::-1]


def decomposed(products: np.ndarray, g: int) -> np.ndarray:
    """[m, g] cosines of vectors with the first g left singular vectors of the matrix that has them as columns, from their Gram matrix."""
    return points(products)[:, :g] / np.sqrt(np.maximum(np.diag(products), np.finfo(float).tiny))[:, None]


def k_means(x: np.ndarray, k: int, seed: int) -> np.ndarray:
    """int32 [m], the cluster of each row of x [m, d], the best of ten starts by k-means++; fewer than k where there are not so many different rows.

    Numbers that are not finite tell nobody apart, nor do differences of rounding.
    """
    if not np.isfinite(x).all() or np.abs(x - x.mean(axis=0)).max() <= ROUNDING * np.abs(x).max():
        return np.zeros(len(x), np.int32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal rows
        return numbered(np.asarray(KMeans(min(k, len(x)), n_init=STARTS, random_state=seed).fit(x).labels_))
