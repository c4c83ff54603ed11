"""The kinds of rows in LEAF's datasets, seen from the first row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atoll.core.errors import AtollError
from atoll.data.sources.images import DRIVERS
from atoll.data.sources.leaf_rows import SIDE, Numbers, Pictures
from atoll.data.sources.leaf_texts import NextCharacter, NextWords, Tweets

KINDS = {"femnist": Numbers, "features": Numbers, "celeba": Pictures, "shakespeare": NextCharacter, "sent140": Tweets, "reddit": NextWords}


def kind_of(x: Any, y: Any, where: str) -> str:
    """What a first row is. AtollError for what is none of LEAF's."""
    if isinstance(x, list) and x and all(isinstance(value, int | float) for value in x):
        return "femnist" if len(x) == SIDE * SIDE else "features"
    if isinstance(x, str) and Path(x).suffix.lower() in DRIVERS:
        return "celeba"
    if isinstance(x, str) and isinstance(y, str) and len(y) == 1:
        return "shakespeare"
    if isinstance(x, list) and x and all(isinstance(value, str) for value in x):
        return "sent140"
    if isinstance(x, list) and x and isinstance(x[0], list) and isinstance(y, dict) and "target_tokens" in y:
        return "reddit"
    raise AtollError(
        f"{where}: its first x is a {type(x).__name__} and its y a {type(y).__name__}, as in none of LEAF's datasets: numbers with a label, the name of an "
        "image with a label, a text with its next character, a tweet with a label, or lists of tokens with target_tokens."
    )
