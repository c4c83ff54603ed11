"""Some rows of some clients, as the measures that look at rows see them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

ROWS = 2000  # at most, over all clients
CLIENTS = 50  # at most
VALUES = 4096  # of a row
TOKENS = 256  # the most frequent ones, whose shares are the features of a text


class Sample(NamedTuple):
    """Rows with their owners."""

    x: np.ndarray  # [rows, values] float64
    y: np.ndarray | None  # [rows] int labels or float targets; None where a row has many
    owner: np.ndarray  # int [rows], 0 to clients - 1
    text: bool = False  # x is shares of tokens, in which two rows that look the same need not be

    @property
    def clients(self) -> int:
        return int(self.owner.max()) + 1

    @property
    def strata(self) -> np.ndarray:
        """int [rows], rows of one label: what owners are shuffled within. Numbers to predict make one stratum."""
        return self.y if self.y is not None and self.y.dtype.kind in "iu" else np.zeros(len(self.owner), np.int64)

    def shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """Owners dealt out anew among rows of the same label: clients keep how many rows of each label they have, and nothing else is theirs."""
        order = np.argsort(self.strata, kind="stable")
        owner = np.empty_like(self.owner)
        owner[order] = self.owner[order[np.argsort(self.strata[order] + rng.random(len(order)), kind="stable")]]
        return owner


def sample(
    x: np.ndarray, y: np.ndarray, first: np.ndarray, count: np.ndarray, *, shift: np.ndarray | float, scale: np.ndarray | float, seed: int = 0
) -> Sample:
    """A sample of clients' rows: of client i those from first[i] on, count[i] many. At most ROWS rows and CLIENTS clients, all of one size where they can be.

    x: [rows, ...] as in a Federation, seen as a model gets it; of tokens (int32) the shares of the most frequent ones. y: [rows] or [rows, T].
    """
    rng = np.random.default_rng([seed, len(count)])
    clients = np.sort(rng.permutation(np.flatnonzero(count > 0))[:CLIENTS])
    each = max(1, ROWS // max(1, len(clients)))
    rows = [first[i] + np.sort(rng.permutation(count[i])[:each]) for i in clients]
    at = np.concatenate(rows)
    owner = np.repeat(np.arange(len(clients)), [len(part) for part in rows])
    flat = x.reshape(len(x), -1)
    if x.dtype == np.int32:
        return Sample(_shares_of_tokens(flat[at]), y[at] if y.ndim == 1 else None, owner, text=True)
    values = np.unique(np.linspace(0, flat.shape[1] - 1, min(VALUES, flat.shape[1])).astype(np.int64))
    moved, stretched = (np.broadcast_to(np.asarray(part, np.float64), x.shape[1:]).reshape(-1)[values] for part in (shift, scale))
    return Sample((flat[np.ix_(at, values)] - moved) * stretched, y[at] if y.ndim == 1 else None, owner)


def _shares_of_tokens(x: np.ndarray) -> np.ndarray:
    token, place = np.unique(x, return_inverse=True)
    place = place.reshape(x.shape)
    common = np.sort(np.argsort(-np.bincount(place.ravel()), kind="stable")[:TOKENS])
    number = np.full(len(token), -1)
    number[common] = np.arange(len(common))
    found = number[place]
    row = np.broadcast_to(np.arange(len(x))[:, None], x.shape)
    counts = np.bincount((row * len(common) + found)[found >= 0], minlength=len(x) * len(common))
    return counts.reshape(len(x), len(common)) / x.shape[1]
