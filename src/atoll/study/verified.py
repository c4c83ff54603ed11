"""Scores of both sides of an identity, compared, and what checking identities came to."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from atoll.core.errors import AtollError

# Of a client's mean loss. Programs that do the same round apart by some 3e-7 here, and by more the deeper a model and the longer it trains; what no longer is
# the same method is apart by 1e-2 and more after two rounds.
TOLERANCE = 1e-4
ROWS_APART = 0.01  # of a client's rows, or one: so many may be judged otherwise where two labels are as good as even
HOLDS, FAILS, NOTHING, CANNOT = "holds", "fails", "nothing was learned", "can't be checked"


@dataclass(frozen=True)
class Checked:
    """What came of one identity. Numbers are None where it could not be checked."""

    method: str  # its title, as is `other`
    settings: dict[str, Any]  # which make it the other one
    other: str
    partner: dict[str, Any]
    work: dict[str, Any]  # what both sides have alike
    model: str  # whose scores are compared: personal or global
    until: int  # rounds for which it is said to hold; 0: all
    why: str  # the identity in words
    state: str  # holds, fails, nothing was learned or can't be checked
    difference: float | None = None  # largest of a client's mean loss, over rounds and splits
    share: float | None = None  # the same as a share of the loss; what the tolerance is about
    rows_apart: int | None = None  # largest difference of a client's rows that are judged right
    bits: bool = False  # all scores are equal bit for bit
    reason: str = ""  # why it could not be checked


@dataclass(frozen=True)
class Verification:
    """All identities that were asked for.

    without: titles of methods of which no identity is known. partners: of those that others are at some setting, while none is said of themselves.
    """

    checked: tuple[Checked, ...]
    without: tuple[str, ...]
    partners: tuple[str, ...]
    rounds: int
    seed: int
    tolerance: float = TOLERANCE

    @property
    def failed(self) -> list[Checked]:
        """Identities that do not hold."""
        return [one for one in self.checked if one.state == FAILS]

    @property
    def table(self) -> pl.DataFrame:
        """One row per identity; settings as JSON."""
        return pl.DataFrame([{name: json.dumps(v) if isinstance(v, dict) else v for name, v in asdict(one).items()} for one in self.checked])

    def json(self) -> str:
        """Everything, as identities.json in a run's folder has it."""
        return json.dumps(asdict(self), indent=1)

    def show(self) -> None:
        """Prints the table and what it comes to."""
        from rich.console import Console

        from atoll.report.identities import print_identities

        print_identities(self, Console())


def read_verification(text: str) -> Verification:
    """What `Verification.json` wrote."""
    content = json.loads(text)
    checked = tuple(Checked(**one) for one in content.pop("checked"))
    return Verification(checked, tuple(content.pop("without")), tuple(content.pop("partners")), **content)


def compared(a: pl.DataFrame, b: pl.DataFrame) -> dict[str, Any]:
    """What the scores of both sides, of the same clients, splits and rounds in the same order, say of an identity. AtollError where they are no numbers."""
    if not len(a) or len(a) != len(b):
        raise AtollError("There are no scores to compare: no client has validation or test rows.")
    rows = a["rows"].to_numpy()
    losses = np.stack([table["loss"].to_numpy() / rows for table in (a, b)])
    if not np.isfinite(losses).all():
        raise AtollError("The loss stops being a finite number. Take a smaller lr.")
    first = a["round"].to_numpy() == 0
    usual = losses[1, first].mean()  # a loss near 0 is no measure of what is small
    apart = np.abs(losses[0] - losses[1])
    share = apart / np.maximum(losses.max(axis=0), usual)
    right = np.stack([table["correct"].to_numpy() for table in (a, b)])
    wrong = np.nan_to_num(np.abs(right[0] - right[1]))  # of numbers none is right
    alike = share.max() <= TOLERANCE and (wrong <= np.maximum(1, ROWS_APART * rows)).all()
    last = a["round"].to_numpy() == a["round"].max()
    learned = (losses[:, first] != losses[:, last]).any()
    return {
        "state": FAILS if not alike else HOLDS if learned else NOTHING,
        "difference": float(apart.max()),
        "share": float(share.max()),
        "rows_apart": int(wrong.max()),
        "bits": bool((losses[0] == losses[1]).all() and not wrong.any()),
    }
