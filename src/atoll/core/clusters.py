"""Clusters of clients: models of clusters side by side, how alike clients' updates are, and where a client belongs that the server has not placed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.client import Client


def one(theta: Any, j: Any) -> Any:
    """Number j of models side by side, [k, ...] -> [...]; an array j [m] gives m of them, [m, ...]."""
    return jax.tree.map(lambda leaf: leaf[j], theta)


def side_by_side(models: list[Any]) -> Any:
    """Models as one tree of arrays [k, ...]."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)


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
