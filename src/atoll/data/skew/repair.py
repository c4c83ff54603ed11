"""Fills clients up that a partition left with too few rows."""

from __future__ import annotations

import numpy as np


def fill_up(owner: np.ndarray, clients: int, least: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Moves random rows from the largest clients until every client has `least` (<= rows // clients).

    owner: int [rows]. Returns the new owners and how many rows moved. It comes to the same as taking one row after another from
    whoever is largest, without the loop: all clients above a certain level are cut down to it.
    """
    size = np.bincount(owner, minlength=clients)
    missing = np.maximum(least - size, 0)
    need = int(missing.sum())
    if not need:
        return owner, 0
    give = _above(size, _level(size, need, least))
    # At the highest level that frees enough rows a few too many come free: some of the givers keep one.
    givers = rng.permutation(np.flatnonzero(give))
    give[givers[: give.sum() - need]] -= 1
    order = rng.permutation(len(owner))
    order = order[np.argsort(owner[order], kind="stable")]
    rank = np.arange(len(owner)) - (np.cumsum(size) - size)[owner[order]]
    moving = order[rank < give[owner[order]]]
    owner = owner.copy()
    owner[rng.permutation(moving)] = np.repeat(np.arange(clients), missing)
    return owner, need


def _above(size: np.ndarray, level: int) -> np.ndarray:
    return np.maximum(size - level, 0)


def _level(size: np.ndarray, need: int, least: int) -> int:
    """The highest level, at least `least`, such that the rows above it number `need` or more (bisection)."""
    low, high = least, int(size.max())
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _above(size, middle).sum() >= need else (low, middle - 1)
    return low
