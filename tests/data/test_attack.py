"""Clients that train on wrong labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from atoll.data import load
from atoll.data.federation import SPLITS
from atoll.data.skew import Flip
from tests.data.support import owners, refuses


def splits(fed) -> np.ndarray:
    """int [rows]: 0 train, 1 validation, 2 test."""
    return np.repeat(np.arange(3), [fed.count[split].sum() for split in SPLITS])


def pair(skew, **more):
    how = {"skew": "iid", "clients": 20, **more}
    return load("digits", **how), load("digits", **{**how, "skew": ["iid", *([skew] if isinstance(skew, str) else skew)]})


@pytest.mark.parametrize("skew", ["flip:0.2", "flip:0.2,kind=permuted", "random:0.2"])
def test_only_train_and_validation_labels_of_attackers_change(skew):
    plain, bad = pair(skew, unseen=0.25)
    assert bad.attackers is not None
    assert bad.attackers.sum() == 3  # of 15 seen clients
    assert not bad.attackers[bad.seen :].any()
    np.testing.assert_array_equal(plain.x, bad.x)
    touched = bad.attackers[owners(bad)] & (splits(bad) < 2)
    np.testing.assert_array_equal(plain.y[~touched], bad.y[~touched])
    old, new = plain.y[touched], bad.y[touched]
    if skew == "flip:0.2":
        np.testing.assert_array_equal(new, 9 - old)
    elif "permuted" in skew:
        table = {(a, b) for a, b in zip(old, new, strict=True)}
        assert len(table) == len({a for a, _ in table}) == len({b for _, b in table}) == 10  # one map for all attackers, one to one
        assert all(a != b for a, b in table)
    else:
        assert (np.bincount(new, minlength=10) > 0).all()
        assert np.mean(new == old) == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / len(old)))
        assert abs(np.corrcoef(old, new)[0, 1]) < 4 / np.sqrt(len(old))


def test_a_share_of_their_rows():
    plain, bad = pair("flip:0.5,rows=0.3")
    assert bad.attackers is not None
    rows = bad.attackers[owners(bad)] & (splits(bad) < 2)
    assert (plain.y != bad.y).sum() == round(0.3 * rows.sum())  # no digit is its own opposite
    assert not (plain.y != bad.y)[~rows].any()


def test_two_attacks_take_different_clients_and_a_larger_share_the_same_and_more():
    (_, few), (_, many), (_, both) = pair("flip:0.1"), pair("flip:0.3"), pair(["flip:0.3", "random:0.7"])
    assert few.attackers is not None
    assert many.attackers is not None
    assert both.attackers is not None
    assert (few.attackers.sum(), many.attackers.sum(), both.attackers.sum()) == (2, 6, 20)
    assert (few.attackers <= many.attackers).all()
    assert both.name == "digits, iid, flip:0.3, random:0.7"
    assert "6 of 20 seen clients" in both.history[-2]
    assert "14 of 20 seen clients" in both.history[-1]


def test_they_are_seeded():
    (_, one), (_, same), (_, other) = pair("random:0.5"), pair("random:0.5"), pair("random:0.5", seed=1)
    np.testing.assert_array_equal(one.y, same.y)
    np.testing.assert_array_equal(one.attackers, same.attackers)
    assert not np.array_equal(one.attackers, other.attackers)


def test_composes_with_everything():
    fed = load("digits", skew=["dirichlet:0.1", "swap:4", "noise:0.1", "flip:0.2"], clients=10)
    assert fed.name == "digits, dirichlet:0.1, swap:4, noise:0.1, flip:0.2"
    assert fed.attackers is not None
    assert fed.groups is not None
    assert fed.attackers.sum() == 2
    assert fed.x.dtype == np.float32


def test_labels_of_every_position_of_a_sequence_are_turned_around():
    fed = load("digits", skew="iid", clients=3)
    fed = replace(fed, y=np.stack([fed.y, 9 - fed.y], axis=1))
    from atoll.data.skew.attack import attacked

    bad = attacked(fed, Flip(1.0), np.random.default_rng(0))
    rows = splits(bad) < 2
    np.testing.assert_array_equal(bad.y[rows], fed.y[rows][:, ::-1])
    np.testing.assert_array_equal(bad.y[~rows], fed.y[~rows])


def test_what_makes_no_sense_is_refused():
    with refuses("flip:0.2", "linear", "classification only"):
        load("linear", skew="flip:0.2")
    with refuses("random:0.6", "12 of 20", "10 are left"):
        load("digits", skew=["iid", "flip:0.5", "random:0.6"], clients=20)
    fed = load("digits", skew="iid", clients=3)
    with refuses("attackers", "one truth value per client (3)"):
        replace(fed, attackers=np.zeros(2, bool))
    with refuses("attackers", "one truth value"):
        replace(fed, attackers=np.zeros(3, int))
