"""How rows are dealt out to clients."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.data.skew import Classes, Dirichlet, Iid, Quantity
from atoll.data.skew.repair import fill_up
from tests.data.support import refuses

few = settings(max_examples=40, deadline=None)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@few
@given(
    rows=st.integers(4, 300),
    share=st.floats(0.01, 1),
    labels=st.integers(1, 8),
    seed=st.integers(0, 10**6),
    skew=st.sampled_from([Iid(), Quantity(power=2.0), Quantity(lognormal=1.5), Dirichlet(0.01), Dirichlet(1.0), Dirichlet(100.0, least=3)]),
)
def test_every_row_has_an_owner_and_every_client_has_rows(rows, share, labels, seed, skew):
    clients = max(1, int(share * rows / 2))
    y = rng(seed).integers(0, labels, rows)
    owner, _ = skew.deal(y, clients, rng(seed))
    again, _ = skew.deal(y, clients, rng(seed))
    np.testing.assert_array_equal(owner, again)
    sizes = np.bincount(owner, minlength=clients)
    assert len(sizes) == clients
    assert sizes.sum() == rows
    assert sizes.min() >= min(getattr(skew, "least", rows), rows // clients)


def test_iid_sizes_are_equal_and_rows_random():
    owner, _ = Iid().deal(np.zeros(103), 10, rng())
    assert set(np.bincount(owner)) == {10, 11}
    assert (np.diff(owner) != 0).sum() > 50


def test_power_law_sizes():
    owner, _ = Quantity(power=1.5, least=2).deal(np.zeros(100_000), 20, rng())
    extra = np.sort(np.bincount(owner))[::-1] - 2
    expected = np.arange(1, 21) ** -1.5
    np.testing.assert_allclose(extra, expected / expected.sum() * (100_000 - 40), atol=1)


def test_lognormal_sizes_have_the_deviation_asked_for():
    owner, _ = Quantity(lognormal=0.8, least=2).deal(np.zeros(400_000), 2_000, rng())
    assert np.log(np.bincount(owner) - 2).std() == pytest.approx(0.8, abs=0.06)


@few
@given(labels=st.integers(2, 10), k=st.integers(1, 5), clients=st.integers(1, 40), seed=st.integers(0, 1000))
def test_clients_have_k_classes_and_classes_are_shared_equally(labels, k, clients, seed):
    y = np.repeat(np.arange(labels), 100)
    if k > labels or clients * k < labels:
        with refuses(f"classes:{k}"):
            Classes(k).deal(y, clients, rng(seed))
        return
    owner, _ = Classes(k).deal(y, clients, rng(seed))
    has = np.zeros((clients, labels), int)
    np.add.at(has, (owner, y), 1)
    assert ((has > 0).sum(axis=1) == k).all()
    shared = (has > 0).sum(axis=0)
    assert shared.max() - shared.min() <= 1
    for label in range(labels):
        mine = has[has[:, label] > 0, label]
        assert mine.max() - mine.min() <= 1


def test_pairs_of_classes_vary():
    owner, _ = Classes(2).deal(np.repeat(np.arange(10), 100), 100, rng())
    pairs = {tuple(sorted(set((np.flatnonzero(owner == i) // 100).tolist()))) for i in range(100)}
    assert len(pairs) > 20


def test_clients_of_a_class_may_have_unequal_shares_of_it():
    """Each of 4 clients of a class first gets 2 rows; shares of the others have the variance of a Dirichlet law: .25 * .75 / (4 * .5 + 1) = .0625."""
    y = np.repeat([0, 1], 5_008)
    shares = []
    for seed in range(300):
        owner, _ = Classes(1, alpha=0.5).deal(y, 8, rng(seed))
        has = np.stack([np.bincount(owner[y == c], minlength=8) for c in (0, 1)])
        assert ((has > 0).sum(axis=0) == 1).all()
        assert has[has > 0].min() >= 2
        shares += [(row[row > 0] - 2) / 5_000 for row in has]
    assert np.var(shares) == pytest.approx(0.0625, abs=0.008)
    owner, _ = Classes(3, alpha=1e-300).deal(np.repeat(np.arange(10), 50), 20, rng())
    assert min(len(set((np.flatnonzero(owner == i) // 50).tolist())) for i in range(20)) == 3  # so small an alpha too leaves every client its classes


def test_dirichlet_proportions_have_the_right_spread():
    """A share of a symmetric Dirichlet law over K clients has variance (1/K)(1 - 1/K) / (K alpha + 1): here .25 * .75 / 3 = .0625."""
    y = np.zeros(10_000, int)
    shares = [np.bincount(Dirichlet(0.5, least=2).deal(y, 4, rng(seed))[0], minlength=4) / len(y) for seed in range(400)]
    assert np.var(shares) == pytest.approx(0.0625, abs=0.008)
    assert np.mean(shares, axis=0) == pytest.approx(np.full(4, 0.25), abs=0.04)


def test_classes_are_drawn_apart():
    y = np.repeat([0, 1], 5_000)
    owner, _ = Dirichlet(0.3).deal(y, 10, rng())
    a, b = (np.bincount(owner[y == c], minlength=10) for c in (0, 1))
    assert (a != b).any()


@pytest.mark.parametrize("alpha", [1e-300, 1e-9, 1e-3])
def test_tiny_alpha_with_many_clients_ends_at_once(alpha):
    y = rng().integers(0, 10, 40_000)
    before = time.perf_counter()
    owner, note = Dirichlet(alpha).deal(y, 2_000, rng())
    assert time.perf_counter() - before < 5
    assert np.bincount(owner, minlength=2_000).min() == 10
    moved = int(note.split()[0])
    assert moved >= 10 * (2_000 - 400)  # some dozen clients had nearly everything


def test_huge_alpha_is_nearly_even():
    owner, note = Dirichlet(1e6).deal(np.zeros(10_000, int), 10, rng())
    assert np.abs(np.bincount(owner) - 1000).max() < 20
    assert note.startswith("0 of")


@few
@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=10), seed=st.integers(0, 1000))
def test_filling_up_comes_to_taking_from_the_largest_one_by_one(sizes, seed):
    owner = np.repeat(np.arange(len(sizes)), sizes)
    least = min(5, len(owner) // len(sizes))
    if not len(owner):
        return
    new, moved = fill_up(owner, len(sizes), least, rng(seed))
    slow, steps = list(sizes), 0
    while min(slow) < least:
        slow[int(np.argmax(slow))] -= 1
        slow[int(np.argmin(slow))] += 1
        steps += 1
    assert sorted(np.bincount(new, minlength=len(sizes))) == sorted(slow)
    assert moved == steps == (new != owner).sum()


def test_rows_that_fill_clients_up_are_random():
    owner = np.array([0] * 1000)
    new, _ = fill_up(owner, 2, 100, rng())
    moved = np.flatnonzero(new == 1)
    assert 400 < moved.mean() < 600
    assert (new != fill_up(owner, 2, 100, rng(1))[0]).any()
