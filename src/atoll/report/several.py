"""Several runs of one thing, as the seeds of a cell: scores run by run, and who is best on validation rows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from atoll.report.digest import Digest


def scores(digests: Iterable[Digest], method: str, column: str | None = None) -> np.ndarray:
    """float [runs]: the test score of a method (or another column of the comparison); NaN where a run has none."""
    values = [d.value(method, column or d.unit) for d in digests]
    return np.array([np.nan if value is None else float(value) for value in values])


def methods(digests: Iterable[Digest]) -> list[str]:
    """All methods, baselines first."""
    found: dict[str, bool] = {}
    for d in digests:
        found |= dict(d.table.select("method", "baseline").iter_rows())
    return sorted(found, key=lambda name: not found[name])


def best(digests: list[Digest], names: Iterable[str]) -> str | None:
    """Of these methods the one with the best mean validation score: test rows have no say. None where none has a score in every run."""
    means = {name: float(scores(digests, name, f"validation_{digests[0].unit}").mean()) for name in names}
    known = {name: mean for name, mean in means.items() if np.isfinite(mean)}
    return (min if digests[0].regression else max)(known, key=lambda name: known[name]) if known else None
