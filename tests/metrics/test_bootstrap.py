"""Intervals by resampling, where they can be had otherwise."""

import math

import numpy as np
import polars as pl
import pytest
from scipy import stats

from atoll.metrics import paired, repeated, resampled_clients, resampled_seeds


def test_of_two_seeds_it_is_their_range():
    """The mean of two draws is the smaller one with probability 1/4, their middle with 1/2, and the larger one with 1/4."""
    found = resampled_seeds([0.5, 0.9], [0.4, 0.5], regression=False)
    assert (found.low, found.mean, found.high) == pytest.approx((0.1, 0.25, 0.4))
    turned = resampled_seeds([0.5, 0.9], [0.4, 0.5], regression=True)
    assert (turned.low, turned.mean, turned.high) == pytest.approx((-0.4, -0.25, -0.1))


def test_of_three_seeds_by_the_multinomial():
    """All three draws are the smallest with probability 1/27 = 3.7 %, which is more than 2.5 %."""
    found = resampled_seeds([1.0, 2.0, 4.0], [0.0, 0.0, 0.0], regression=False)
    assert (found.low, found.high) == (1.0, 4.0)


def test_of_many_it_is_students():
    values = np.random.default_rng(1).normal(0.02, 0.1, 400)
    a, b = resampled_seeds(list(values), [0.0] * 400, regression=False), repeated(list(values), [0.0] * 400, regression=False)
    assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=6e-4)


def test_one_seed_says_nothing():
    found = resampled_seeds([0.5], [0.4], regression=False)
    assert (found.low, found.high, found.pairs) == (-math.inf, math.inf, 1)


def scores(**methods):
    parts = [pl.DataFrame({"method": m, "client": range(len(t)), "rows": rows, "total": t}) for m, (rows, t) in methods.items()]
    return pl.concat(parts, how="vertical_relaxed").with_columns((pl.col("total") / pl.col("rows")).alias("score"))


def test_over_clients_it_is_the_weighted_difference_with_the_delta_methods_error():
    rng = np.random.default_rng(2)
    rows = rng.integers(5, 50, 500)
    a, b = (rng.binomial(rows, p).astype(float) for p in (0.7, 0.6))
    table = scores(A=(rows, a), B=(rows, b))
    found = resampled_clients(table, "A", "B", regression=False)
    one = paired(table, "A", "B", regression=False)
    assert found is not None
    assert one is not None
    assert found.mean == pytest.approx(one.weighted)
    off = (a - b) - found.mean * rows  # a ratio's error, to first order
    error = math.sqrt((off**2).sum()) / rows.sum()
    reach = stats.norm.ppf(0.975) * error
    assert (found.low, found.high) == pytest.approx((found.mean - reach, found.mean + reach), abs=0.1 * reach)


def test_over_clients_with_nothing_to_compare():
    table = scores(A=([4], [1.0]), B=([4], [2.0]))
    assert resampled_clients(table, "A", "C", regression=False) is None
    found = resampled_clients(table, "A", "B", regression=False)
    assert found is not None
    assert (found.mean, found.low, found.high) == (-0.25, -math.inf, math.inf)
