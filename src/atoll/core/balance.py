"""Even labels: how often rows of each label should be there, clients with rows so often or with made ones, and clients that complete each other."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from atoll.core.client import Client
from atoll.core.rows import Change


def label_counts(k: Client) -> Array:
    """int32 [L], k's train rows of each label."""
    return k.train.sum(lambda rows: jnp.zeros(k.outputs, jnp.int32).at[rows.y].add(rows.mask.astype(jnp.int32)))


def resampled(k: Client, R: Array, change: Change) -> Client:  # noqa: N803 - Astraea's letter
    """k with R_y - 1 copies of a row of label y on average where R_y (float32 [L]) > 1, and with the row with probability R_y where it is below.

    Copies are made by `change`; see Rows.repeated. Who is there how often is drawn once, and is the same in all rounds.
    """
    i = jnp.arange(k.train.room)
    y = k.train.take(jnp.minimum(i, k.n - 1)).y
    u = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(k.lasting_key(0), i)))(i)  # row by row, so that more room changes nothing
    return k.with_repeated(jnp.floor(R[y] + u).astype(jnp.int32), change)


def filled(k: Client, make: Callable[[Array, Array], Array], known: Array) -> Client:
    """k with rows that `make(number [batch], y [batch])` makes, until every label that `known` (bool [L]) marks is as frequent as its most frequent one.

    Made rows are numbered from 0. Nothing is stored: a row is made anew whenever it is taken.
    """
    counts = label_counts(k)
    ends = jnp.cumsum(jnp.where(known, counts.max() - counts, 0))  # where the made rows of each label end

    def rows(at: Array) -> tuple[Array, Array]:
        y = jnp.searchsorted(ends, at, side="right").clip(max=k.outputs - 1).astype(jnp.int32)
        return make(at, y), y

    return k.on(k.train.with_made(rows, ends[-1], (k.outputs - 1) * (k.train.room or 0)))


def some_of(k: Client, labels: Array, size: int, key: Array) -> tuple[Array, Array]:
    """(numbers [q, size], real [q, size]) of up to `size` random rows of each of these labels (int32 [q]); where there are fewer the rest is not real."""
    i = jnp.arange(max(k.train.room or 0, size))
    y = k.train.take(jnp.clip(i, 0, k.n - 1)).y
    u = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i)))(i)  # row by row, so that more room changes nothing
    order = jnp.where((i < k.n) & (y == labels[:, None]), u, 2.0)
    numbers = jnp.argsort(order, axis=1)[:, :size].astype(jnp.int32)
    return numbers, jnp.take_along_axis(order, numbers, axis=1) < 2


def ratios(C: np.ndarray, T_a: float, T_d: float) -> np.ndarray:  # noqa: N803 - Astraea's letters
    """R_y [L] from counts C_y, with mean m, deviation s and z_y = (C_y - m) / s: labels with z < T_a < 0 get m - s sqrt(z T_a) rows, those with z > T_d > 0
    get m + s sqrt(z T_d), so that the new z is the geometric mean of the old one and the threshold. 1 for all others and for labels without rows."""
    m, s = C.mean(), C.std()
    z = (C - m) / s if s > 0 else np.zeros(len(C))
    few, many = m - s * np.sqrt(np.maximum(z * T_a, 0)), m + s * np.sqrt(np.maximum(z * T_d, 0))
    return np.where(C > 0, np.where(z < T_a, few, np.where(z > T_d, many, C)) / np.maximum(C, 1), 1.0)


def complementary(counts: np.ndarray, gamma: int) -> list[list[int]]:
    """Rows of `counts` [c, L] in groups of `gamma`: greedily, each time the row with which the group's label distribution is nearest to uniform."""
    left, groups = list(range(len(counts))), []
    while left:
        group: list[int] = []
        while left and len(group) < gamma:
            group.append(left.pop(int(np.argmin(divergence(counts[group].sum(axis=0) + counts[left])))))
        groups.append(group)
    return groups


def divergence(counts: np.ndarray) -> np.ndarray:
    """KL(P || uniform) of the label distributions P of counts [..., L]."""
    P = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)  # noqa: N806
    return (P * np.log(np.where(P > 0, P * counts.shape[-1], 1))).sum(axis=-1)
