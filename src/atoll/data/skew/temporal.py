"""Change over the rounds of a run: windows of rows that move on with time, and concepts that come and go."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from atoll.core.errors import AtollError, unknown
from atoll.data.skew.transform import Rotate, Swap
from atoll.data.table import Table

KINDS = ("abrupt", "gradual", "recurring")
WHATS = ("labels", "rotation")
BYS = ("time", "client")


@dataclass(frozen=True)
class Window:
    """Rows are cut into k windows, in order of time where the source has times; after every so many rounds the next window takes the place of the last.

    by: "time" cuts at the same times for all clients, "client" cuts each client's rows into equal parts. Without times rows come in random order.
    """

    k: int
    every: int = 10
    by: str = "time"

    def __post_init__(self) -> None:
        _check(self, self.k, "windows", self.every)
        if self.by not in BYS:
            raise unknown("way to cut windows", self.by, BYS)

    def __str__(self) -> str:
        return f"window:{self.k},every={self.every}" + _unlike(self, "by")

    def cut(self, table: Table, rng: np.random.Generator) -> np.ndarray:
        """int [rows], the window of each row."""
        assert table.owner is not None
        order = rng.permutation(len(table.y)) if table.unit is None else rng.permutation(table.unit.max() + 1)[table.unit]
        time = order if table.time is None else table.time
        if table.time is not None and self.by == "time":
            edges = np.quantile(time, np.arange(1, self.k) / self.k)
            return np.searchsorted(edges, time, side="left").astype(np.int64)
        rows = np.lexsort((time, table.owner))
        size = np.bincount(table.owner)
        rank = np.empty(len(rows), np.int64)
        rank[rows] = np.arange(len(rows)) - (np.cumsum(size) - size)[table.owner[rows]]
        window = rank * self.k // size[table.owner]
        if table.unit is not None and table.time is None:  # what belongs together stays together: in the window of its first row
            first = np.full(table.unit.max() + 1, self.k, np.int64)
            np.minimum.at(first, table.unit, window)
            window = first[table.unit]
        return window


@dataclass(frozen=True)
class Concept:
    """k concepts in turn, each for so many rounds: what clients see turns (what=rotation), or its labels get other names (what=labels).

    abrupt: one concept after another, the last one stays. gradual: between two of them lie `steps` phases in which a growing share of rows follows the new
    one. recurring: after the last the first comes back. share: of the clients, at random, for whom it changes; the others keep the first concept.
    """

    k: int
    every: int = 10
    kind: str = "abrupt"
    what: str = "labels"
    steps: int = 3
    share: float = 1.0

    def __post_init__(self) -> None:
        _check(self, self.k, "concepts", self.every)
        if self.kind not in KINDS:
            raise unknown("kind of concept change", self.kind, KINDS)
        if self.what not in WHATS:
            raise unknown("thing that a concept changes", self.what, WHATS)
        if not 0 < self.share <= 1 or self.steps < 1:
            raise AtollError(f"Skew {self}: the share of clients that change is above 0 and at most 1, and gradual change takes at least one step.")

    def __str__(self) -> str:
        return f"concept:{self.k},every={self.every}" + _unlike(self, "kind", "what", "steps", "share")

    def check(self, table: Table) -> None:
        """AtollError where the table's rows can't change so."""
        self._transform.check(table)

    @property
    def states(self) -> list[tuple[int, float]]:
        """(concept, share of rows that already follow the next one) of each period."""
        mixes = [step / (self.steps + 1) for step in range(1, self.steps + 1)] if self.kind == "gradual" else []
        return [(c, share) for c in range(self.k) for share in (0.0, *(mixes if c + 1 < self.k else ()))]

    def apply(self, table: Table, state: tuple[int, float], changing: np.ndarray, early: np.ndarray, rng: np.random.Generator) -> Table:
        """The table in a state. changing: bool [rows], rows of clients that change; early: float [rows] in 0..1, those below the share go first."""
        concept, share = state
        group = np.where(changing, concept + (early < share), 0)
        x, y = self._transform.apply(table, group, rng)
        return replace(table, x=x, y=y)

    @property
    def _transform(self) -> Rotate | Swap:
        return Swap(self.k) if self.what == "labels" else Rotate(self.k)


def _unlike(skew: Window | Concept, *names: str) -> str:
    """The options that are not the defaults, as they are written."""
    return "".join(f",{f.name}={getattr(skew, f.name)}" for f in fields(skew) if f.name in names and getattr(skew, f.name) != f.default)


def _check(skew: object, k: int, things: str, every: int) -> None:
    if k < 2 or every < 1:
        raise AtollError(f"Skew {skew}: there must be at least 2 {things}, each for at least one round.")
