"""Methods ranked over cells of a study: what Friedman and Nemenyi say of mean ranks (J. Demsar, Statistical comparisons of classifiers over multiple data
sets, JMLR 2006). Cells are what is repeated; they should be different data, or the test takes one finding for many."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Ranking:
    """Mean ranks over cells; 1 is best."""

    methods: tuple[str, ...]  # best first
    ranks: tuple[float, ...]  # mean rank of each
    cells: int
    statistic: float  # Friedman's chi-square, ties taken into account; NaN where it can't be had
    p: float  # of no difference between methods; NaN where it can't be had
    critical: float  # mean ranks nearer than this are not told apart at 5 % (Nemenyi)

    def cliques(self) -> list[tuple[str, ...]]:
        """The largest groups of two or more neighbours whose mean ranks are not told apart."""
        found: list[tuple[int, int]] = []
        for start, rank in enumerate(self.ranks):
            end = max(i for i, other in enumerate(self.ranks) if other - rank < self.critical or i == start)
            if end > start and not any(end <= before for _, before in found):
                found.append((start, end))
        return [self.methods[start : end + 1] for start, end in found]


def ranks(scores: np.ndarray, *, regression: bool) -> np.ndarray:
    """float [cells, methods]: ranks within each cell, 1 = best, equal scores share their mean rank. NaN (diverged) counts as worst.

    scores: [cells, methods] accuracies, or losses where regression.
    """
    worse = np.asarray(scores, dtype=float) * (1.0 if regression else -1.0)
    return stats.rankdata(np.where(np.isnan(worse), np.inf, worse), axis=1)


def ranking(methods: list[str], scores: np.ndarray, *, regression: bool) -> Ranking:
    """Mean ranks of methods over cells (scores: [cells, methods], as for `ranks`), with Friedman's test and Nemenyi's critical difference."""
    each = ranks(scores, regression=regression)
    cells, k = each.shape
    mean = each.mean(axis=0)
    order = sorted(range(k), key=lambda i: (mean[i], i))
    statistic, p = math.nan, math.nan
    if k > 2 and cells > 1 and np.ptp(each, axis=1).any():
        statistic, p = (float(v) for v in stats.friedmanchisquare(*each.T))
    named = tuple(methods[i] for i in order), tuple(float(mean[i]) for i in order)
    return Ranking(*named, cells, statistic, p, critical_difference(k, cells))


def critical_difference(methods: int, cells: int, level: float = 0.05) -> float:
    """How far two mean ranks over `cells` cells must be apart to be told apart: q sqrt(k (k + 1) / 6 N), q of the studentized range over sqrt 2."""
    if methods < 2:
        return math.nan
    q = float(stats.studentized_range.ppf(1 - level, methods, np.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * cells))


def record(first: np.ndarray, second: np.ndarray, *, regression: bool) -> tuple[int, int, int]:
    """(won, tied, lost): cells in which the first method's score is better than, equal to and worse than the second's. NaN loses against any number."""
    sign = 1.0 if regression else -1.0
    a, b = (np.where(np.isnan(np.asarray(v, dtype=float)), np.inf, np.asarray(v, dtype=float) * sign) for v in (first, second))
    return int((a < b).sum()), int((a == b).sum()), int((a > b).sum())
