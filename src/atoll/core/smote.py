"""SMOTE inside a client program: new rows between rows of one label, until labels are even.

Chawla, Bowyer, Hall, Kegelmeyer, "SMOTE: Synthetic Minority Over-sampling Technique", JAIR 16, 2002.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from atoll.core.balance import filled, label_counts
from atoll.core.client import Client
from atoll.core.rows import Batch


def encoded(k: Client, encode: Callable[[Batch], Array]) -> Client:
    """k with `encode(batch)` [batch, ...] in place of its rows' x, computed once and stored."""
    z, y = k.map(lambda rows: (encode(rows), rows.y))
    return k.on(k.train.instead(lambda at: (z[at], y[at]), k.n, k.train.room))


def smote(k: Client, key: Array, neighbours: int = 5) -> Client:
    """k with made rows until labels are even: each x_i + u (x_j - x_i), with a random row i of the label, j one of the `neighbours` rows of that label which
    are nearest to it, and u uniform from 0 to 1.

    A label of which there is one row is left alone: there is nothing to draw between.
    """
    x, y = k.map(lambda rows: (rows.x.reshape(len(rows.y), -1), rows.y))
    room = len(y)
    there = jnp.arange(room) < k.n
    y = jnp.where(there, y, k.outputs)
    squares = jnp.sum(x * x, axis=1)

    def nearest(rows: Batch) -> Array:
        """Numbers [batch, neighbours] of the nearest other rows of the same label, nearest first; what is beyond their number means nothing."""
        i = rows.x[:, 0]
        distance = squares - 2 * x[i] @ x.T  # squared, less what is the same for all of a row
        able = (y == y[i][:, None]) & (jnp.arange(room) != i[:, None])
        return jax.lax.top_k(jnp.where(able, -distance, -jnp.inf), min(neighbours, room))[1]

    near = k.train.instead(lambda at: (at[:, None], y[at]), k.n, room).map(nearest)
    counts = label_counts(k)
    order, starts = jnp.argsort(y), jnp.cumsum(counts) - counts  # rows by label, and where each label begins

    def make(number: Array, label: Array) -> Array:
        u = jax.vmap(lambda n: jax.random.uniform(jax.random.fold_in(key, n), (3,)))(number)
        n = counts[label]
        i = order[starts[label] + jnp.floor(u[:, 0] * n).astype(jnp.int32)]
        j = near[i, jnp.floor(u[:, 1] * jnp.minimum(neighbours, n - 1)).astype(jnp.int32)]
        made = x[i] + u[:, 2:] * (x[j] - x[i])
        return made.reshape(len(made), *shape)

    shape = jax.eval_shape(lambda: k.draw(1, k.key).x).shape[1:]
    return filled(k, make, counts > 1)
