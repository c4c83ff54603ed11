"""Ranks over cells, against Demsar (2006) and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from atoll.metrics import critical_difference, ranking, ranks, record

# Demsar 2006, table 6: AUC of C4.5 as it is, and with pruning parameters m, cf and both chosen by cross-validation, on 14 data sets.
# The last two of "voting" are printed alike (0.975) and ranked 2 and 3.
DEMSAR = np.array([
    [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967], [0.628, 0.661, 0.654, 0.657],
    [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931], [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625],
    [0.775, 0.838, 0.866, 0.875], [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
])  # fmt: skip


def test_mean_ranks_are_demsars():
    """Printed as 3.143, 2.000, 2.893 and 1.964; chi-square 9.28, critical difference 1.25."""
    made = ranking(["C4.5", "m", "cf", "both"], DEMSAR, regression=False)
    assert made.methods == ("both", "m", "cf", "C4.5")
    assert made.ranks == pytest.approx((1.964, 2.000, 2.893, 3.143), abs=5e-4)
    assert made.critical == pytest.approx(1.25, abs=0.005)
    plain = 12 * 14 / (4 * 5) * (sum(r**2 for r in made.ranks) - 4 * 5**2 / 4)  # without ties
    assert plain == pytest.approx(9.28, abs=0.005)
    assert made.statistic > plain  # ties make the same ranks more telling
    assert made.p == pytest.approx(stats.chi2.sf(made.statistic, 3))


def test_friedman_without_ties_is_the_formula():
    scores = np.random.default_rng(0).random((9, 5))
    made = ranking(list("abcde"), scores, regression=False)
    assert made.statistic == pytest.approx(12 * 9 / 30 * (sum(r**2 for r in made.ranks) - 5 * 36 / 4))


@pytest.mark.parametrize(("methods", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_the_critical_difference_has_the_textbooks_quantiles(methods, q):
    """Demsar 2006, table 5a. For two methods q is the normal quantile."""
    assert critical_difference(methods, 14) == pytest.approx(q * math.sqrt(methods * (methods + 1) / (6 * 14)), abs=1e-3)


def test_two_methods_need_the_normal_quantile():
    assert critical_difference(2, 10) == pytest.approx(stats.norm.ppf(0.975) * math.sqrt(6 / 60), rel=1e-6)


def test_cliques_are_the_largest_groups_not_told_apart():
    scores = np.repeat([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4]], 20, axis=0)  # ranks 1 to 6, critical difference 1.686
    made = ranking(list("abcdef"), scores, regression=False)
    assert made.critical == pytest.approx(2.850 * math.sqrt(42 / 120), abs=1e-3)
    assert made.cliques() == [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "f")]
    few = ranking(list("abc"), scores[:1, :3], regression=False)
    assert few.cliques() == [("a", "b", "c")]
    assert math.isnan(few.p)


def test_losses_rank_the_other_way_and_divergence_is_last():
    scores = np.array([[0.3, 0.1, np.nan], [0.2, 0.2, 0.5]])
    assert ranks(scores, regression=True).tolist() == [[2, 1, 3], [1.5, 1.5, 3]]
    assert ranks(scores, regression=False).tolist() == [[1, 2, 3], [2.5, 2.5, 1]]


def test_wins_ties_and_losses():
    a, b = np.array([0.5, 0.5, 0.5, np.nan, np.nan]), np.array([0.4, 0.5, 0.6, 0.1, np.nan])
    assert record(a, b, regression=False) == (1, 2, 2)
    assert record(a, b, regression=True) == (1, 2, 2)
    assert record(b, a, regression=False) == (2, 2, 1)
