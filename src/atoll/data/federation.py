"""A federation: rows, who owns them, and how each owner's rows are split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.drift import Drift, check_drift

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Federation:
    """Rows of all clients in flat arrays, and where each client's train, validation and test rows lie in them.

    Row order: all train rows (client 0, client 1, ...), then all validation rows, then all test rows; seen clients come before
    unseen ones. So every (client, split) is contiguous, and the train rows of all seen clients are contiguous from row 0.
    Everything is checked: AtollError says what is wrong and in which client, row or column. `atoll.data.build` makes a
    federation from rows in any order.
    """

    name: str  # "digits by writing form"
    x: np.ndarray  # [rows, ...] uint8, float32, or int32 for tokens
    y: np.ndarray  # [rows] int32 labels or float32 targets; [rows, T] int32 for a label at every position
    start: dict[str, np.ndarray]  # split -> int64 [clients], first row of that client's split
    count: dict[str, np.ndarray]  # split -> int64 [clients], number of rows
    names: tuple[str, ...]  # of the clients, seen ones first
    seen: int  # number of seen clients; the others are held out of training
    labels: tuple[str, ...]  # names of the labels; () is regression
    shift: np.ndarray | float = 0.0  # a model gets (x - shift) * scale; broadcasts over a row; ignored for tokens
    scale: np.ndarray | float = 1.0
    public: tuple[np.ndarray, np.ndarray] | None = None  # x, y of public rows, which are in no client
    groups: np.ndarray | None = None  # int [clients], known groups of clients (rotation, swapped labels, ...)
    history: tuple[str, ...] = ()  # how it was made, one line per step
    attackers: np.ndarray | None = None  # bool [clients], whose train and validation labels are wrong on purpose
    origin: np.ndarray | None = None  # int64 [rows], place in its source of what each row was made of; None where there is no such row
    drift: Drift | None = None  # the rows above are those of its first phase

    def __post_init__(self) -> None:
        try:
            _check_clients(self)
            _check_order(self)
            _check_rows(self.x, self.y, self.labels, self.row_name)
            _check_public(self)
            _check_broadcast(np.asarray(self.shift), "shift", self.x.shape[1:])
            _check_broadcast(np.asarray(self.scale), "scale", self.x.shape[1:])
            if self.drift is not None:
                check_drift(self, self.drift)
        except AtollError as error:
            raise AtollError(f"{self.name}: {error}") from None

    @property
    def phases(self) -> tuple[Federation, ...]:
        """The federation in each of its phases; itself alone where nothing changes."""
        return (self,) if self.drift is None else (self, *self.drift.later)

    def at(self, round: int) -> Federation:
        """The federation whose rows clients have in `round`."""
        return self if self.drift is None else self.phases[self.drift.phase(round)]

    def row_name(self, row: int) -> str:
        """Whose row it is, for errors."""
        for split in SPLITS:
            inside = (self.start[split] <= row) & (row < self.start[split] + self.count[split])
            if inside.any():
                client = int(np.argmax(inside))
                return f"{split} row {row - int(self.start[split][client])} of client {self.names[client]!r}"
        return f"row {row}"


def starts(count: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """First rows (split -> int64 [clients]) that go with these counts in the row order of a Federation."""
    flat = np.concatenate([np.asarray(count[split], np.int64) for split in SPLITS])
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum(flat)[:-1]])
    return dict(zip(SPLITS, np.split(first, len(SPLITS)), strict=True))


def _check_clients(fed: Federation) -> None:
    clients = len(fed.names)
    if not clients:
        raise AtollError("there are no clients.")
    if len(set(fed.names)) < clients:
        twice = next(name for name in fed.names if fed.names.count(name) > 1)
        raise AtollError(f"two clients are called {twice!r}. Names of clients must differ.")
    if not 1 <= fed.seen <= clients:
        raise AtollError(f"{fed.seen} of {clients} clients are seen. At least one must be, and no more than there are.")
    for table, what in ((fed.start, "start"), (fed.count, "count")):
        if set(table) != set(SPLITS) or any(np.shape(table[split]) != (clients,) for split in SPLITS):
            raise AtollError(f"`{what}` must map train, validation and test to one integer per client ({clients}).")
    for split in ("train", "test"):
        empty = np.flatnonzero(np.asarray(fed.count[split]) < 1)
        if len(empty):
            others = f" (nor have {len(empty) - 1} others)" if len(empty) > 1 else ""
            raise AtollError(
                f"client {fed.names[empty[0]]!r} has no {split} row{others}. "
                "Every client needs at least one train and one test row: leave it out, or give it more rows."
            )
    if fed.groups is not None and (np.shape(fed.groups) != (clients,) or np.asarray(fed.groups).dtype.kind not in "iu"):
        raise AtollError(f"`groups` has shape {list(np.shape(fed.groups))}; it must be one integer per client ({clients}).")
    if fed.attackers is not None and (np.shape(fed.attackers) != (clients,) or np.asarray(fed.attackers).dtype != np.bool_):
        raise AtollError(f"`attackers` has shape {list(np.shape(fed.attackers))}; it must be one truth value per client ({clients}).")


def _check_order(fed: Federation) -> None:
    if min(int(np.asarray(fed.count[split]).min()) for split in SPLITS) < 0:
        raise AtollError("a count of rows is negative.")
    expected = starts(fed.count)
    if any((np.asarray(fed.start[split]) != expected[split]).any() for split in SPLITS):
        raise AtollError(
            "rows must lie in order: all train rows client by client, then validation, then test. Use atoll.data.build, which puts them so."
        )
    total = sum(int(np.asarray(fed.count[split]).sum()) for split in SPLITS)
    if not total == len(fed.x) == len(fed.y):
        raise AtollError(f"x has {len(fed.x)} rows, y has {len(fed.y)}, and the clients own {total}. The three must agree.")
    if fed.origin is not None and np.shape(fed.origin) != (total,):
        raise AtollError(f"`origin` has shape {list(np.shape(fed.origin))}; it must be one integer per row ({total}).")


def _check_public(fed: Federation) -> None:
    if fed.public is None:
        return
    x, y = fed.public
    kinds = [f"{a.dtype.name} x {list(a.shape[1:])}, {b.dtype.name} y {list(b.shape[1:])}" for a, b in ((x, y), (fed.x, fed.y))]
    if kinds[0] != kinds[1]:
        raise AtollError(f"public rows must be of the same kind as the clients' rows; they are {kinds[0]}, not {kinds[1]}.")
    if len(x) != len(y):
        raise AtollError(f"public x has {len(x)} rows and public y has {len(y)}. They must agree.")
    _check_rows(x, y, fed.labels, lambda row: f"public row {row}")


def _check_rows(x: np.ndarray, y: np.ndarray, labels: tuple[str, ...], row_name: Callable[[int], str]) -> None:
    if x.dtype not in (np.uint8, np.float32, np.int32):
        raise AtollError(f"x is {x.dtype}. It must be uint8 (raw), float32, or int32 (tokens).")
    if y.dtype != (np.int32 if labels else np.float32):
        raise AtollError(f"y is {y.dtype}. It must be int32 where there are labels, and float32 for regression (labels=()).")
    for array, what in ((x, "x"), (y, "y")):
        # A sum is finite only if every term is. It is cheaper than a table of booleans, which is made only to say where.
        if array.dtype == np.float32 and not np.isfinite(array.sum(dtype=np.float64)):
            bad = np.argwhere(~np.isfinite(array.reshape(len(array), -1)))
            row, value = (int(i) for i in bad[0])
            raise AtollError(f"{what} is not a finite number in {row_name(row)}, value {value}. Fill or drop such rows first.")
    if labels and len(y) and not 0 <= y.min() <= y.max() < len(labels):
        row = int(np.argwhere((y < 0) | (y >= len(labels)))[0][0])
        raise AtollError(f"y in {row_name(row)} is {y[row]}, out of range: there are {len(labels)} labels, 0 to {len(labels) - 1}.")


def _check_broadcast(value: np.ndarray, what: str, row: tuple[int, ...]) -> None:
    try:
        fits = np.broadcast_shapes(value.shape, row) == row
    except ValueError:
        fits = False
    if not fits or not np.isfinite(value).all():
        raise AtollError(f"`{what}` of shape {list(value.shape)} must be finite and broadcast over a row of shape {list(row)}.")
