"""A number about how clients differ, what it would be if they differed by chance alone, and a word.

A word is "none" where the number is within SIGMAS standard deviations of what chance gives, or hardly beyond.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

SHUFFLES = 20  # draws from which chance is worked out
SIGMAS = 3.0


class Measure(NamedTuple):
    """One number about how clients differ."""

    kind: str  # quantity, labels, features, preference, attack, or temporal
    key: str  # gini
    name: str  # "Gini of sizes"
    value: float | None  # None: it can't be measured here
    chance: float | None  # its mean if clients differed by chance alone; None where it is 0 by itself
    limit: float | None  # what chance alone hardly exceeds: SIGMAS standard deviations above its mean
    word: str  # none, weak, strong; "" where it has no value

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self._asdict()


def measured(kind: str, key: str, name: str, value: float, steps: tuple[float, float] | None, drawn: list[float] | None = None) -> Measure:
    """A measure and its word. steps: how far beyond chance is more than nothing, and is strong; None: no word. drawn: what chance alone gives."""
    if value != value:
        return Measure(kind, key, name, None, None, None, "")
    chance, limit = (None, None) if drawn is None else (float(np.mean(drawn)), float(np.mean(drawn) + SIGMAS * np.std(drawn, ddof=1)))
    word = ""
    if steps is not None:
        beyond = value - (chance or 0.0)
        nothing = beyond <= steps[0] or (limit is not None and value <= limit)
        word = "none" if nothing else "weak" if beyond < steps[1] else "strong"
    return Measure(kind, key, name, value, chance, limit, word)
