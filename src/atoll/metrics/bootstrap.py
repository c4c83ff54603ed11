"""Intervals by resampling, beside Student's, which lean on differences being normal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from atoll.metrics.repeats import Difference

DRAWS = 10_000
SEED = 0  # of the resampling: the same table twice gives the same interval


def resampled_seeds(first: Sequence[float], second: Sequence[float], *, regression: bool) -> Difference:
    """One method's scores against another's, run by run, as `repeated`: the 95 % percentile interval over resampled seeds.

    Resampled are whole seeds, the unit that a study repeats: clients of one run share its model, so they are no repetitions. Infinite bounds for one seed.
    With few seeds such an interval is too short (of two it is their range); Student's is the honest one then.
    """
    gain = (np.asarray(first, dtype=float) - np.asarray(second, dtype=float)) * (-1.0 if regression else 1.0)
    if len(gain) < 2:
        return Difference(float(gain.mean()), -np.inf, np.inf, len(gain))
    means = _times(len(gain)) @ gain / len(gain)
    low, high = np.quantile(means, (0.025, 0.975))
    return Difference(float(gain.mean()), float(low), float(high), len(gain))


def resampled_clients(scores: pl.DataFrame, first: str, second: str, *, regression: bool) -> Difference | None:
    """The difference of two methods' sample-weighted scores in one run, with its 95 % percentile interval over resampled clients; None without common ones.

    scores: as from `client_scores`. It says how far the gain hangs on who takes part, and nothing about other seeds or other splits.
    """
    columns = ["client", "rows", "total"]
    a, b = (scores.filter((pl.col("method") == m) & pl.col("score").is_finite()).select(columns) for m in (first, second))
    both = a.join(b, on="client", suffix="_b")
    if both.is_empty():
        return None
    gain = (both["total"] - both["total_b"]).to_numpy() * (-1.0 if regression else 1.0)
    rows = both["rows"].to_numpy().astype(float)
    mean = float(gain.sum() / rows.sum())
    if len(both) < 2:
        return Difference(mean, -np.inf, np.inf, len(both))
    times = _times(len(both))
    low, high = np.quantile((times @ gain) / (times @ rows), (0.025, 0.975))
    return Difference(mean, float(low), float(high), len(both))


def _times(n: int) -> np.ndarray:
    """int [DRAWS, n]: how often each of n units is drawn when n are drawn with replacement."""
    return np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=DRAWS)
