"""FeSEM: its limits are FedAvg and training alone; E and M steps against scikit-learn's K-means and the objective; who comes later."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from sklearn.cluster import KMeans
from tree_math import Vector

from atoll.core.clusters import gram as products
from atoll.core.clusters import k_means, points
from atoll.methods.fedavg import FedAvg
from atoll.methods.fesem import FeSEM, e_step, m_step
from atoll.methods.local import Local
from tests.exact.dense import equal_clients
from tests.exact.plain import Circumstances
from tests.harness import assert_alike, assert_near, begin, linear, quadratics, small_digits, train

HOW = {"lr": 0.1, "epochs": 2, "batch": 4}


def numbers(tree):
    """Models of one weight as float64."""
    return np.asarray(jax.tree.leaves(tree)[0], np.float64).reshape(-1)


def clusters(training):
    return training.evaluate().filter(split="test", model="personal").sort("client")["cluster"].to_list()


def test_one_centre_is_fedavg_with_uniform_means():
    one = train(FeSEM(**HOW, K=1), equal_clients(4), 3)
    assert_near(jax.tree.map(lambda leaf: leaf[0], one.server.W), train(FedAvg(**HOW), equal_clients(4), 3).server, 1e-6)
    ragged = train(FeSEM(**HOW, K=1), small_digits(3), 1)
    assert_near(ragged.server.W, jax.tree.map(lambda leaf: leaf.mean(axis=0, keepdims=True), ragged.server.theta))


def test_as_many_centres_as_clients_is_training_alone():
    many, alone = train(FeSEM(**HOW, K=4), small_digits(4), 3), train(Local(**HOW), small_digits(4), 3)
    assert sorted(many.server.r) == [0, 1, 2, 3]
    for i in range(4):
        assert_near(jax.tree.map(lambda leaf, i=i: leaf[i], many.server.theta), alone.states[i], 1e-6)
        assert_near(jax.tree.map(lambda leaf, i=i: leaf[many.server.r[i]], many.server.W), alone.states[i], 1e-6)


@pytest.fixture
def frozen():
    """Twelve models of ten values and three centres, of which one is nearest to nobody."""
    random = np.random.default_rng(0)
    theta = random.normal(size=(12, 10))
    return theta, np.stack([theta[0], theta[1] + 0.1, np.full(10, 50.0)])


def test_no_step_raises_the_objective_and_an_empty_centre_stays(frozen):
    theta, W = frozen

    def objective(W, r):
        return np.square(theta - W[r]).sum() / len(theta)

    r = np.random.default_rng(1).integers(0, 2, 12)
    seen = [objective(W, r)]
    for _ in range(6):
        r = e_step(Vector({"w": W}), Vector({"w": theta}))
        seen.append(objective(W, r))
        W = np.asarray(m_step(Vector({"w": W}), Vector({"w": theta}), r).tree["w"], np.float64)
        seen.append(objective(W, r))
    assert (np.diff(seen) <= 1e-5).all()
    assert seen[-1] < seen[1] - 0.1
    np.testing.assert_array_equal(W[2], [50.0] * 10)


def test_both_steps_are_one_of_k_means(frozen):
    """Of scikit-learn's, from the same centres."""
    theta, W = frozen[0], frozen[1][:2]
    found = KMeans(2, init=W, n_init=1, max_iter=1).fit(theta)
    r = e_step(Vector({"w": W}), Vector({"w": theta}))
    np.testing.assert_array_equal(r, np.square(theta[:, None] - W).sum(2).argmin(1))
    np.testing.assert_allclose(m_step(Vector({"w": W}), Vector({"w": theta}), r).tree["w"], found.cluster_centers_, rtol=1e-5)


def test_coordinates_from_products_keep_all_distances():
    """So that K-means on them is K-means on the models."""
    x = np.random.default_rng(3).normal(size=(7, 40))
    p = points(products(Vector({"w": x})))
    assert p.shape == (7, 7)
    np.testing.assert_allclose(np.linalg.norm(p[:, None] - p, axis=2), np.linalg.norm(x[:, None] - x, axis=2), atol=1e-9)
    np.testing.assert_array_equal(k_means(p, 3, 5), k_means(x, 3, 5))


def test_rounds_by_hand():
    """f_i = (w - b_i)^2 / 2, one step of a tenth of the way per round: clients go from their centre, and centres are the means of their clients."""
    b = np.array([-2.0, 2.0, -1.0, 3.0])
    training = begin(FeSEM(lr=0.1, batch=0, epochs=1, K=2), quadratics([1.0] * 4, b.tolist()), **linear())
    training.start()
    W = np.repeat(numbers(training.server.theta)[0], 4)  # each client's centre
    for r in range(4):
        training.step()
        theta = W + 0.1 * (b - W)
        np.testing.assert_allclose(numbers(training.server.theta), theta, atol=1e-6)
        np.testing.assert_array_equal(training.server.r, [0, 1, 0, 1])
        centres = np.array([theta[[0, 2]].mean(), theta[[1, 3]].mean()])
        np.testing.assert_allclose(numbers(training.server.W), centres, atol=1e-6)
        W = centres[[0, 1, 0, 1]]
        assert clusters(training) == [0, 1, 0, 1], r


def test_who_comes_later_starts_from_the_mean_and_takes_the_nearest_centre():
    """Client 3 is away for two rounds, client 4 is unseen."""
    fed = dataclasses.replace(quadratics([1.0] * 5, [-2.0, 2.0, -1.0, 3.0, -3.0]), seen=4)
    training = begin(FeSEM(lr=0.1, batch=0, epochs=1, K=2), fed, **linear(conditions=Circumstances(gone={1: [3], 2: [3]})))
    training.start()
    assert clusters(training) == [None] * 5
    for _ in range(2):
        training.step()
    np.testing.assert_array_equal(training.server.r, [0, 1, 0, -1])
    assert clusters(training) == [0, 1, 0, 1, 0]
    middle = numbers(training.server.theta)[:3].mean()
    training.step()
    np.testing.assert_array_equal(training.server.r, [0, 1, 0, 1])
    assert numbers(training.server.theta)[3] == pytest.approx(middle + 0.1 * (3 - middle), abs=1e-6)


def test_centres_come_as_clients_do():
    """One client per round: as many centres as have uploaded, until there are K. A client that is not asked keeps its model and counts with it."""
    training = begin(FeSEM(**HOW, K=3), small_digits(5))
    training.start()
    there = []
    for i in range(5):
        training.fed._selector = Turn(i)
        before = jax.tree.map(lambda leaf, i=i: leaf[:i], training.server.theta)
        training.step()
        there.append(len(jax.tree.leaves(training.server.W)[0]))
        assert_alike(jax.tree.map(lambda leaf, i=i: leaf[:i], training.server.theta), before)
    assert there == [1, 2, 3, 3, 3]


class Turn:
    def __init__(self, i):
        self.i = i

    def choose(self, fed):
        return np.array([self.i])
