"""Texts as sequences of characters, each of which is to be foretold from those before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def alphabet(texts: Sequence[str]) -> tuple[str, ...]:
    """The distinct characters of texts, sorted: a character's place is its token."""
    return tuple(sorted(set().union(*texts)))


def letter_names(letters: Sequence[str]) -> tuple[str, ...]:
    """What tables print for characters: those that can't be seen have a name."""
    return tuple({"\n": "newline", " ": "space", "\t": "tab"}.get(letter, letter) for letter in letters)


def codes(text: str, letters: Sequence[str], other: int | None = None) -> np.ndarray:
    """Tokens int32 [characters]. other: the token of characters that are not among `letters`; without it they are a KeyError."""
    token = {letter: i for i, letter in enumerate(letters)}
    return np.array([token[c] if other is None else token.get(c, other) for c in text], np.int32)


def next_characters(tokens: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y, int32 [rows, length]: y is x one character later. Rows follow each other without overlap; the rest of the text is left out."""
    rows = max(0, (len(tokens) - 1) // length)
    return tokens[: rows * length].reshape(rows, length), tokens[1 : rows * length + 1].reshape(rows, length)
