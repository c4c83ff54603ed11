"""An answer with its evidence, as a value."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atoll.advice.differences import Differences
from atoll.advice.judge import Gain, Gains, Verdict


@dataclass(frozen=True)
class Line:
    """A candidate over all splits, on each with the learning rate and at the round that are best on the split's validation rows."""

    name: str
    title: str
    family: str
    role: str  # as in Candidate
    why: str
    validation: float  # accuracy in 0..1, or mean loss; mean over splits
    test: float  # the same over all splits' test rows
    rate: float | None  # chosen most often
    late: bool  # it was still best at the last round in most splits
    costs: dict[str, float | None]  # means over splits; see pilot.COSTS


@dataclass(frozen=True)
class Advice:
    """The answer. All gains are on test rows, between methods that were chosen on validation rows."""

    verdict: Verdict
    recommended: str  # what to use: a method by its name on the command line
    gains: Gains
    over_majority: Gain  # the best of all, common models and training alone among them, over a constant answer per client
    pooled: Gain | None  # all rows in one place over the best common model
    lines: tuple[Line, ...]
    picks: dict[str, int]  # personal method -> splits in which it was the best on validation rows
    common: str  # title of the common model that was best most often
    differences: Differences
    epsilon: float | None  # of private measures
    data: str
    model: str  # as on the command line; "": the one that suits the data
    clients: int  # scored
    test_rows: int  # of all splits together
    splits: int
    drawn_anew: bool  # every split has test rows of its own
    rounds: int
    worth: float  # in units of the gains
    regression: bool
    seconds: float
    notes: tuple[str, ...]
    command: str  # what to run next
    folder: Path  # with advice.json, report.html, and a run's folder per split

    def line(self, name: str) -> Line:
        """A candidate by its name on the command line."""
        return next(one for one in self.lines if one.name == name)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        apart = ("verdict", "gains", "lines", "over_majority", "pooled", "differences", "folder")
        gains = {**self.gains._asdict(), "over_majority": self.over_majority, "pooled": self.pooled}
        return {
            "answer": self.verdict.kind,
            "fine_tuning_is_enough": self.verdict.simple,
            "open": list(self.verdict.open),
            **{name: value for name, value in vars(self).items() if name not in apart},
            "gains": {name: None if one is None else {**vars(one), "shown": one.shown} for name, one in gains.items()},
            "how_clients_differ": {"words": self.differences.words, "measures": list(self.differences.measures)},
            "methods": [vars(one) for one in self.lines],
            "folder": str(self.folder),
        }

    def json(self) -> str:
        """The same as text; numbers that are not finite are null."""
        return json.dumps(_finite(self.as_dict()), indent=1, ensure_ascii=False)

    def show(self) -> None:
        """Prints it."""
        from rich.console import Console

        from atoll.advice.text import print_advice

        print_advice(self, Console())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
