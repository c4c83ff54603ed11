"""The rule on made-up scores: intervals against other ways to have them, and every branch of the answer by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from atoll.advice.judge import Gain, Gains, gain, judge, more_rows


def of(mean: float, reach: float, *, steady: bool | None = None) -> Gain:
    return Gain(mean, mean - reach, mean + reach, mean > 0 if steady is None else steady)


YES, SMALL, OPEN, NONE, TINY = of(0.05, 0.02), of(0.004, 0.002), of(0.03, 0.05), of(-0.01, 0.05), of(0.002, 0.004)


def gains(common: Gain, alone: Gain, split: Gain = NONE, tuned: Gain = NONE, tuned_common: Gain = YES, tuned_alone: Gain = YES) -> Gains:
    return Gains(common, alone, split, tuned, tuned_common, tuned_alone)


@pytest.mark.parametrize(
    ("found", "kind", "simple", "unsettled"),
    [
        (gains(YES, YES), "personalize", True, ()),
        (gains(YES, YES, tuned=YES), "personalize", False, ()),  # something is better than fine-tuning
        (gains(YES, YES, tuned_common=OPEN), "personalize", False, ()),  # fine-tuning itself is not shown to help
        (gains(YES, YES, tuned_alone=NONE), "personalize", False, ()),  # nor better than training alone
        (gains(NONE, YES), "common", False, ()),
        (gains(TINY, YES), "common", False, ()),  # surely less than a point
        (gains(SMALL, YES), "common", False, ()),  # shown, and surely less than a point
        (gains(NONE, NONE), "common", False, ()),
        (gains(NONE, NONE, split=YES), "alone", False, ()),
        (gains(NONE, NONE, split=SMALL), "common", False, ()),  # alone is better, by less than counts
        (gains(YES, NONE), "alone", False, ()),
        (gains(YES, SMALL), "alone", False, ()),
        (gains(YES, TINY, split=YES), "alone", False, ()),
        (gains(OPEN, NONE, split=YES), "alone", False, ()),
        (gains(OPEN, OPEN), "unclear", False, ("common", "alone")),
        (gains(YES, OPEN), "unclear", False, ("alone",)),
        (gains(OPEN, YES), "unclear", False, ("common",)),
        (gains(OPEN, NONE), "unclear", False, ("common", "alone")),
        (gains(YES, OPEN, split=YES), "unclear", False, ("alone",)),
        (gains(of(0.05, 0.02, steady=False), YES), "unclear", False, ("common",)),  # splits disagree
    ],
)
def test_every_answer(found, kind, simple, unsettled):
    verdict = judge(found, 0.01)
    assert (verdict.kind, verdict.simple, verdict.open) == (kind, simple, unsettled)


def test_what_counts_as_a_gain_is_the_askers_choice():
    assert judge(gains(SMALL, SMALL), 0.01).kind == "common"
    assert judge(gains(SMALL, SMALL), 0.001).kind == "personalize"


def test_over_clients_it_is_the_t_interval_where_sizes_are_equal():
    rng = np.random.default_rng(0)
    rows = np.full((1, 12), 50)
    first, second = rng.integers(20, 50, (2, 1, 12)).astype(float)
    found = gain(rows, first, second, regression=False, ratio=1 / 3)
    expected = stats.ttest_1samp((first - second)[0] / 50, 0).confidence_interval(0.95)
    assert found.mean == pytest.approx(float((first - second).mean() / 50))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_over_clients_of_unequal_sizes_it_covers_the_truth():
    """Clients of a population whose true gain is known, 0.02 on average over rows: near 95 of 100 intervals have it inside."""
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(1000):
        rows = rng.integers(20, 100, (1, 30))
        other = rng.binomial(rows, 0.8)
        mine = other + rng.binomial(rows - other, 0.2) - rng.binomial(other, 0.025)  # 0.2 * 0.2 - 0.8 * 0.025
        found = gain(rows, mine.astype(float), other.astype(float), regression=False, ratio=None)
        inside += found.low <= 0.02 <= found.high
    assert 925 <= inside <= 970


def test_over_splits_by_hand():
    """One client, three splits with gains of 0, 2 and 4 of 10 rows: variance 0.04, times 1/3 + 1/3 for common train rows, 2 degrees of freedom."""
    rows, nothing = np.full((3, 1), 10), np.full((3, 1), 5.0)
    found = gain(rows, nothing + np.array([[0.0], [2.0], [4.0]]), nothing, regression=False, ratio=1 / 3)
    reach = float(stats.t.ppf(0.975, 2)) * math.sqrt(0.04 * (1 / 3 + 1 / 3))
    assert (found.mean, found.low, found.high) == pytest.approx((0.2, 0.2 - reach, 0.2 + reach))
    assert not found.steady  # no gain in the first


def test_over_splits_degrees_of_freedom_add_up():
    """Two clients of equal size and spread have twice the degrees of freedom of one, and half its variance."""
    rows, nothing = np.full((3, 2), 10), np.full((3, 2), 5.0)
    found = gain(rows, nothing + np.array([[0.0, 4.0], [2.0, 2.0], [4.0, 0.0]]), nothing, regression=False, ratio=1 / 3)
    reach = float(stats.t.ppf(0.975, 4)) * math.sqrt(0.04 / 2 * (1 / 3 + 1 / 3))
    assert found.high - found.mean == pytest.approx(reach)


def test_few_clients_whose_splits_have_the_same_test_rows_are_not_told_apart_by_splits():
    rows, nothing = np.full((3, 1), 10), np.full((3, 1), 5.0)
    found = gain(rows, nothing + 3, nothing, regression=False, ratio=None)
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert not found.shown
    assert not found.absent(0.01)


def test_losses_are_better_where_they_are_smaller():
    rows = np.full((1, 20), 10)
    found = gain(rows, np.full((1, 20), 4.0), np.full((1, 20), 5.0), regression=True, ratio=None)
    assert (found.mean, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))


def test_clients_without_test_rows_weigh_nothing():
    rng = np.random.default_rng(2)
    first, second = rng.integers(0, 10, (2, 2, 12)).astype(float)
    rows = np.full((2, 12), 10)
    rows[:, 5] = first[:, 5] = second[:, 5] = 0
    found = gain(rows, first, second, regression=False, ratio=1 / 3)
    assert math.isfinite(found.high)
    assert found.mean == pytest.approx(float((first - second).sum() / 220))


def test_how_much_more_evidence_is_needed():
    assert more_rows(of(0.02, 0.04), 0.01) == pytest.approx(4)  # an interval half as wide
    assert more_rows(of(0.001, 0.04), 0.01) == pytest.approx(16)
    assert more_rows(of(0.5, 0.04), 0.01) == 1
