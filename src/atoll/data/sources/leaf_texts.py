"""Rows of LEAF's datasets as arrays, user by user: texts."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import Any

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.sources.characters import alphabet, codes, letter_names, next_characters
from atoll.data.sources.leaf_rows import Converted, Rows, numbered, whole_labels
from atoll.data.sources.words import as_tokens


class NextCharacter(Converted):
    """Texts of one length, and the character that follows each (Shakespeare)."""

    def convert(self, x: list[Any], y: list[Any], where: str) -> tuple[list[str], list[str]]:
        length = len(self.x[0][0]) if self.x else len(x[0])
        odd = next((text for text in x if len(text) != length), None)
        if odd is not None or any(len(letter) != 1 for letter in y):
            raise ValueError(f"texts of {length} characters and one that follows are needed")
        return x, y

    def finish(self) -> Rows:
        texts, following = list(chain.from_iterable(self.x)), list(chain.from_iterable(self.y))
        letters = alphabet([*texts, *following])
        x = codes("".join(texts), letters).reshape(len(texts), -1)
        note = f"{len(letters)} characters (models gru and lstm: vocabulary={len(letters)})"
        return self.rows(x, codes("".join(following), letters), letter_names(letters), by="speaker", note=note)


class Tweets(Converted):
    """Tweets: number, date, query, user and text, with the mood (Sent140)."""

    def convert(self, x: list[Any], y: list[Any], where: str) -> tuple[list[str], np.ndarray]:
        return [tweet[4] for tweet in x], whole_labels(y)

    def finish(self) -> Rows:
        x, note = as_tokens(list(chain.from_iterable(self.x)), "words", self.options["length"], self.options["vocabulary"])
        y = np.concatenate(self.y)
        return self.rows(x, y, ("negative", "positive") if y.max() <= 1 else numbered(int(y.max()) + 1), note=note)


class NextWords(Converted):
    """Comments in pieces of tokens, with the tokens that follow (Reddit). A user's comments, without what fills them up, are one stream of tokens."""

    def convert(self, x: list[Any], y: list[Any], where: str) -> tuple[list[str], None]:
        stream: list[str] = []
        for comment, target in zip(x, y, strict=True):
            own = [token for piece in comment for token in piece if token != "<PAD>"]
            after = [token for piece in target["target_tokens"] for token in piece if token != "<PAD>"]
            stream += [*own, *after[-1:]]
        return stream, None

    def finish(self) -> Rows:
        length, size = self.options["length"] or 10, self.options["vocabulary"]
        for value, what in ((length, "length"), (size, "vocabulary")):
            if isinstance(value, bool) or not isinstance(value, int) or value < 2:
                raise AtollError(f"{what}={value!r} must be a whole number of at least 2.")
        counts = Counter(token for stream in self.x for token in stream)
        frequent = sorted(counts, key=lambda token: (-counts[token], token))[: size - 1]
        words = ("<unknown>", *(word for word in frequent if word != "<unknown>"))
        token = {word: i for i, word in enumerate(words)}
        rows = [next_characters(np.array([token.get(word, 0) for word in stream], np.int32), length) for stream in self.x]
        self.n = [len(x) for x, _ in rows]
        x, y = (np.concatenate(arrays) for arrays in zip(*rows, strict=True))
        note = f"next words in rows of {length}, {len(words):,} words; where the next one is none of them, <unknown> counts as right"
        return self.rows(x, y, words, note=note)
