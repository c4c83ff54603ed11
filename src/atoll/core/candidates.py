"""Which of several models fits a client best, and rows that it keeps apart to find out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.keys import shuffle
from atoll.core.local import masked_mean, row_losses
from atoll.core.method import label
from atoll.core.rows import Batch


def losses(k: Client, models: Sequence[Vector]) -> Array:
    """[models] mean loss of each on k's train rows, in evaluation mode."""

    def loss(w: Vector, rows: Batch) -> Array:
        return masked_mean(row_losses(k.model.task, k.model.apply(w, rows.x), rows.y), rows.mask)

    return k.mean(lambda rows: jnp.stack([loss(w, rows) for w in models]))


def smallest(losses: Array) -> Array:
    """The number (int32) of the smallest loss, the first of equal ones. A model that blew up is nobody's choice while there is another."""
    return jnp.argmin(jnp.where(jnp.isnan(losses), jnp.inf, losses)).astype(jnp.int32)


def kept_apart(k: Client, share: float) -> tuple[Client, Client]:
    """(k with the rest of its train rows, k with `share` of them, one at least): drawn once, the same in all rounds. A single row is in both."""
    n = jnp.clip(jnp.floor(share * k.n).astype(jnp.int32), 1, jnp.maximum(k.n - 1, 1))

    def make(at: Array) -> tuple[Array, Array]:
        rows = k.train.take(shuffle(at % k.n, k.n, k.lasting_key(0)))
        return rows.x, rows.y

    rest = k.train.instead(lambda at: make(at + n), jnp.maximum(k.n - n, 1), k.train.room)
    return k.on(rest), k.on(k.train.instead(make, n, k.train.room))


def mixtures(lowest: float, highest: float, parts: int) -> np.ndarray:
    """float32 [parts + 1] evenly spaced shares from lowest to highest; one where these are equal."""
    return np.unique(np.linspace(lowest, highest, parts + 1).astype(np.float32))


def check_mixtures(m: Any) -> None:
    """AtollError where a method's `lowest` share is above its `highest`."""
    if m.lowest > m.highest:
        raise AtollError(f"{label(m)}(lowest={m.lowest:g}, highest={m.highest:g}): shares are tried from lowest to highest. Exchange them.")
