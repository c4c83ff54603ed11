"""Resampled train rows: how many there are, where new ones lie, and what stays as it was."""

import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.data import build, load, resample
from atoll.data.resampling import KINDS
from tests.harness import federation


def rows(fed, split, i):
    first, n = fed.start[split][i], fed.count[split][i]
    return fed.x[first : first + n], fed.y[first : first + n]


@pytest.fixture(scope="module")
def skewed():
    return load("digits", skew="dirichlet:0.5", clients=6, seed=1)


@pytest.mark.parametrize("kind", KINDS)
def test_validation_and_test_rows_stay(skewed, kind):
    new = resample(skewed, kind)
    for split in ("validation", "test"):
        for i in range(6):
            for old, got in zip(rows(skewed, split, i), rows(new, split, i), strict=True):
                np.testing.assert_array_equal(old, got)
    assert kind in new.name
    assert new.history[:-1] == skewed.history


def test_smote_makes_all_labels_equally_frequent(skewed):
    """But for those that a client has a single row of; and the old rows are still there, first."""
    new = resample(skewed, "smote")
    for i in range(6):
        (x, y), (x_new, y_new) = rows(skewed, "train", i), rows(new, "train", i)
        before, after = np.bincount(y, minlength=10), np.bincount(y_new, minlength=10)
        np.testing.assert_array_equal(after, np.where(before >= 2, before.max(), before))
        np.testing.assert_array_equal(x_new[: len(x)], x)


@pytest.mark.parametrize("kind", ["smote", "adasyn"])
def test_new_rows_lie_between_two_rows_of_their_client_and_label(skewed, kind):
    new = resample(skewed, kind)
    for i in range(6):
        (x, y), (x_new, y_new) = rows(skewed, "train", i), rows(new, "train", i)
        flat = x.reshape(len(x), -1).astype(np.float64)
        made, labels = x_new[len(x) :].reshape(-1, 64).astype(np.float64), y_new[len(x) :]
        for row, label in list(zip(made, labels, strict=True))[::9]:
            ends = flat[y == label]
            way = ends[None] - ends[:, None]  # from each to each
            length = (way**2).sum(-1) + 1e-12
            share = np.clip(((row - ends[:, None]) * way).sum(-1) / length, 0, 1)
            assert np.abs(ends[:, None] + share[..., None] * way - row).max(-1).min() < 1e-3


def test_adasyn_leaves_a_label_alone_whose_neighbours_are_its_own():
    """Two labels far apart: nothing is hard to learn, so nothing is made. Where they mix, rows are made."""
    random = np.random.default_rng(0)
    y = np.array([0] * 30 + [1] * 12)
    apart, mixed = (random.normal(size=(42, 2)) + distance * y[:, None] for distance in (100, 0.5))
    for x, grows in ((apart, False), (mixed, True)):
        fed = build(x.astype(np.float32), y, np.zeros(42, int), split=(0.8, 0.0, 0.2))
        assert (resample(fed, "adasyn").count["train"][0] > fed.count["train"][0]) == grows


def test_tomek_drops_the_frequent_end_of_a_link():
    """On a line 0:A, 1:A, 1.4:B, 3:B, 3.1:B the only link is (1, 1.4); B is more frequent, so 1.4 goes."""
    x, y = np.array([[0.0], [1.0], [1.4], [3.0], [3.1], [9.0]], np.float32), np.array(["A", "A", "B", "B", "B", "B"])
    fed = build(x, y, np.zeros(6, int), split=(0.8, 0.0, 0.2), seed=3)
    own, labels = rows(fed, "train", 0)
    assert 1.0 in own
    assert 1.4 in own
    kept = rows(resample(fed, "tomek"), "train", 0)[0]
    assert sorted(set(own.ravel().round(4)) - set(kept.ravel().round(4))) == [np.float32(1.4).round(4)]
    assert len(labels) - len(kept) == 1


def test_the_same_seed_gives_the_same_rows(skewed):
    a, b, c = (resample(skewed, "smote", seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a.x, b.x)
    assert not np.array_equal(a.x, c.x)


def test_what_can_not_be_evened_out_is_refused():
    with pytest.raises(AtollError, match="Did you mean smote"):
        load("digits", resample="smotee")
    fed = build(np.zeros((10, 2), np.float32), np.arange(10.0), np.zeros(10, int), task="regression")
    with pytest.raises(AtollError, match="no sense for regression"):
        resample(fed, "smote")


def test_adasyn_where_the_shares_of_all_rows_round_to_none():
    """One row is wanting, and ten rows near the other label would share it."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(23, 2)).astype(np.float32), np.array([0] * 11 + [1] * 10 + [0, 1], np.int32)
    fed = federation(x, y, [(21, 1, 1)])
    assert resample(fed, "adasyn").count["train"].tolist() == [21]
