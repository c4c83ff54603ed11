"""Ratios, groups that complete each other, and clients with their rows as often as wanted."""

import itertools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import rel_entr

from atoll.core.balance import complementary, divergence, label_counts, ratios, resampled
from atoll.core.method import method
from tests.harness import federation, train

random = np.random.default_rng(0)


def test_even_counts_stay():
    assert (ratios(np.full(10, 17), -0.1, 0.1) == 1).all()


def test_ratios_by_hand():
    """Counts 10, 40, 40, 70 have m = 40, s = sqrt(450); z = +-sqrt(2) at the ends. T = -+0.5 moves these to 40 -+ s sqrt(sqrt(2) / 2)."""
    goal = np.sqrt(450) * np.sqrt(np.sqrt(2) * 0.5)
    np.testing.assert_allclose(ratios(np.array([10, 40, 40, 70]), -0.5, 0.5) * [10, 40, 40, 70], [40 - goal, 40, 40, 40 + goal])


def test_the_new_deviation_is_the_geometric_mean_of_the_old_one_and_the_threshold():
    C = random.integers(1, 400, 30)
    z, new = (C - C.mean()) / C.std(), (ratios(C, -0.3, 0.6) * C - C.mean()) / C.std()
    for T, beyond in ((-0.3, z < -0.3), (0.6, z > 0.6)):
        assert beyond.sum() > 3
        np.testing.assert_allclose(np.abs(new[beyond]), np.sqrt(np.abs(z[beyond] * T)))
        assert (np.sign(new[beyond]) == np.sign(T)).all()
    inside = (z >= -0.3) & (z <= 0.6)
    np.testing.assert_allclose(new[inside], z[inside])


def test_a_label_without_rows_has_nothing_to_copy():
    assert ratios(np.array([0, 50, 60]), -0.1, 0.1)[0] == 1


def test_divergence_is_scipys():
    counts = random.integers(0, 9, (5, 6))
    np.testing.assert_allclose(divergence(counts), [rel_entr(c / c.sum(), np.full(6, 1 / 6)).sum() for c in counts])
    assert divergence(np.full(6, 3)) == 0


def test_clients_of_one_label_find_their_complement():
    """Labels {0}, {1}, {0}, {1} in twos: the greedy way finds the best of the three pairings."""
    counts = np.array([[8, 0], [0, 8], [8, 0], [0, 8]])
    assert complementary(counts, 2) == [[0, 1], [2, 3]]
    assert complementary(counts[[0, 2, 1, 3]], 2) == [[0, 2], [1, 3]]


def test_the_best_candidate_wins_and_not_the_last():
    counts = np.array([[0, 0, 0, 9], [9, 9, 9, 0], [9, 0, 0, 9], [9, 0, 0, 0]])
    assert complementary(counts, 2) == [[1, 0], [2, 3]]


@pytest.mark.parametrize("gamma", [1, 2, 3, 10])
def test_everyone_is_in_one_group(gamma):
    groups = complementary(random.integers(0, 9, (10, 4)), gamma)
    assert sorted(itertools.chain(*groups)) == list(range(10))
    assert [len(g) for g in groups] == [gamma] * (10 // gamma) + ([10 % gamma] if 10 % gamma else [])


def test_greedy_groups_are_more_even_than_random_ones():
    random = np.random.default_rng(1)
    counts = np.array([random.multinomial(50, random.dirichlet(np.full(10, 0.1))) for _ in range(30)])
    greedy = np.mean([divergence(counts[g].sum(0)) for g in complementary(counts, 5)])
    chance = np.mean([divergence(counts[g].sum(0)) for _ in range(50) for g in random.permutation(30).reshape(6, 5)])
    assert greedy < 0.8 * chance


class Counts(NamedTuple):
    before: object
    after: object
    again: object  # the same is drawn


@method
class Even:
    """Resamples as told, and counts."""

    def init(self, fed):
        return jnp.zeros(())

    def round(self, s, fed):
        return fed.ask(fed.everyone(), self.look, jnp.array([2.4, 0.3, 1.0])).reply

    def look(self, k, r):
        def same(x, row, copy):
            return x

        return Counts(label_counts(k), label_counts(resampled(k, r, same)), label_counts(resampled(k, r, same)))

    def personalize(self, k, s):
        return ()

    def predict(self, k, w, x):
        return jnp.zeros((x.shape[0], 3))


def test_rows_are_there_as_often_as_their_label_wants():
    """600 and 240 rows: 2.4 times on average is two or three times, so the number's deviation is sqrt(n * 0.24); 0.3 times is now and then; 1 is once."""
    x = np.zeros((846, 2), np.float32)
    y = np.arange(846, dtype=np.int32) % 3
    fed = federation(x, y, [(600, 1, 1), (240, 1, 1), (1, 0, 1)])
    got = train(Even(), fed, 1, models=("softmax",)).server
    for i, n in enumerate((200, 80)):
        np.testing.assert_array_equal(got.before[i], [n, n, n])
        assert abs(got.after[i][0] - 2.4 * n) < 4 * np.sqrt(0.24 * n)
        assert abs(got.after[i][1] - 0.3 * n) < 4 * np.sqrt(0.21 * n)
        assert got.after[i][2] == n
    np.testing.assert_array_equal(got.after, got.again)
    assert (np.asarray(got.after)[0] != np.asarray(got.after)[1]).any()
