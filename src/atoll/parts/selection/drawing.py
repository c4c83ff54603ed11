"""What selectors that prefer some clients have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from atoll.core.errors import AtollError


def check_size(selector: Any) -> None:
    """AtollError where a selector is not told how many clients to choose: with all of them there is nothing to prefer."""
    n = selector.per_round
    if n is None or n < 1:
        raise AtollError(f"{type(selector).__name__} prefers some clients to others and must be told how many a round asks: per_round={n}. Give --per-round.")


def draw(random: np.random.Generator, among: np.ndarray, size: int, probability: np.ndarray | None = None) -> np.ndarray:
    """`size` distinct ones of `among` (all where there are fewer), sorted; `probability` [len(among)] need not sum to 1, and zeros come last."""
    if size >= len(among):
        return np.sort(among)
    if probability is None:
        return np.sort(random.choice(among, size, replace=False))
    score = np.log(np.maximum(probability, 1e-300)) + random.gumbel(size=len(among))  # the largest are a draw without replacement
    return np.sort(among[np.argsort(-score, kind="stable")[:size]])


def softmax(value: np.ndarray) -> np.ndarray:
    e = np.exp(value - value.max())
    return e / e.sum()
