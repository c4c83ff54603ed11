"""What a source reads: rows and, where the data have them, natural owners. The steps of `load` go from one table to the next."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

TRAIN, VALIDATION, TEST, FREE = 0, 1, 2, -1  # part of a row; free rows are split later


@dataclass(frozen=True, eq=False)
class Table:
    """Rows in the source's order."""

    name: str
    x: np.ndarray  # [rows, ...] uint8, float32 or int32 tokens
    y: np.ndarray  # [rows, ...] int32 labels or float32 targets
    labels: tuple[str, ...]  # () is regression
    owner: np.ndarray | None = None  # int [rows], natural client of each row; None: the source has no natural clients
    names: tuple[str, ...] = ()  # of the natural clients
    by: str = ""  # what a natural client is: "speaker"
    shift: np.ndarray | float = 0.0  # as in a Federation
    scale: np.ndarray | float = 1.0
    standardise: np.ndarray | None = None  # bool, one per value of a row: standardised with the seen clients' train rows
    part: np.ndarray | None = None  # int8 [rows], TRAIN, VALIDATION, TEST or FREE where the source itself sets rows apart
    unit: np.ndarray | None = None  # int [rows], rows of one client that stay in one split: an image and what was made of it
    origin: np.ndarray | None = None  # int64 [rows], place of each row in what the source read; None: all rows, in its order
    time: np.ndarray | None = None  # int64 or float64 [rows], when a row was recorded, in the source's unit; None: the source doesn't know
    groups: np.ndarray | None = None  # int [natural clients]
    fixed: str = ""  # why its rows can't be dealt out to other clients
    exact: bool = False  # every row is needed: no limit, no public rows
    history: tuple[str, ...] = ()

    @property
    def regression(self) -> bool:
        return not self.labels

    @property
    def places(self) -> np.ndarray:
        """int64 [rows], place of each row in what the source read."""
        return np.arange(len(self.y)) if self.origin is None else self.origin

    def take(self, rows: np.ndarray) -> Table:
        """The table with these rows only (int indices or a bool mask)."""
        return replace(
            self,
            x=self.x[rows],
            y=self.y[rows],
            owner=None if self.owner is None else self.owner[rows],
            part=None if self.part is None else self.part[rows],
            unit=None if self.unit is None else self.unit[rows],
            time=None if self.time is None else self.time[rows],
            origin=self.places[rows],
        )

    def noted(self, line: str) -> Table:
        """The table with one more line of history."""
        return replace(self, history=(*self.history, line))
