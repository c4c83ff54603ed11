"""The models of all clients side by side at the server: how far apart they are, and mixtures of them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.clusters import alike
from atoll.core.federation import Fed


class Cloud(NamedTuple):
    W: Vector  # [n, ...] the model w_i that each client uploaded last; the common first model where it has not yet
    known: Array  # [n] bool, has the client uploaded one?


def first_models(fed: Fed) -> Cloud:
    """The common first model for every client."""
    return Cloud(alike(fed.model.init(fed.key()), fed.n), jnp.zeros(fed.n, bool))


def received(s: Cloud, ids: np.ndarray, w: Vector) -> Cloud:
    """The models w [cohort, ...] of `ids` take the places of their last ones."""
    return Cloud(jax.tree.map(lambda all, new: all.at[ids].set(new), s.W, w), s.known.at[ids].set(True))


def pairs(known: Array) -> Array:
    """[n, n] bool: i != j and both have uploaded a model."""
    return known[:, None] & known & ~jnp.eye(len(known), dtype=bool)


@jax.jit
def squared_distances(models: Vector) -> Array:
    """[n, n] ||w_i - w_j||^2 of models [n, ...]; exactly 0 for equal ones, which ||w_i||^2 + ||w_j||^2 - 2 <w_i, w_j> is not."""
    return jax.lax.map(lambda w: sum_rows(jax.tree.map(lambda all, one: jnp.square(all - one), models, w)), models)


@jax.jit
def cosines(models: Vector) -> Array:
    """[n, n] cosine of the angle between w_i and w_j."""
    products = jax.lax.map(lambda w: sum_rows(jax.tree.map(lambda all, one: all * one, models, w)), models)
    length = jnp.sqrt(jnp.diag(products))
    return products / jnp.maximum(length[:, None] * length, jnp.finfo(jnp.float32).tiny)


def sum_rows(models: Vector) -> Array:
    """[n] the sum of all entries of each model."""
    return jax.tree.reduce(jnp.add, jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0], -1).sum(axis=1), models))


@jax.jit
def mix(xi: Array, models: Vector) -> Vector:
    """[cohort, ...] the sums over j of xi[i, j] w_j."""
    return jax.tree.map(lambda leaf: jnp.tensordot(xi, leaf, axes=1), models)
