"""Splits, unseen clients and row order, on rows that carry their number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.data import build
from atoll.data.federation import SPLITS
from tests.data.support import numbered, owners, refuses

few = settings(max_examples=30, deadline=None)


def made(sizes: list[int], **how):
    """Clients of these sizes, their rows interleaved; x is the number of the row, y one of three labels."""
    owner = np.random.default_rng(7).permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = len(owner)
    return build(numbered(rows), np.arange(rows) % 3, owner, **how), owner


@few
@given(
    sizes=st.lists(st.integers(3, 40), min_size=1, max_size=12),
    seed=st.integers(0, 1000),
    unseen=st.sampled_from([0.0, 0.2, 0.5]),
    split=st.sampled_from([(0.6, 0.2, 0.2), (0.1, 0.1, 0.8), (0.9, 0.05, 0.05), (0.5, 0.0, 0.5)]),
)
def test_no_row_is_lost_doubled_or_given_to_another(sizes, seed, unseen, split):
    if len(sizes) == 1:
        unseen = 0.0
    fed, owner = made(sizes, seed=seed, unseen=unseen, split=split)
    rows = fed.x[:, 0].astype(int)
    assert sorted(rows) == list(range(sum(sizes)))
    np.testing.assert_array_equal(fed.y, rows % 3)
    old = np.array([int(name) for name in fed.names])
    np.testing.assert_array_equal(old[owners(fed)], owner[rows])
    assert (fed.count["train"] >= 1).all()
    assert (fed.count["test"] >= 1).all()
    assert (fed.count["validation"] >= (1 if split[1] else 0)).all()
    assert len(fed.names) - fed.seen == (0 if not unseen else min(max(1, round(unseen * len(sizes))), len(sizes) - 1))
    assert list(old[: fed.seen]) == sorted(old[: fed.seen])


def test_sizes_of_splits():
    fed, _ = made([2, 3, 4, 10, 100], split=(0.6, 0.2, 0.2))
    assert fed.count["train"].tolist() == [1, 1, 2, 6, 60]
    assert fed.count["validation"].tolist() == [0, 1, 1, 2, 20]
    assert fed.count["test"].tolist() == [1, 1, 1, 2, 20]


def test_same_seed_same_rows_another_seed_others():
    a, b, c = (made([30, 20], seed=seed)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(a.x, b.x)
    assert (a.x != c.x).any()


def test_seen_train_rows_come_first():
    fed, _ = made([10, 10, 10, 10], unseen=0.5)
    n = int(fed.count["train"][: fed.seen].sum())
    assert set(owners(fed)[:n].tolist()) == {0, 1}


def test_names_and_labels_may_be_text():
    fed = build(numbered(8), np.array(list("babababa")), np.array(["north"] * 4 + ["south"] * 4))
    assert fed.labels == ("a", "b")
    assert fed.names == ("north", "south")
    np.testing.assert_array_equal(fed.y, (fed.x[:, 0] % 2 == 0).astype(np.int32))


def test_whole_numbers_kept_as_floats_are_labels():
    assert build(numbered(8), np.array([1.0, 2.0] * 4), np.repeat([0, 1], 4)).labels == ("1", "2")


def test_regression_keeps_targets():
    fed = build(numbered(8), np.arange(8) / 2, np.repeat([0, 1], 4), task="regression")
    assert fed.labels == ()
    np.testing.assert_array_equal(fed.y, fed.x[:, 0] / 2)


def test_standardising_uses_train_rows_of_seen_clients_only():
    x = np.random.default_rng(0).normal(5, 3, (80, 4)).astype(np.float32)
    x[:, 3] = 2.0  # constant
    owner = np.repeat(np.arange(4), 20)
    plain = build(x, np.arange(80) % 2, owner, unseen=0.25)
    outlier = int(plain.names[-1])
    x[owner == outlier] *= 1000
    fed = build(x, np.arange(80) % 2, owner, unseen=0.25, standardise=True)
    assert fed.names == plain.names
    rows = fed.x[: int(fed.count["train"][: fed.seen].sum())]
    z = (rows - fed.shift) * fed.scale
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(z.std(axis=0), [1, 1, 1, 0], atol=1e-5)
    assert np.asarray(fed.scale)[3] == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y": np.arange(7)}, ["same rows"]),
        ({"x": np.arange(8)}, ["[rows, values]"]),
        ({"x": np.zeros((8, 1), np.int64)}, ["int64", "uint8"]),
        ({"x": np.array([["a"]] * 8)}, ["x is <U1"]),
        ({"y": np.array([0, 1, 0.5, 1] * 2)}, ["0.5 in row 2", "task='regression'"]),
        ({"y": np.array([0, 1, 1, np.nan] * 2)}, ["nan in row 3"]),
        ({"owner": np.array([0] * 7 + [1])}, ["client '1' has 1 row", "at least 2"]),
        ({"task": "guess"}, ["'guess'", "regression"]),
        ({"unseen": 1.0}, ["unseen=1.0"]),
        ({"unseen": 0.5, "owner": np.zeros(8, int)}, ["only one"]),
        ({"split": (0.5, 0.5)}, ["three shares"]),
        ({"split": (0.5, 0.2, 0.2)}, ["add up to 1"]),
        ({"split": (0.5, 0.5, 0.0)}, ["above 0"]),
        ({"split": (1.2, -0.4, 0.2)}, ["three shares"]),
    ],
)
def test_what_can_not_be_built_is_refused(change, words):
    content = {"x": numbered(8), "y": np.arange(8) % 2, "owner": np.repeat([0, 1], 4), **change}
    with refuses(*words):
        build(content.pop("x"), content.pop("y"), content.pop("owner"), **content)


def test_many_clients_take_no_time():
    owner = np.repeat(np.arange(50_000), 4)
    fed = build(numbered(200_000), np.arange(200_000) % 2, owner, unseen=0.2)
    assert all((fed.count[split] == n).all() for split, n in zip(SPLITS, (2, 1, 1), strict=True))
