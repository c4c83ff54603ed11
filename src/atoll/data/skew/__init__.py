"""Skews: how rows are dealt out to clients, and how groups of clients differ. Read from texts like "dirichlet:0.1"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from atoll.core.errors import AtollError, unknown
from atoll.data.skew.partition import Classes, Dirichlet, Iid, Natural, Quantity
from atoll.data.skew.texts import options
from atoll.data.skew.transform import Rotate, Swap

__all__ = ["TABLE", "Classes", "Dirichlet", "Iid", "Natural", "Partition", "Quantity", "Rotate", "Skew", "Swap", "Transform", "parse", "parse_all"]

Partition = Natural | Iid | Quantity | Classes | Dirichlet
Transform = Rotate | Swap
Skew = Partition | Transform


class Entry(NamedTuple):
    """One kind of skew."""

    kind: type[Skew]
    example: str
    about: str


TABLE: dict[str, Entry] = {
    "natural": Entry(Natural, "natural", "the clients that the data come with"),
    "iid": Entry(Iid, "iid", "random rows, all clients of the same size"),
    "quantity": Entry(Quantity, "quantity:power=1.5", "sizes by a power law, or quantity:lognormal=1; option least (rows of the smallest client)"),
    "classes": Entry(Classes, "classes:2", "so many classes per client"),
    "dirichlet": Entry(Dirichlet, "dirichlet:0.1", "each class dealt out by a Dirichlet draw; option least (rows of the smallest client)"),
    "rotate": Entry(Rotate, "rotate:4", "so many groups of clients, each with its images turned by another angle"),
    "swap": Entry(Swap, "swap:4", "so many groups of clients, each with its labels swapped in another way"),
}


def parse(text: str) -> Skew:
    """A skew from "name", "name:value" or "name:option=value,...". AtollError for unknown names and options and for values out of range."""
    name, _, rest = (part.strip() for part in text.strip().partition(":"))
    if name not in TABLE:
        raise unknown("skew", name, TABLE)
    entry = TABLE[name]
    return entry.kind(**options(entry.kind, name, rest, text, entry.example))


def parse_all(skew: str | Skew | Sequence[str | Skew]) -> tuple[Partition | None, tuple[Transform, ...]]:
    """One partition at most, and transforms with their kinds differing. AtollError for what can't be combined."""
    given = [skew] if isinstance(skew, str | Skew) else list(skew)
    made = [parse(one) if isinstance(one, str) else one for one in given]
    partitions = [one for one in made if isinstance(one, Partition)]
    transforms = tuple(one for one in made if isinstance(one, Transform))
    if len(partitions) > 1:
        raise AtollError(f"Skews {partitions[0]} and {partitions[1]} both deal out the rows, and only one can. Keep one.")
    if len({type(one) for one in transforms}) < len(transforms):
        raise AtollError(f"Skews {' and '.join(map(str, transforms))}: one of a kind is enough. Ask for as many groups as you want at once.")
    return (partitions[0] if partitions else None), transforms
