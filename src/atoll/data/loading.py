"""From a source's name to a Federation: read, limit, give public rows away, deal out, transform, split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.building import SPLIT, assemble, check_split
from atoll.data.federation import Federation
from atoll.data.phases import changing
from atoll.data.randomness import generator
from atoll.data.resampling import check_kind
from atoll.data.resampling import resample as resampled
from atoll.data.skew import Clientwise, Dirichlet, Iid, Natural, Partition, Skew, Transform, parse_all
from atoll.data.skew.attack import attacked
from atoll.data.sources import SOURCES, read
from atoll.data.table import FREE, TEST, Table

CLIENTS = 20  # where the data have no natural clients and none are asked for; PFLlib's default too


def load(
    data: str | Path = "digits",
    *,
    skew: str | Skew | Sequence[str | Skew] = (),
    clients: int | None = None,
    seed: int = 0,
    unseen: float = 0.0,
    split: Sequence[float] = SPLIT,
    split_seed: int | None = None,
    public: float = 0,
    limit: int | None = None,
    resample: str | None = None,
    **options: Any,
) -> Federation:
    """A federation from a source of data.

    data: a source (`SOURCES`), or the path of a .csv or .parquet file. skew: how rows are dealt out ("iid", "dirichlet:0.1", "classes:2",
    "quantity:power=1.5", "natural"), how clients differ in what they see and call it ("rotate:4", "swap:4", "noise:0.1") who attacks ("flip:0.2") and what
    changes over the rounds ("window:4,every=10", "concept:3,every=10,kind=gradual"); several compose, and all are in `atoll.data.skew.TABLE`. Without a way
    to deal them out, rows belong to the clients they came with; where there are none, it is dirichlet:0.1 (iid for regression and rows with times).
    clients: how many; of natural clients, so many at random. unseen: share of clients held out of training. split: shares of train, validation and test
    rows per client. split_seed: draws that split anew, for the same clients with the same rows (default: seed). public: share (below 1) or number of rows
    given away before dealing out. limit: rows used at most, drawn at random. resample: smote, adasyn or tomek, by which every client evens out the labels of
    its own train rows. options: of the source. The same arguments give the same federation,
    row by row. AtollError says what can't be.
    """
    name, ending = str(data), str(data).rpartition(".")[2].lower()
    if name != ending and ending in ("csv", "parquet"):
        name, options = ending, {**options, "path": data}
    partition, transforms, attacks, window, concept = parse_all(skew)
    _check_numbers(clients, seed, split_seed, public, limit)
    if resample is not None:
        check_kind(resample)  # before rows are read
    check_split(split)
    table = read(name, clients, seed, options)
    for transform in (*transforms, *([concept] if concept else [])):
        transform.check(table)
    table = _limited(table, limit, seed)
    table, given_away = _without_public(table, public, seed)
    generated = name in SOURCES and SOURCES[name].generated
    table = _dealt(table, partition, clients, seed, generated)
    table = _transformed(table, transforms, seed)
    if given_away is not None:  # where noise made floats of bytes
        given_away = given_away[0].astype(table.x.dtype), given_away[1]

    def made(table: Table) -> Federation:
        fed = assemble(table, seed=seed, unseen=unseen, split=split, split_seed=split_seed, public=given_away)
        for attack in attacks:
            fed = attacked(fed, attack, generator(seed, type(attack).__name__.lower()))
        return fed if resample is None else resampled(fed, resample, seed)

    return changing(table, window, concept, seed, made)


def _check_numbers(clients: int | None, seed: int, split_seed: int | None, public: float, limit: int | None) -> None:
    for value, what, least in ((clients, "clients", 1), (limit, "limit", 2), (seed, "seed", 0), (split_seed, "split_seed", 0)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least):
            raise AtollError(f"{what}={value!r} must be a whole number of at least {least}.")
    if not 0 <= public < float("inf") or (public > 1 and public != int(public)):
        raise AtollError(f"public={public!r} must be a share of the rows (below 1) or a whole number of rows.")


def _limited(table: Table, limit: int | None, seed: int) -> Table:
    """At most `limit` rows, from every client in proportion."""
    rows = len(table.y)
    if limit is None or limit >= rows:
        return table
    _refuse_exact(table, "limit")
    kept, least = _sample(table, generator(seed, "limit"))
    if limit < least:
        raise AtollError(f"limit={limit} is too few rows for the {len(table.names)} clients of {table.name}, which need {least:,} at least.")
    kept = kept[: _border(table, kept, limit, -1)]
    return table.take(np.sort(kept)).noted(f"limited to {len(kept):,} of {rows:,} rows at random")


def _without_public(table: Table, public: float, seed: int) -> tuple[Table, tuple[np.ndarray, np.ndarray] | None]:
    """The table without its public rows, and those rows. They come from every client in proportion, and never from rows set apart for tests."""
    rows = len(table.y)
    n = round(public * rows) if public < 1 else int(public)
    if not n:
        return table, None
    _refuse_exact(table, "public")
    order, least = _sample(table, generator(seed, "public"))
    free = order[least:] if table.part is None else order[least:][table.part[order[least:]] == FREE]
    if n > len(free):
        raise AtollError(f"public={public:g} would take {n:,} of {rows:,} rows of {table.name}, and only {len(free):,} can be spared. Ask for fewer.")
    taken = np.zeros(rows, bool)
    taken[free[_border(table, free, len(free) - n, 1) :]] = True
    if not taken.any():
        raise AtollError(f"public={public:g} would take {n:,} of {rows:,} rows of {table.name}, fewer than belong together. Ask for more.")
    return table.take(~taken).noted(f"{taken.sum():,} of {rows:,} rows given away as public, at random"), (table.x[taken], table.y[taken])


def _sample(table: Table, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """All rows in a random order whose every beginning holds clients in proportion, and how many rows at its beginning each client needs.

    Those are two of every client (one to train and one to test), one train and one test row where the source sets test rows apart. Rows that belong
    together follow each other, and count as one for what is needed.
    """
    if table.unit is not None:
        _, first, unit = np.unique(_units(table), return_index=True, return_inverse=True)
        chosen, least = _sample(replace(table.take(first), unit=None), rng)
        return np.argsort(np.argsort(chosen)[unit], kind="stable"), int(np.bincount(unit)[chosen[:least]].sum())
    order = rng.permutation(len(table.y))
    if table.owner is None:
        return order, 2
    stratum = table.owner if table.part is None else 2 * table.owner + (table.part == TEST)
    needed = 2 if table.part is None else 1
    order = order[np.argsort(stratum[order], kind="stable")]
    size = np.bincount(stratum)
    rank = np.arange(len(order)) - (np.cumsum(size) - size)[stratum[order]]
    place = np.where(rank < needed, -1.0, (rank + rng.random(len(order))) / size[stratum[order]])
    return order[np.argsort(place, kind="stable")], int((rank < needed).sum())


def _units(table: Table) -> np.ndarray:
    """A number per row, the same for rows of one client that belong together."""
    assert table.owner is not None
    assert table.unit is not None
    return table.owner * (table.unit.max() + 1) + table.unit


def _border(table: Table, rows: np.ndarray, place: int, step: int) -> int:
    """The place nearest to `place`, in the direction of `step`, at which a border through `rows` parts none that belong together."""
    if table.unit is not None:
        units = _units(table)[rows]
        while 0 < place < len(rows) and units[place - 1] == units[place]:
            place += step
    return place


def _refuse_exact(table: Table, what: str) -> None:
    if table.exact:
        raise AtollError(f"Source {table.name} is exact: all its rows are needed, so {what} can't be used.")


def _dealt(table: Table, partition: Partition | None, clients: int | None, seed: int, generated: bool) -> Table:
    """The table with an owner for every row."""
    natural = table.owner is not None
    if isinstance(partition, Natural) and not natural:
        raise AtollError(f"{table.name} has no natural clients. Deal its rows out with a skew: iid, dirichlet:0.1, classes:2, quantity:power=1.5.")
    if partition is None and not natural:
        partition = Iid() if table.regression or table.y.ndim > 1 or table.time is not None else Dirichlet(0.1)
    if partition is None or isinstance(partition, Natural):
        named = replace(table, name=f"{table.name} by {table.by}") if table.by else table
        return named if clients is None or generated else _some_clients(named, clients, seed)
    if table.fixed:
        raise AtollError(f"Skew {partition} can't deal out the rows of {table.name}: {table.fixed}.")
    if partition.needs_labels and (table.regression or table.y.ndim > 1):
        raise AtollError(f"Skew {partition} goes by labels, and {table.name} has one for no row. Use iid or quantity.")
    clients = clients or (len(table.names) if natural else CLIENTS)
    rows = len(table.y)
    if 2 * clients > rows:
        raise AtollError(f"{table.name} has {rows:,} rows, too few for {clients:,} clients: each needs at least 2, one to train and one to test.")
    owner, note = partition.deal(table.y, clients, generator(seed, type(partition).__name__.lower()))
    names = tuple(f"client {i}" for i in range(clients))
    dealt = replace(table, name=f"{table.name}, {partition}", owner=owner, names=names, groups=None)
    return dealt.noted(f"{partition} over {clients:,} clients: {note}")


def _some_clients(table: Table, clients: int, seed: int) -> Table:
    """Some natural clients at random."""
    there = len(table.names)
    if clients > there:
        raise AtollError(f"{table.name} has {there} natural clients, not {clients}. Ask for fewer, or deal its rows out with a skew such as iid.")
    assert table.owner is not None
    chosen = np.sort(generator(seed, "clients").choice(there, clients, replace=False))
    number = np.full(there, -1)
    number[chosen] = np.arange(clients)
    kept = table.take(number[table.owner] >= 0)
    assert kept.owner is not None
    groups = None if table.groups is None else table.groups[chosen]
    some = replace(kept, owner=number[kept.owner], names=tuple(table.names[i] for i in chosen), groups=groups)
    return some.noted(f"{clients} of {there} natural clients at random")


def _transformed(table: Table, transforms: Sequence[Transform], seed: int) -> Table:
    """The table with every client's rows changed: as its group of each transform has it, or in its own way. Public rows stay as they are."""
    clients = len(table.names)
    turn = generator(seed, "groups").permutation(clients)
    owner = table.owner
    assert owner is not None
    for transform in transforms:
        rng = generator(seed, str(transform))
        if isinstance(transform, Clientwise):
            x, y = transform.apply(table, owner, rng)
            table = replace(table, name=f"{table.name}, {transform}", x=x, y=y).noted(f"{transform}: each of {clients} clients in its own way")
            continue
        if transform.k > clients:
            raise AtollError(f"Skew {transform}: {transform.k} groups need as many clients, and there are {clients}.")
        # Clients take groups in turn, and a second transform's in turn within those of the first: pairs of groups are of one size too.
        group, turn = turn % transform.k, turn // transform.k
        x, y = transform.apply(table, group[owner], rng)
        groups = group if table.groups is None else table.groups * transform.k + group
        table = replace(table, name=f"{table.name}, {transform}", x=x, y=y, groups=groups)
        table = table.noted(f"{transform}: {transform.k} groups of {clients // transform.k} or more clients")
    return table
