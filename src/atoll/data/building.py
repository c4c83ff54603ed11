"""Makes a Federation from rows in any order: splits every client's rows, holds clients out, puts rows in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.federation import SPLITS, Federation, starts
from atoll.data.randomness import generator
from atoll.data.table import FREE, TEST, TRAIN, VALIDATION, Table

SPLIT = (0.6, 0.2, 0.2)


def build(
    x: np.ndarray,
    y: np.ndarray,
    owner: np.ndarray,
    *,
    name: str = "given rows",
    task: str = "classification",
    standardise: bool = False,
    shift: np.ndarray | float = 0.0,
    scale: np.ndarray | float = 1.0,
    seed: int = 0,
    unseen: float = 0.0,
    split: Sequence[float] = SPLIT,
) -> Federation:
    """A federation of your own rows.

    x: [rows, ...] uint8 (raw values), int32 (tokens) or floating; y: [rows] numbers or strings; owner: [rows] numbers or strings, whose row it is.
    Labels are the sorted distinct values of y, unless task is "regression". standardise: subtract each value's mean over the seen
    clients' train rows and divide by its deviation. unseen: share of clients held out. split: shares of train, validation and test
    rows of every client. AtollError for rows that do not fit together, clients with too few rows, missing values.
    """
    x, y, owner = np.asarray(x), np.asarray(y), np.asarray(owner)
    if x.ndim < 2 or not len(x) == len(y) == len(owner) or owner.ndim != 1:
        raise AtollError(f"x {list(x.shape)}, y {list(y.shape)} and owner {list(owner.shape)} must have the same rows; x needs [rows, values].")
    if task not in ("classification", "regression"):
        raise AtollError(f"task={task!r} is neither 'classification' nor 'regression'.")
    if x.dtype.kind in "fb":
        x = x.astype(np.float32)
    labels, y = encode(y) if task == "classification" else ((), y.astype(np.float32))
    names, owner = encode(owner)
    values = np.ones(x.shape[1:], bool) if standardise else None
    table = Table(name, x, y, labels, owner=owner, names=names, shift=shift, scale=scale, standardise=values, history=(f"{len(x):,} rows given",))
    return assemble(table, seed=seed, unseen=unseen, split=split)


def encode(values: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the sorted distinct values, and int32 indices into them. AtollError for values that can't be names, such as 0.5."""
    if values.dtype.kind == "f":
        odd = np.flatnonzero(np.isnan(values) | (values != np.floor(values)))
        if len(odd):
            raise AtollError(f"{values.flat[odd[0]]} in row {odd[0]} can't be a label. Labels are whole numbers or names; for numbers use task='regression'.")
        values = values.astype(np.int64)
    try:
        distinct, index = np.unique(values, return_inverse=True)
    except TypeError:  # numbers and text mixed have no order
        distinct, index = np.unique(values.astype(str), return_inverse=True)
    return tuple(str(value) for value in distinct.tolist()), index.reshape(values.shape).astype(np.int32)


def assemble(
    table: Table, *, seed: int, unseen: float, split: Sequence[float], split_seed: int | None = None, public: tuple[np.ndarray, np.ndarray] | None = None,
    name: str | None = None,
) -> Federation:  # fmt: skip
    """The federation of a table whose rows all have an owner. split_seed: of the split alone; default: seed."""
    check_split(split)
    assert table.owner is not None
    clients = len(table.names)
    part, place = _split(table, split, generator(seed if split_seed is None else split_seed, "split"))
    held = _held_out(clients, unseen, generator(seed, "unseen"))
    order = np.concatenate([np.flatnonzero(~held), np.flatnonzero(held)])  # old numbers of the clients in their new order
    number = np.argsort(order)
    owner = number[table.owner]
    rows = np.lexsort((place, owner, part))
    count = {which: np.bincount(owner[part == code], minlength=clients).astype(np.int64) for code, which in enumerate(SPLITS)}
    seen = clients - int(held.sum())
    drawn = "" if split_seed is None else f", of the split {split_seed}"
    fed = Federation(
        name=name or table.name,
        x=np.ascontiguousarray(table.x[rows]),
        y=np.ascontiguousarray(table.y[rows]),
        start=starts(count),
        count=count,
        names=tuple(table.names[i] for i in order),
        seen=seen,
        labels=table.labels,
        shift=table.shift,
        scale=table.scale,
        public=public,
        groups=None if table.groups is None else table.groups[order],
        origin=table.places[rows],
        history=(*table.history, f"{_how_split(table, split)}; {int(held.sum())} of {clients} clients unseen; seed {seed}{drawn}"),
    )
    return fed if table.standardise is None else _standardised(fed, table.standardise)


def check_split(split: Sequence[float]) -> None:
    """AtollError unless these are three shares that add up to 1, with rows to train and to test."""
    if len(split) != 3 or not all(0 <= share <= 1 for share in split) or abs(sum(split) - 1) > 1e-6 or not split[0] or not split[2]:
        raise AtollError(f"split={tuple(split)} must be three shares (train, validation, test) that add up to 1, with train and test above 0.")


