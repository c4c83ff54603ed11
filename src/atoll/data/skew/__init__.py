"""Skews: how rows are dealt out to clients, how clients differ in what they see and call it, who attacks, and what
changes over the rounds. Read from texts like "dirichlet:0.1"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from atoll.core.errors import AtollError, unknown
from atoll.data.skew.attack import Flip, Random
from atoll.data.skew.clientwise import Affine, Camera, Noise
from atoll.data.skew.partition import Classes, Dirichlet, Iid, Natural, Quantity
from atoll.data.skew.style import Style
from atoll.data.skew.temporal import Concept, Window
from atoll.data.skew.texts import options
from atoll.data.skew.transform import Rotate, Swap

__all__ = [
    "TABLE", "Affine", "Attack", "Camera", "Classes", "Clientwise", "Concept", "Dirichlet", "Flip", "Groups", "Iid", "Natural", "Noise", "Partition",
    "Quantity", "Random", "Rotate", "Skew", "Skews", "Style", "Swap", "Transform", "Window", "parse", "parse_all",
]  # fmt: skip

Partition = Natural | Iid | Quantity | Classes | Dirichlet
Groups = Rotate | Swap | Style  # k groups of clients differ
Clientwise = Noise | Affine | Camera  # every client differs
Transform = Groups | Clientwise
Attack = Flip | Random
Skew = Partition | Transform | Attack | Window | Concept
T = TypeVar("T", bound=Skew)


class Entry(NamedTuple):
    """One kind of skew."""

    kind: type[Skew]
    example: str
    about: str


TABLE: dict[str, Entry] = {
    "natural": Entry(Natural, "natural", "the clients that the data come with"),
    "iid": Entry(Iid, "iid", "random rows, all clients of the same size"),
    "quantity": Entry(Quantity, "quantity:power=1.5", "sizes by a power law, or quantity:lognormal=1; option least (rows of the smallest client)"),
    "classes": Entry(Classes, "classes:2", "so many classes per client; option alpha (classes:2,alpha=0.5: of unequal sizes by a Dirichlet draw)"),
    "dirichlet": Entry(Dirichlet, "dirichlet:0.1", "each class dealt out by a Dirichlet draw; option least (rows of the smallest client)"),
    "rotate": Entry(Rotate, "rotate:4", "so many groups of clients, each with its images turned by another angle"),
    "swap": Entry(Swap, "swap:4", "so many groups of clients, each with its labels swapped in another way; option share (of the labels)"),
    "style": Entry(Style, "style:4", "so many groups of clients (2 to 6), each with images in another style"),
    "noise": Entry(Noise, "noise:0.1", "Gaussian noise, more with every client up to this deviation"),
    "affine": Entry(Affine, "affine:0.5", "every client's columns scaled and shifted in its own way"),
    "camera": Entry(Camera, "camera:0.5", "every client's images with contrast, brightness and blur of its own"),
    "flip": Entry(Flip, "flip:0.2", "this share of clients trains on labels turned around; options kind (reversed, permuted), rows (share of their rows)"),
    "random": Entry(Random, "random:0.2", "this share of clients trains on random labels; option rows (share of their rows)"),
    "window": Entry(Window, "window:4,every=10", "windows of time that follow each other, so many rounds each; by=client: cut for each client by itself"),
    "concept": Entry(
        Concept,
        "concept:3,every=10,kind=gradual",
        "so many concepts in turn, so many rounds each: kind abrupt, gradual (in steps) or recurring; what=labels or rotation; share of the clients",
    ),
}


def parse(text: str) -> Skew:
    """A skew from "name", "name:value" or "name:option=value,...". AtollError for unknown names and options and for values out of range."""
    name, _, rest = (part.strip() for part in text.strip().partition(":"))
    if name not in TABLE:
        raise unknown("skew", name, TABLE)
    entry = TABLE[name]
    return entry.kind(**options(entry.kind, name, rest, text, entry.example))


class Skews(NamedTuple):
    """Skews by when they are applied: rows are dealt out, clients' rows changed, then (in every phase of time) split, then attackers' labels changed."""

    partition: Partition | None
    transforms: tuple[Transform, ...]
    attacks: tuple[Attack, ...]
    window: Window | None
    concept: Concept | None


def parse_all(skew: str | Skew | Sequence[str | Skew]) -> Skews:
    """One partition at most, and no two others of one kind. AtollError for what can't be combined."""
    given = [skew] if isinstance(skew, str | Skew) else list(skew)
    made = [parse(one) if isinstance(one, str) else one for one in given]
    partitions = [one for one in made if isinstance(one, Partition)]
    if len(partitions) > 1:
        raise AtollError(f"Skews {partitions[0]} and {partitions[1]} both deal out the rows, and only one can. Keep one.")
    return Skews(
        partitions[0] if partitions else None,
        _of_different_kinds([one for one in made if isinstance(one, Transform)]),
        _of_different_kinds([one for one in made if isinstance(one, Attack)]),
        next(iter(_of_different_kinds([one for one in made if isinstance(one, Window)])), None),
        next(iter(_of_different_kinds([one for one in made if isinstance(one, Concept)])), None),
    )


def _of_different_kinds(skews: list[T]) -> tuple[T, ...]:
    if len({type(one) for one in skews}) < len(skews):
        raise AtollError(f"Skews {' and '.join(map(str, skews))}: one of a kind is enough. Ask for as much as you want at once.")
    return tuple(skews)
