"""The conditional GAN: it learns what rows of each label are like, however few there are of one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atoll.models.gan import ConditionalGan

MEANS = np.array([[3.0, 0.0], [-3.0, 1.0], [0.0, -4.0]], np.float32)
COUNTS = (300, 40, 12)


@pytest.fixture(scope="module")
def blobs():
    """(GAN, generator) trained on 300, 40 and 12 points around three means, with deviation 0.5 and a third value that is always 7."""
    random = np.random.default_rng(0)
    y = np.repeat(np.arange(3), COUNTS).astype(np.int32)
    x = np.concatenate([MEANS[y] + 0.5 * random.normal(size=(len(y), 2)), np.full((len(y), 1), 7.0)], axis=1).astype(np.float32)
    gan = ConditionalGan((3,), 3, noise=4, hidden=32)
    return gan, gan.fit(jnp.asarray(x), jnp.asarray(y), jax.random.key(0), steps=1500, batch=64, lr=1e-3), x


def made(gan, g, label, n=500):
    z = jax.random.normal(jax.random.key(1), (n, gan.noise))
    return np.asarray(gan.make(g, z, jnp.full(n, label)))


@pytest.mark.parametrize("label", range(3))
def test_made_rows_are_distributed_as_those_of_their_label(blobs, label):
    gan, g, _ = blobs
    rows = made(gan, g, label)
    assert np.abs(rows[:, :2].mean(0) - MEANS[label]).max() < 0.5
    assert ((rows[:, :2].std(0) > 0.15) & (rows[:, :2].std(0) < 1)).all()  # neither one point nor all labels'


def test_values_stay_in_the_range_of_the_rows_trained_on(blobs):
    gan, g, x = blobs
    rows = np.concatenate([made(gan, g, label) for label in range(3)])
    assert (rows <= x.max(0) + 1e-5).all()
    assert (rows >= x.min(0) - 1e-5).all()
    assert (rows[:, 2] == 7).all()


def test_one_row_is_all_it_can_make():
    """Of one row the range is a point. Rows have the shape of an image."""
    gan = ConditionalGan((4, 5), 3, noise=2, hidden=8)
    x = jnp.arange(20.0).reshape(1, 4, 5)
    g = gan.fit(x, jnp.array([2]), jax.random.key(0), steps=5, batch=4, lr=1e-3)
    np.testing.assert_array_equal(gan.make(g, jnp.ones((3, 2)), jnp.array([0, 1, 2])), np.tile(x, (3, 1, 1)))
