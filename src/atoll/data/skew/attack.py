"""Clients that train on wrong labels: what a share of adversarial (or careless) clients does to the others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.federation import SPLITS, Federation


@dataclass(frozen=True)
class Flip:
    """A share of the seen clients train on labels that are turned around: y becomes outputs - 1 - y, or by a permutation that all of them share.

    kind=permuted: one permutation that leaves no label where it was. rows: share of an attacker's rows that are changed.
    """

    share: float
    kind: Literal["reversed", "permuted"] = "reversed"
    rows: float = 1.0

    def __post_init__(self) -> None:
        _check(self)

    def __str__(self) -> str:
        return _text(self, f"flip:{self.share:g}" + (f",kind={self.kind}" if self.kind != "reversed" else ""))

    def labels(self, y: np.ndarray, outputs: int, rng: np.random.Generator) -> np.ndarray:
        """What attackers make of labels y."""
        if self.kind == "reversed":
            return outputs - 1 - y
        order = rng.permutation(outputs)  # a round in random order, everyone one place on: no label stays
        place = np.argsort(order)
        return order[(place[y] + 1) % outputs]


@dataclass(frozen=True)
class Random:
    """A share of the seen clients train on random labels, all equally likely. rows: share of their rows; random:1,rows=0.2 is label noise everywhere."""

    share: float
    rows: float = 1.0

    def __post_init__(self) -> None:
        _check(self)

    def __str__(self) -> str:
        return _text(self, f"random:{self.share:g}")

    def labels(self, y: np.ndarray, outputs: int, rng: np.random.Generator) -> np.ndarray:
        """What attackers make of labels y."""
        return rng.integers(outputs, size=y.shape)


def attacked(fed: Federation, attack: Flip | Random, rng: np.random.Generator) -> Federation:
    """The federation with attackers: seen clients, drawn among those that are none yet. At least one client is.

    Their train and validation rows have wrong labels; test rows stay true, so that what is measured is what the attack does to predictions that are right:
    an attacker's own score too says how far its model is from the truth, not how well it has learned the lie. Unseen clients attack nobody: they train nothing
    that others get. AtollError for regression and where too few clients are left.
    """
    if not fed.labels:
        raise AtollError(f"Skew {attack}: {fed.name} has numbers to predict, and only labels can be turned around. It makes sense for classification only.")
    marked = np.zeros(len(fed.names), bool) if fed.attackers is None else fed.attackers.copy()
    free = np.flatnonzero(~marked[: fed.seen])
    wanted = max(1, round(attack.share * fed.seen))
    if wanted > len(free):
        raise AtollError(f"Skew {attack} makes {wanted} of {fed.seen} clients attackers, and {len(free)} are left. Lower the shares.")
    new = np.sort(rng.permutation(free)[:wanted])  # a larger share has the same attackers and more
    y = fed.y.copy()
    owner = np.concatenate([np.repeat(np.arange(len(fed.names)), fed.count[split]) for split in SPLITS[:2]])  # train and validation rows come first
    rows = np.flatnonzero(np.isin(owner, new))
    if attack.rows < 1:
        rows = np.sort(rng.choice(rows, max(1, round(attack.rows * len(rows))), replace=False))
    y[rows] = attack.labels(fed.y[rows], len(fed.labels), rng).astype(y.dtype)
    changed = int((y[rows] != fed.y[rows]).sum())
    marked[new] = True
    line = f"{attack}: {wanted} of {fed.seen} seen clients have wrong labels in their train and validation rows ({changed:,} labels changed)"
    return replace(fed, name=f"{fed.name}, {attack}", y=y, attackers=marked, history=(*fed.history, line))


def _check(attack: Flip | Random) -> None:
    for value, what in ((attack.share, "share of clients"), (attack.rows, "share of rows")):
        if not 0 < value <= 1:
            name = type(attack).__name__.lower()
            raise AtollError(f"Skew {name}: the {what} is {value:g} and must be above 0 and at most 1, as in {name}:0.2.")


def _text(attack: Flip | Random, text: str) -> str:
    return text if attack.rows == 1 else f"{text},rows={attack.rows:g}"
