"""Moments of features against NumPy, CORAL against its closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atoll.core.adaptation import Moments, alignment, coral_loss, covariance, moments, pooled
from atoll.core.method import method
from tests.harness import assert_near, federation, small_digits, train

random = np.random.default_rng(0)


def rows(n, d=3, shift=5.0):
    return (shift + random.normal(size=(n, d)) @ random.normal(size=(d, d))).astype(np.float32)


def described(z):
    return Moments(jnp.asarray(z.mean(0)), covariance(jnp.asarray(z), jnp.ones(len(z))), jnp.float32(len(z)))


def test_covariance_is_divided_by_one_less_than_the_rows():
    """Four points on a line, mean 0: squares 9 + 1 + 1 + 9 over 3. A masked row is no row."""
    z = jnp.array([[-3.0], [-1.0], [1.0], [3.0], [100.0]])
    assert covariance(z, jnp.array([1.0, 1, 1, 1, 0]))[0, 0] == pytest.approx(20 / 3)


def test_one_row_has_no_covariance():
    assert not np.asarray(covariance(jnp.ones((2, 3)), jnp.array([1.0, 0.0]))).any()


@pytest.mark.parametrize("sizes", [(5, 9, 1, 30), (1, 1), (7,), (1, 40)])
@pytest.mark.parametrize("cut", [0, 1])
def test_pooled_moments_are_those_of_all_rows(sizes, cut):
    """Parts with different means and different spreads; a part of one row has no spread but a place."""
    parts = [rows(n, shift=4.0 * i) for i, n in enumerate(sizes)]
    totals = []
    for group in (parts[:cut], parts[cut:]):
        total = pooled.start(described(parts[0]))
        for part in group:
            total = pooled.add(total, described(part))
        totals.append(total)
    got, all_rows = pooled.finish(pooled.merge(*totals)), np.concatenate(parts).astype(np.float64)
    assert_near(got, Moments(all_rows.mean(0), np.cov(all_rows.T), len(all_rows)), 1e-4)


def test_pooled_moments_of_nobody_are_none():
    assert_near(pooled.merge(Moments.none(2), Moments.none(2)), Moments.none(2))


@method
class Describe:
    """Replies with the moments of raw rows."""

    def init(self, fed):
        return jnp.zeros(())

    def round(self, s, fed):
        return fed.ask(fed.everyone(), self.look, s).reply

    def look(self, k, s):
        return moments(k, lambda rows: rows.x)

    def personalize(self, k, s):
        return ()

    def predict(self, k, w, x):
        return jnp.zeros((x.shape[0], 2))


@pytest.mark.parametrize("engine", ["simulate", "wire"])
def test_moments_of_a_clients_rows(engine):
    """Clients of 5, 300 and 1 rows: less than a pass, several passes, and nothing to spread. The mean is far from 0, where one pass would lose all digits."""
    x = np.concatenate([rows(306, shift=3000.0), rows(6)])
    fed = federation(x, np.arange(312, dtype=np.int32) % 2, [(5, 1, 1), (300, 1, 1), (1, 1, 1)])
    got = train(Describe(), fed, 1, models=("softmax",), engine=engine).server
    at = 0
    for i, n in enumerate((5, 300, 1)):
        part = x[at : at + n].astype(np.float64)
        assert_near(got.mean[i], part.mean(0), 1e-5)
        assert_near(got.covariance[i], np.cov(part.T) if n > 1 else np.zeros((3, 3)), 2e-3)
        assert got.weight[i] == n
        at += n


def test_positions_of_images_and_sequences_are_points():
    """Features [batch, positions, d] count every position; the mask of a row holds for all of its positions."""
    z, mask = rows(12).reshape(4, 3, 3), jnp.array([1.0, 0, 1, 1])
    wanted = np.cov(z[[0, 2, 3]].reshape(9, 3).astype(np.float64).T)
    assert_near(covariance(jnp.asarray(z), mask), wanted, 1e-5)


def test_coral_is_zero_for_the_same_features_wherever_they_lie():
    z, mask = jnp.asarray(rows(40)), jnp.ones(40)
    assert coral_loss(covariance(z, mask), covariance(z, mask)) == 0
    assert coral_loss(covariance(z, mask), covariance(z + 7, mask)) < 1e-10
    assert coral_loss(covariance(z, mask), covariance(2 * z, mask)) > 0.01


def test_coral_by_hand():
    """|| [[1, 0], [0, 2]] - [[0, 1], [1, 2]] ||^2 = 1 + 1 + 1 over 4 * 2^2."""
    assert coral_loss(jnp.array([[1.0, 0], [0, 2]]), jnp.array([[0.0, 1], [1, 2]])) == pytest.approx(3 / 16)


def test_the_closed_form_aligns():
    with jax.enable_x64(True):
        source, target = (jnp.asarray(rows(60), jnp.float64) for _ in range(2))
        C_S, C_T = (covariance(z, jnp.ones(60)) for z in (source, target))
        moved = source @ alignment(C_S, C_T)
        assert coral_loss(C_S, C_T) > 1e-3
        assert coral_loss(covariance(moved, jnp.ones(60)), C_T) < 1e-25
        ridged = jnp.zeros((3, 3)) @ alignment(jnp.zeros((3, 3)), C_T, ridge=1.0)  # without rank there is still an answer
        assert np.isfinite(np.asarray(ridged)).all()


def test_digits_are_described_too():
    """A federation of images as bytes: rows as the model sees them, flattened by hand."""

    fed = small_digits(2)
    got = train(Describe(), fed, 1, models=("softmax",)).server
    x = fed.x[:9].astype(np.float64) / 16
    assert_near(got.mean[0], x.reshape(-1, 8).mean(0), 1e-5)  # [8, 8]: eight points of eight values each
    assert got.weight[0] == 9 * 8
