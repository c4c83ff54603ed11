"""What a study tells beside scores: the other columns of the comparison, as means over seeds."""

from __future__ import annotations

import numpy as np

from atoll.report import words
from atoll.report.columns import Column, columns
from atoll.report.study_results import CellResult, StudyResults

SPENT = ("seconds", "cpu_seconds")  # of a machine that did other things too


def measures(results: StudyResults) -> list[Column]:
    """The columns that any run has anything in, but for its score, which has tables of its own, and the time that its simulation took."""
    found: dict[str, Column] = {}
    for cell in results.cells:
        for d in cell.digests.values():
            found |= {column.key: column for column in columns(d) if column.key not in found}
    return [column for key, column in found.items() if key not in (results.any.unit, *SPENT)]


def mean_of(cell: CellResult, method: str, column: Column) -> str:
    """The mean of a column over the seeds of a cell, as the comparison shows it; a dash where a seed has none, as what is never reached has no mean."""
    mean = float(np.mean(cell.scores(method, column.key)))
    show = words.rounds if column.show is words.count else column.show  # a mean of whole numbers is none
    return show(mean) if np.isfinite(mean) else words.DASH
