"""Texts that are to be judged as a whole, as rows of tokens of one length. Token 0 fills up what is shorter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from zlib import crc32

import numpy as np

from atoll.core.errors import AtollError, unknown

WORD = re.compile(r"[\w']+|[.,!?;]")
TOKENS = {"words": (25, 10_000), "characters": (140, 256)}  # length and vocabulary where none are given


def as_tokens(texts: Sequence[str], tokens: str, length: int | None, vocabulary: int | None) -> tuple[np.ndarray, str]:
    """Tokens int32 [texts, length] below `vocabulary`, and in words what they are.

    words: words and signs, small letters, each by a hash of its own; there is no list of words, so several may share a token. characters: by code point, all
    beyond the vocabulary sharing the last token. What is longer than `length` is cut off. AtollError for other `tokens` and for numbers out of range.
    """
    if tokens not in TOKENS:
        raise unknown("kind of tokens", tokens, TOKENS)
    length, vocabulary = TOKENS[tokens][0] if length is None else length, TOKENS[tokens][1] if vocabulary is None else vocabulary
    for value, what, least in ((length, "length", 1), (vocabulary, "vocabulary", 3)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise AtollError(f"{what}={value!r} must be a whole number of at least {least}.")
    x = np.zeros((len(texts), length), np.int32)
    for row, text in zip(x, texts, strict=True):
        if tokens == "words":
            found = [_word(word, vocabulary) for word in WORD.findall(text)[:length]]
        else:
            found = [1 + min(ord(c), vocabulary - 2) for c in text[:length]]
        row[: len(found)] = found
    return x, f"texts as {length} {tokens} at most, {vocabulary:,} tokens with 0 for none (model bilstm:vocabulary={vocabulary})"


def _word(word: str, vocabulary: int) -> int:
    return 1 + crc32(word.lower().encode()) % (vocabulary - 1)
