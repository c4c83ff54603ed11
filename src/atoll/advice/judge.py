"""What scores on test rows show, and the rule by which they become an answer: pure functions, which know neither methods nor models.

Who is compared was chosen beforehand on other rows (validation), so nothing here needs a correction for having looked at several candidates. "Better than a
common model and than training alone" holds where both comparisons hold, each with an error of 2.5 % on its side, and needs none either (Berger, 1982).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

FEW = 10  # clients below which an interval is about rows of these clients, not about clients

Kind = Literal["personalize", "common", "alone", "unclear"]


@dataclass(frozen=True)
class Gain:
    """By how much one is better than another, every row counting alike: accuracy in 0..1, or mean loss saved."""

    mean: float
    low: float  # of the 95 % interval
    high: float
    steady: bool  # the gain is positive in every split

    @property
    def shown(self) -> bool:
        """Whether it is more than nothing, beyond what chance explains."""
        return self.low > 0 and self.steady

    def absent(self, worth: float) -> bool:
        """Whether no gain worth having was seen: none at all, or one that is surely smaller than `worth`."""
        return self.mean <= 0 or self.high < worth


class Gains(NamedTuple):
    """What an answer rests on."""

    common: Gain  # the best personal method over the best common model
    alone: Gain  # the best personal method over training alone
    split: Gain  # training alone over the best common model
    tuned: Gain  # the best personal method over FedAvg+FT
    tuned_common: Gain  # FedAvg+FT over the best common model
    tuned_alone: Gain  # FedAvg+FT over training alone


class Verdict(NamedTuple):
    """The answer. "alone": clients do best by themselves, and federation is not what helps them."""

    kind: Kind
    simple: bool  # personalize: fine-tuning the common model is enough
    open: tuple[str, ...]  # unclear: the fields of Gains that are not settled


def gain(rows: np.ndarray, first: np.ndarray, second: np.ndarray, *, regression: bool, ratio: float | None) -> Gain:
    """How much better `first` is than `second`, each client compared with itself.

    rows, first, second: [splits, clients] test rows and what is summed over them (rows right, or losses). ratio: test rows per train row where every split
    drew its test rows anew; None where all splits have the same test rows.

    From FEW clients on the interval is over clients: Student's, with the linearised variance of a ratio of sums (a client's splits go together). Fewer
    clients are hardly a sample of clients; where splits differ, it is then over splits, about other rows of these clients: variances between a client's
    splits, larger by the correction of Nadeau and Bengio (2003) because splits share train rows, with degrees of freedom by Satterthwaite.
    """
    difference = (second - first) if regression else (first - second)
    mean = float(difference.sum() / rows.sum())
    steady = bool((difference.sum(axis=1) > 0).all())
    splits, clients = rows.shape
    over_splits = clients < FEW and splits > 1 and ratio is not None
    error, freedom = _over_splits(rows, difference, ratio or 0.0) if over_splits else _over_clients(rows, difference)
    reach = error * float(stats.t.ppf(0.975, freedom)) if error > 0 else error
    return Gain(mean, mean - reach, mean + reach, steady)


def _over_clients(rows: np.ndarray, difference: np.ndarray) -> tuple[float, float]:
    """Standard error and degrees of freedom."""
    n, d = rows.sum(axis=0), difference.sum(axis=0)
    clients = len(n)
    if clients < 2:
        return math.inf, 1
    rest = d - n * d.sum() / n.sum()
    return math.sqrt(clients / (clients - 1) * float((rest**2).sum())) / float(n.sum()), clients - 1


def _over_splits(rows: np.ndarray, difference: np.ndarray, ratio: float) -> tuple[float, float]:
    splits = len(rows)
    share = rows.sum(axis=0) / rows.sum()
    each = share**2 * (difference / np.maximum(rows, 1)).var(axis=0, ddof=1)
    if not each.sum():
        return 0.0, 1
    freedom = float(each.sum() ** 2 / (each**2 / (splits - 1)).sum())
    return math.sqrt((1 / splits + ratio) * float(each.sum())), freedom


def judge(gains: Gains, worth: float) -> Verdict:
    """The answer. worth: the smallest gain for which it is worth keeping models apart, in units of the gains.

    Personalizing must be better than the best common model and than training alone. Where it is, plain fine-tuning is preferred unless something is shown
    to be better. Where no gain was seen, or only one smaller than `worth`, the answer is no: who wants to personalize has to show that it pays.
    """
    g = gains
    if g.common.shown and g.alone.shown and g.common.high >= worth and g.alone.high >= worth:
        simple = not g.tuned.shown and g.tuned_common.shown and g.tuned_alone.mean > 0
        return Verdict("personalize", simple, ())
    apart = g.split.shown and g.split.high >= worth  # clients by themselves beat what they have in common
    if apart and (g.alone.absent(worth) or g.common.absent(worth)):
        return Verdict("alone", False, ())
    if g.common.absent(worth):
        return Verdict("common", False, ())
    if g.common.shown and g.alone.absent(worth):
        return Verdict("alone", False, ())
    return Verdict("unclear", False, tuple(name for name in ("common", "alone") if not getattr(g, name).shown))


def more_rows(gain: Gain, worth: float) -> float:
    """How many times as much evidence would settle a gain of this size (or of `worth`, where it is smaller): intervals shrink with its root."""
    target = max(abs(gain.mean), worth)
    return max(1.0, ((gain.high - gain.low) / 2 / target) ** 2)
