"""The same comparison run several times with different seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences with the bounds of its 95 % interval; infinite bounds for one pair."""

    mean: float
    low: float
    high: float
    pairs: int


def repeated(first: Sequence[float], second: Sequence[float], *, regression: bool) -> Difference:
    """One method's scores against another's, run by run; positive: the first is better (higher accuracy, or lower loss).

    The interval is Student's, on the differences: runs with the same seed share data, clients asked and batches, so their difference is what repeats.
    """
    gain = (np.asarray(first, dtype=float) - np.asarray(second, dtype=float)) * (-1.0 if regression else 1.0)
    n = len(gain)
    reach = float(stats.t.ppf(0.975, n - 1) * np.std(gain, ddof=1) / math.sqrt(n)) if n > 1 else math.inf
    mean = float(gain.mean())
    return Difference(mean, mean - reach, mean + reach, n)