def _split(table: Table, split: Sequence[float], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Part of every row, int8 [rows], and its place among its client's rows, int64 [rows]. Rows whose part the source sets keep it and their order."""
    owner = table.owner
    assert owner is not None
    clients = len(table.names)
    part = np.full(len(owner), FREE, np.int8) if table.part is None else table.part.copy()
    place = np.arange(len(owner))
    free = rng.permutation(np.flatnonzero(part == FREE))
    tested = np.bincount(owner[part == TEST], minlength=clients) > 0
    n = np.bincount(owner[free], minlength=clients)
    _check_sizes(table, n, tested)
    test, validation = _sizes(n, split, tested)
    if table.unit is not None:  # units in random order, rows of one unit side by side
        free = free[np.argsort(rng.permutation(table.unit.max() + 1)[table.unit[free]], kind="stable")]
    free = free[np.argsort(owner[free], kind="stable")]
    rank = np.arange(len(free)) - (np.cumsum(n) - n)[owner[free]]
    end = rank if table.unit is None or not len(free) else _last_ranks(rank, owner[free], table.unit[free])
    last, middle = (n - test)[owner[free]], (n - test - validation)[owner[free]]
    part[free] = np.where(end >= last, TEST, np.where(end >= middle, VALIDATION, TRAIN))
    place[free] = rank
    return part, place


def _last_ranks(rank: np.ndarray, owner: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """For every row the rank of the last row of its unit: with it a unit falls on one side of a border between splits.

    Where a skew has dealt a unit out to several clients, its rows stay together at each of them.
    """
    _, pair = np.unique(owner * (unit.max() + 1) + unit, return_inverse=True)
    last = np.zeros(pair.max() + 1, rank.dtype)
    np.maximum.at(last, pair, rank)
    return last[pair]


def _sizes(n: np.ndarray, split: Sequence[float], tested: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(test rows, validation rows) of clients with n rows: at least one to train and to test, and one to validate from three rows on."""
    train, validation, test = split
    spare = ((n >= 3) & (validation > 0)).astype(np.int64)
    tests = np.where(tested, 0, np.clip(np.floor(n * test + 0.5).astype(np.int64), 1, np.maximum(n - 1 - spare, 1)))
    share = np.where(tested, validation / (train + validation), validation)
    wanted = np.maximum(np.floor(n * share + 0.5).astype(np.int64), spare)
    return tests, np.clip(wanted, 0, np.maximum(n - tests - 1, 0))


def _check_sizes(table: Table, n: np.ndarray, tested: np.ndarray) -> None:
    few = np.flatnonzero((n < 2) & ~tested)
    if len(few):
        others = f" (and {len(few) - 1} others have too few)" if len(few) > 1 else ""
        raise AtollError(
            f"{table.name}: client {table.names[few[0]]!r} has {n[few[0]]} row{'' if n[few[0]] == 1 else 's'}{others}. "
            "Each needs at least 2, one to train and one to test: leave such clients out, or take fewer clients."
        )


def _held_out(clients: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """bool [clients], True for the unseen ones."""
    if not 0 <= share < 1:
        raise AtollError(f"unseen={share} is the share of clients held out; it must be at least 0 and below 1.")
    held = np.zeros(clients, bool)
    if share > 0:
        if clients < 2:
            raise AtollError(f"unseen={share} holds clients out, but there is only one. Use unseen=0.")
        held[rng.choice(clients, int(np.clip(round(share * clients), 1, clients - 1)), replace=False)] = True
    return held


def _standardised(fed: Federation, values: np.ndarray) -> Federation:
    """With shift and scale of the marked values from the train rows of seen clients. A value that is constant there is only shifted."""
    rows = fed.x[: int(fed.count["train"][: fed.seen].sum())]
    mean, deviation = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
    # Rounding leaves a constant column a deviation near 0 that must not blow other clients' values up.
    constant = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-30)
    shift = np.where(values, mean, np.asarray(fed.shift)).astype(np.float32)
    scale = np.where(values & ~constant, 1 / np.where(constant, 1, deviation), np.where(values, 1, np.asarray(fed.scale))).astype(np.float32)
    line = f"{int(values.sum())} of {values.size} values standardised with the train rows of seen clients"
    return replace(fed, shift=shift, scale=scale, history=(*fed.history, line))


def _how_split(table: Table, split: Sequence[float]) -> str:
    if table.part is None:
        return f"{'/'.join(f'{100 * share:.4g}' for share in split)} % train, validation and test rows per client at random"
    if (table.part == FREE).any():
        return f"the source's test rows, {100 * split[1] / (split[0] + split[1]):.4g} % of each client's other rows for validation at random"
    return "the source's train, validation and test rows"
