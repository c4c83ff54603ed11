"""Noise, calibration and cameras that are each client's own, and styles of groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from atoll.data import build, load
from atoll.data.skew import Affine, Camera, Noise, Style
from atoll.data.table import Table
from tests.data.support import owners, refuses


def grey(rows: int, clients: int, dtype: type = np.uint8) -> Table:
    """Images of random greys from 0 to 255, dealt out in turn."""
    x = np.random.default_rng(1).integers(0, 256, (rows, 12, 12)).astype(dtype)
    x[0, 0, :2] = 0, 255
    return Table("grey", x, np.zeros(rows, np.int32), ("a",), owner=np.arange(rows) % clients, names=tuple("abcdefgh"[:clients]), scale=1 / 255)


def test_noise_is_gaussian_and_grows_with_the_client():
    """Client i of 5 gets deviation 0.2 i / 4, in units of what a model gets; four deviations of the estimates are allowed."""
    from scipy import stats

    table = grey(500, 5)
    assert table.owner is not None
    x, y = Noise(0.2).apply(table, table.owner, np.random.default_rng(0))
    assert x.dtype == np.float32
    assert y is table.y
    added = (x - table.x) * table.scale
    for i in range(5):
        drawn = added[table.owner == i].ravel()
        wanted, n = 0.05 * i, len(drawn)
        assert np.std(drawn) == pytest.approx(wanted, abs=4 * wanted / np.sqrt(2 * n) + 1e-6)
        assert np.mean(drawn) == pytest.approx(0, abs=4 * wanted / np.sqrt(n) + 1e-6)
        if i:
            assert stats.kstest(drawn / wanted, "norm").pvalue > 1e-4
            assert drawn.min() < -3 * wanted  # nothing is cut off at black
    assert abs(np.corrcoef(added[4::5].reshape(100, -1)[:, :2].T)[0, 1]) < 0.4  # values have draws of their own


def test_noise_of_columns_is_in_their_deviations_and_leaves_indicators_alone():
    rng = np.random.default_rng(0)
    x = np.stack([1000 * rng.standard_normal(4000), rng.integers(0, 2, 4000)], axis=1).astype(np.float32)
    table = Table("t", x, np.zeros(4000, np.int32), ("a",), owner=np.arange(4000) // 2000, names=("a", "b"), standardise=np.array([True, False]))
    assert table.owner is not None
    noisy, _ = Noise(0.5).apply(table, table.owner, rng)
    added = noisy - x
    assert (added[:, 1] == 0).all()
    assert (added[:2000] == 0).all()
    assert added[2000:, 0].std() == pytest.approx(500, rel=0.06)


def test_public_rows_become_floats_with_the_others():
    plain, noisy = load("digits", public=50, clients=4), load("digits", public=50, clients=4, skew="noise:0.1")
    assert plain.public is not None
    assert noisy.public is not None
    assert noisy.x.dtype == noisy.public[0].dtype == np.float32
    np.testing.assert_array_equal(plain.public[0], noisy.public[0])


def test_affine_is_one_map_per_client_and_column():
    rng = np.random.default_rng(3)
    x = rng.normal([5, -2, 0], [1, 10, 0.1], (900, 3)).astype(np.float32)
    owner = np.arange(900) % 3
    table = Table("t", x, np.zeros(900, np.int32), ("a",), owner=owner, names=("a", "b", "c"))
    moved, _ = Affine(0.5).apply(table, owner, np.random.default_rng(7))
    again = np.random.default_rng(7)
    a, b = again.standard_normal((3, 3)), again.standard_normal((3, 3))
    for i in range(3):
        for j in range(3):
            slope, offset = np.polyfit(x[owner == i, j].astype(float), moved[owner == i, j].astype(float), 1)
            mean, deviation = x[:, j].astype(float).mean(), x[:, j].astype(float).std()
            assert slope == pytest.approx(np.exp(0.5 * a[i, j]), rel=1e-4)
            assert offset == pytest.approx(mean * (1 - np.exp(0.5 * a[i, j])) + 0.5 * b[i, j] * deviation, rel=1e-3, abs=1e-3 * deviation)


def test_a_camera_is_contrast_brightness_and_blur():
    table = grey(40, 4)
    assert table.owner is not None
    seen, _ = Camera(0.5).apply(table, table.owner, np.random.default_rng(5))
    settings = Camera(0.5).settings(4, np.random.default_rng(5))
    assert seen.dtype == np.uint8
    assert ((settings[:, 0] >= 0.5) & (settings[:, 0] <= 1.5) & (abs(settings[:, 1]) <= 0.25) & (settings[:, 2] >= 0) & (settings[:, 2] <= 1 / 32)).all()
    assert len(np.unique(settings)) == 12
    for row in range(8):
        contrast, brightness, blur = settings[row % 4]
        expected = np.clip(127.5 + contrast * (table.x[row].astype(float) - 127.5) + 255 * brightness, 0, 255)
        expected = ndimage.gaussian_filter(expected, 12 * blur, mode="nearest")
        np.testing.assert_allclose(seen[row], expected, atol=0.51)


def test_styles_by_hand():
    x = np.zeros((6, 12, 12), np.uint8)
    x[:, 5, 5], x[:, 0, 0] = 16, 4  # the range is 0 to 16
    styled, _ = Style(6).apply(Table("dots", x, np.zeros(6, np.int32), ("a",)), np.arange(6), np.random.default_rng(0))
    plain, negative, blurred, tones, faded, dark = styled
    np.testing.assert_array_equal(plain, x[0])
    np.testing.assert_array_equal(negative, 16 - x[0])
    blur = ndimage.gaussian_filter(x[0].astype(float), 1, mode="nearest")
    np.testing.assert_allclose(blurred, blur, atol=0.51)
    np.testing.assert_array_equal(tones, np.where(x[0] == 16, 16, 0))
    np.testing.assert_array_equal(faded, np.rint(16 * (0.35 + 0.3 * x[0] / 16)))
    np.testing.assert_array_equal(dark, np.where(x[0] == 16, 16, 0))  # (1/4)^3 of 16 rounds to 0


def test_styles_are_groups_and_the_rest_are_not():
    fed = load("digits", skew=["style:3", "camera:0.5", "swap:2"])
    assert fed.groups is not None
    assert sorted(set(fed.groups)) == list(range(6))
    assert fed.name == "digits by writing form, style:3, camera:0.5, swap:2"
    assert load("digits", skew="camera:0.5").groups is None
    assert load("digits", skew="noise:0.1").groups is None


@pytest.mark.parametrize("skew", ["noise:0.2", "camera:0.7", "style:4"])
def test_they_are_seeded_and_change_x_alone(skew):
    plain, one, same, other = (load("digits", skew=s, seed=n, clients=8) for s, n in (((), 0), (skew, 0), (skew, 0), (skew, 1)))
    np.testing.assert_array_equal(one.x, same.x)
    np.testing.assert_array_equal(one.y, plain.y)
    assert (one.x != plain.x).any()
    assert not np.array_equal(one.x, other.x)
    assert {n: owners(one).tolist().count(i) for i, n in enumerate(one.names)} == {n: owners(plain).tolist().count(i) for i, n in enumerate(plain.names)}


def test_standardising_sees_what_clients_measure():
    """vowel's columns are standardised with train rows as they are after the skew: mean 0 and deviation 1 of all clients' train rows."""
    fed = load("vowel", skew="affine:1")
    rows = (fed.x[: fed.count["train"].sum()] - fed.shift) * fed.scale
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(rows.std(axis=0), 1, atol=1e-4)


def test_what_makes_no_sense_is_refused():
    with refuses("affine:1", "images", "camera:1"):
        load("digits", skew="affine:1")
    with refuses("camera:0.5", "only images", "[60]", "affine:0.5"):
        load("synthetic", skew="camera:0.5")
    with refuses("style:2", "only images"):
        load("vowel", skew="style:2")
    with refuses("noise:0.1", "exact"):
        load("quadratic", skew="noise:0.1")
    with refuses("noise:0.1", "one client"):
        load("digits", skew=["iid", "noise:0.1"], clients=1)
    text = Table("text", np.zeros((4, 3), np.int32), np.zeros(4, np.int32), ("a",))
    for skew in (Noise(0.1), Affine(1.0)):
        with refuses(str(skew), "tokens"):
            skew.check(text)
    with refuses("only images"):
        Camera(0.5).check(replace(text, x=np.zeros((4, 3, 3), np.int32)))
    with refuses("no columns of numbers"):
        Noise(0.1).check(Table("t", np.zeros((4, 2), np.float32), np.zeros(4, np.int32), ("a",), standardise=np.zeros(2, bool)))
    assert build(np.zeros((4, 2), np.float32), np.arange(4) % 2, np.zeros(4, int)).attackers is None
