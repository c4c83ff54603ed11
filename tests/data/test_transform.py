"""Rotated images and swapped labels."""

from __future__ import annotations

import numpy as np
import pytest

from atoll.data import build, load
from atoll.data.skew import Rotate, Swap
from atoll.data.table import Table
from tests.data.support import owners, refuses


def images(x: np.ndarray) -> Table:
    return Table("images", x, np.zeros(len(x), np.int32), ("0", "1"))


def test_quarter_turns_are_exact():
    plain, turned = load("digits", skew="iid", clients=8), load("digits", skew=["iid", "rotate:4"], clients=8)
    assert turned.groups is not None
    assert sorted(turned.groups) == [0, 0, 1, 1, 2, 2, 3, 3]
    np.testing.assert_array_equal(plain.y, turned.y)
    group = turned.groups[owners(turned)]
    for g in range(4):
        np.testing.assert_array_equal(np.rot90(plain.x[group == g], g, axes=(1, 2)), turned.x[group == g])


def test_other_angles_turn_the_same_way():
    """A dot above the centre of a 9x9 image, turned counterclockwise by 45 degrees, lies up and to the left; at 90 degrees, left."""
    x = np.zeros((3, 9, 9), np.uint8)
    x[:, 1, 4] = 200
    turned, _ = Rotate(8).apply(images(x), np.array([0, 1, 2]), np.random.default_rng(0))
    peaks = [np.unravel_index(image.argmax(), (9, 9)) for image in turned]
    assert peaks == [(1, 4), (2, 2), (4, 1)]
    assert turned.dtype == np.uint8
    assert x[1, 1, 4] == 200  # the given rows are left alone


def test_what_comes_in_at_the_corners_is_the_darkest_value():
    x = np.full((2, 6, 6, 3), 1.0, np.float32)
    x[:, 3, 3] = -1.0
    turned, _ = Rotate(3).apply(images(x), np.array([0, 1]), np.random.default_rng(0))
    assert turned.shape == x.shape
    assert turned[1, 0, 0] == pytest.approx(-1.0)


@pytest.mark.parametrize("k", [2, 4, 10])
def test_swapped_labels(k):
    plain, swapped = load("digits", skew="iid", clients=20), load("digits", skew=["iid", f"swap:{k}"], clients=20)
    assert swapped.groups is not None
    np.testing.assert_array_equal(plain.x, swapped.x)
    group = swapped.groups[owners(swapped)]
    maps = np.full((k, 10), -1)
    maps[group, plain.y] = swapped.y
    np.testing.assert_array_equal(maps[group, plain.y], swapped.y)  # it is a map of labels
    assert (maps[0] == np.arange(10)).all()
    assert all(sorted(row) == list(range(10)) for row in maps)
    assert all(len(set(column)) == k for column in maps.T)  # no two groups agree on any label


def test_some_labels_swapped():
    """6 of 10 labels take part: groups agree on the other 4 and on none of these."""
    plain, swapped = load("digits", skew="iid", clients=20), load("digits", skew=["iid", "swap:3,share=0.6"], clients=20)
    assert swapped.groups is not None
    group = swapped.groups[owners(swapped)]
    maps = np.full((3, 10), -1)
    maps[group, plain.y] = swapped.y
    np.testing.assert_array_equal(maps[group, plain.y], swapped.y)
    assert all(sorted(row) == list(range(10)) for row in maps)
    assert sorted(len(set(column)) for column in maps.T) == [1] * 4 + [3] * 6


def test_both_at_once_make_groups_of_pairs():
    fed = load("digits", skew=["rotate:2", "swap:3"], clients=12)
    assert fed.groups is not None
    assert sorted(fed.groups) == sorted(list(range(6)) * 2)
    assert fed.name == "digits by writing form, rotate:2, swap:3"


def test_groups_follow_clients_that_are_held_out():
    all_seen, some = (load("digits", skew="rotate:4", unseen=share) for share in (0, 0.3))
    assert all_seen.groups is not None
    assert some.groups is not None
    assert dict(zip(all_seen.names, all_seen.groups, strict=True)) == dict(zip(some.names, some.groups, strict=True))
    assert some.names != all_seen.names


def test_public_rows_stay_as_they_are():
    plain, swapped = load("digits", public=50), load("digits", skew=["swap:4", "rotate:4"], public=50)
    assert plain.public is not None
    assert swapped.public is not None
    np.testing.assert_array_equal(plain.public[0], swapped.public[0])
    np.testing.assert_array_equal(plain.public[1], swapped.public[1])


def test_what_makes_no_sense_is_refused():
    with refuses("rotate:4", "only images", "[60]"):
        load("synthetic", skew="rotate:4")
    with refuses("swap:2", "linear", "classification only"):
        load("linear", skew="swap:2")
    with refuses("10 labels", "10 groups at most"):
        load("digits", skew="swap:11")
    with refuses("10 labels, of which 4 are swapped, which allow 4 groups at most"):
        load("digits", skew="swap:5,share=0.4")
    with refuses("rotate:20", "20 groups need as many clients", "14"):
        load("digits", skew="rotate:20")
    with refuses("4x6", "square"):
        Rotate(2).check(images(np.zeros((3, 4, 6), np.uint8)))
    with refuses("swap:2"):
        Swap(2).check(Table("text", np.zeros((4, 3), np.int32), np.zeros((4, 3), np.int32), ("a", "b")))
    assert build(np.zeros((4, 2), np.float32), np.arange(4) % 2, np.zeros(4, int)).groups is None
