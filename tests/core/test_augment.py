"""Changed images against shifts and turns that are known exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from atoll.core.augment import Strength, affine, augmented, copies

IMAGE = np.random.default_rng(0).random((8, 8)).astype(np.float32)
SOME = Strength(shift=0.1, rotate=10.0, shear=0.1, zoom=0.1)
NO = jnp.zeros(2)


def test_nothing_changes_nothing():
    np.testing.assert_array_equal(affine(IMAGE, jnp.eye(2), NO), IMAGE)
    np.testing.assert_array_equal(augmented(IMAGE, jax.random.key(0), Strength(0, 0, 0, 0)), IMAGE)


def test_a_shift_by_whole_pixels_repeats_the_border():
    moved = affine(IMAGE, jnp.eye(2), jnp.array([2.0, -1.0]))  # down by two, left by one
    np.testing.assert_array_equal(moved[2:, :-1], IMAGE[:-2, 1:])
    np.testing.assert_array_equal(moved[:2, :-1], np.tile(IMAGE[:1, 1:], (2, 1)))
    np.testing.assert_array_equal(moved[2:, -1], IMAGE[:-2, -1])


def test_a_quarter_turn():
    turned = affine(IMAGE, jnp.array([[0.0, -1.0], [1.0, 0.0]]), NO)
    np.testing.assert_allclose(turned, np.rot90(IMAGE, -1), atol=1e-6)


def test_any_matrix_against_scipy():
    matrix, shift = np.array([[0.9, 0.2], [-0.1, 1.1]]), np.array([0.3, -0.7])
    middle = np.array([3.5, 3.5])
    wanted = ndimage.affine_transform(IMAGE, matrix, offset=middle - matrix @ middle - shift, order=1, mode="nearest")
    np.testing.assert_allclose(affine(IMAGE, jnp.asarray(matrix), jnp.asarray(shift)), wanted, atol=1e-5)


def test_channels_move_together():
    colour = np.stack([IMAGE, 1 - IMAGE, 2 * IMAGE], -1)
    made = augmented(colour, jax.random.key(3), SOME)
    one = augmented(IMAGE, jax.random.key(3), SOME)
    np.testing.assert_allclose(made, jnp.stack([one, 1 - one, 2 * one], -1), atol=1e-5)


CORNER = 3.5 * 2**0.5  # how far from the middle


@pytest.mark.parametrize(("only", "bound"), [("shift", 8 * 0.1), ("rotate", CORNER * np.deg2rad(10)), ("shear", 3.5 * 0.1), ("zoom", CORNER * 0.1 / 0.9)])
def test_no_pixel_moves_further_than_said(only, bound):
    """An image of its own column or row numbers shows where each pixel came from, where the border is not met. Something moves."""
    most = Strength(**{name: getattr(SOME, name) if name == only else 0.0 for name in ("shift", "rotate", "shear", "zoom")})
    places = np.stack(np.meshgrid(np.arange(8.0), np.arange(8.0), indexing="ij"), -1).astype(np.float32)
    furthest = 0.0
    for seed in range(30):
        moved = np.abs(np.asarray(augmented(places, jax.random.key(seed), most)) - places).max()
        assert moved <= bound + 1e-5
        furthest = max(furthest, moved)
    assert furthest > 0.4 * bound


def test_copies_are_always_alike_and_differ_by_row_and_number():
    change, x = copies(jax.random.key(0), SOME), np.tile(IMAGE, (3, 1, 1))
    row, number = jnp.array([4, 4, 5]), jnp.array([1, 2, 1])
    made = np.asarray(change(x, row, number))
    np.testing.assert_array_equal(made, change(x, row, number))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(made[a] - made[b]).max() > 0.01
