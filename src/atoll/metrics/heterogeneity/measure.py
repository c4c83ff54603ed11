"""A number about how clients differ, what it would be if they differed by chance alone, and a word.

A word is "none" where the number is within SIGMAS standard deviations of what chance gives, or hardly beyond.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

SHUFFLES = 20  # draws from which chance is worked out
SIGMAS = 3.0
STEPS = {  # measure -> how far beyond chance is more than nothing, and is strong; measures that are missing have no word
    "gini": (0.1, 0.3),
    "label_tv": (0.03, 0.3),
    "label_js": (0.01, 0.15),
    "target_wasserstein": (0.03, 0.3),
    "feature_wasserstein": (0.03, 0.2),
    "owner_auc_same_label": (0.03, 0.15),
    "disagreement": (0.03, 0.2),
    "attackers": (0.0, 0.1),
}


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


def word_of(key: str, beyond: float) -> str:
    """none, weak or strong, by how far a measure lies beyond what chance gives; "" for one that has no word."""
    if key not in STEPS:
        return ""
    weak, strong = STEPS[key]
    return "none" if beyond <= weak else "weak" if beyond < strong else "strong"


def measured(kind: str, key: str, name: str, value: float, drawn: list[float] | None = None) -> Measure:
    """A measure and its word. drawn: what chance alone gives."""
    if value != value:
        return Measure(kind, key, name, None, None, None, "")
    chance, limit = (None, None) if drawn is None else (float(np.mean(drawn)), float(np.mean(drawn) + SIGMAS * np.std(drawn, ddof=1)))
    word = word_of(key, value - (chance or 0.0))
    if word and limit is not None and value <= limit:
        word = "none"
    return Measure(kind, key, name, value, chance, limit, word)
