"""The runs of a study, read: scores by cell, method and seed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atoll.core.errors import AtollError
from atoll.report import several
from atoll.report.digest import Digest, digest
from atoll.report.run import open_run
from atoll.study.grid import Cell, Study
from atoll.study.schedule import is_done, open_study, run_folder


@dataclass(frozen=True, eq=False)
class CellResult:
    """The finished runs of one cell, by seed."""

    cell: Cell
    digests: dict[int, Digest]

    def scores(self, method: str, column: str | None = None) -> np.ndarray:
        """float [seeds]: the test score of a method (or another column of the comparison), in the order of `digests`; NaN where it has none."""
        return several.scores(self.digests.values(), method, column)


@dataclass(frozen=True, eq=False)
class StudyResults:
    """A study with what is finished of it. Cells without a finished run are left out."""

    folder: Path
    study: Study
    cells: list[CellResult]
    missing: list[str]  # titles of runs that are not finished

    @property
    def any(self) -> Digest:
        """One of its runs."""
        return next(iter(self.cells[0].digests.values()))

    @property
    def regression(self) -> bool:
        return self.any.regression

    @property
    def methods(self) -> list[str]:
        """Baselines first, then the others, as the runs name them."""
        return several.methods(d for cell in self.cells for d in cell.digests.values())

    @property
    def baselines(self) -> set[str]:
        return {name for cell in self.cells for d in cell.digests.values() for name in d.table.filter("baseline")["method"]}

    @property
    def seconds(self) -> float:
        """Wall time of training and scoring over all runs."""
        return sum(float(d.run.rounds[name].sum()) for cell in self.cells for d in cell.digests.values() for name in ("seconds", "eval_seconds"))

    @functools.cached_property
    def picked(self) -> list[str | None]:
        """Of each cell the method, not a baseline, with the best mean validation score: test rows have no say. What tables print bold."""
        names = [name for name in self.methods if name not in self.baselines]
        return [several.best(list(cell.digests.values()), names) for cell in self.cells]

    def means(self) -> np.ndarray:
        """float [cells, methods]: mean test score over seeds; NaN where any seed has none."""
        return np.array([[np.mean(cell.scores(method)) for method in self.methods] for cell in self.cells])

    def by_seed(self, method: str, cells: Sequence[CellResult]) -> np.ndarray:
        """float [seeds]: mean test score over these cells, of the seeds that all of them have run; NaN for a seed where any has none, [NaN] without a seed."""
        seeds = set.intersection(*(set(cell.digests) for cell in cells))
        found = [[score for score, seed in zip(cell.scores(method), cell.digests, strict=True) if seed in seeds] for cell in cells]
        return np.mean(found, axis=0) if seeds else np.array([np.nan])


def open_results(folder: Path) -> StudyResults:
    """Reads a study's folder. AtollError where no run is finished, or where some runs predict a label and others a number."""
    study = open_study(folder)
    cells: dict[str, CellResult] = {}
    missing = []
    for run in study.runs():
        place = run_folder(folder, run)
        if not is_done(place):
            missing.append(f"{run.cell.title}, seed {run.seed}")
            continue
        cells.setdefault(run.cell.title, CellResult(run.cell, {})).digests[run.seed] = digest(open_run(place))
    if not cells:
        raise AtollError(f"No run of {folder} is finished. Continue it with `atoll study {folder}`.")
    results = StudyResults(folder, study, list(cells.values()), missing)
    if len({d.unit for cell in results.cells for d in cell.digests.values()}) > 1:
        raise AtollError(f"{folder}: some cells predict a label and others a number, whose scores can't stand in one table. Make two studies of them.")
    return results
