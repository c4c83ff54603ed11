"""FedGroup: the measure against singular vectors, groups that are there, one group against FedAvg, mixing by the formula, newcomers."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.metrics import adjusted_rand_score
from tree_math import Vector

from atoll.core.clusters import decomposed, gram, k_means
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedgroup import FedGroup, between
from tests.exact.plain import Circumstances
from tests.harness import assert_near, begin, linear, quadratics, small_digits

HOW = {"lr": 0.1, "epochs": 2, "batch": 4}


def clusters(training):
    return training.evaluate().filter(split="test", model="personal").sort("client")["cluster"].to_list()


def updates(random, m=8, values=30):
    return Vector({"a": random.normal(size=(m, values - 10)), "b": random.normal(size=(m, 2, 5))})


def flat(ws):
    return np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in jax.tree.leaves(ws)], axis=1)


@pytest.mark.parametrize("g", [1, 3, 8])
def test_the_measure_is_the_cosine_with_singular_directions(g):
    """Against scikit-learn's truncated SVD of the transposed updates, the authors' way; signs of directions are arbitrary and do not matter."""
    ws = updates(np.random.default_rng(0))
    W = flat(ws)
    V = TruncatedSVD(g, algorithm="arpack").fit_transform(W.T) if g < 8 else np.linalg.svd(W.T, full_matrices=False)[0]
    wanted = (W @ V) / np.outer(np.linalg.norm(W, axis=1), np.linalg.norm(V, axis=0))
    E = decomposed(gram(ws), g)
    np.testing.assert_allclose(np.abs(E), np.abs(wanted), atol=1e-6)

    def edc(E):
        return np.linalg.norm(E[:, None] - E, axis=2) / g

    np.testing.assert_allclose(edc(E), edc(wanted), atol=1e-6)


def test_orthogonal_directions_and_some_noise_are_found():
    """Three groups of 20 clients of 500 weights, each client with a length of its own."""
    random = np.random.default_rng(1)
    axes = np.linalg.qr(random.normal(size=(500, 3)))[0].T
    group = random.permutation(np.repeat(np.arange(3), 20))
    W = random.uniform(0.5, 3, size=(60, 1)) * (axes[group] + 0.02 * random.normal(size=(60, 500)))
    label = k_means(decomposed(gram(Vector({"w": W})), 3), 3, 0)
    assert adjusted_rand_score(group, label) == 1
    assert len(np.unique(label)) == 3


def test_one_group_is_fedavg_from_the_mean_of_the_pretrained():
    training = begin(FedGroup(**HOW, g=1, eta_G=0.0, pretrain_steps=3), small_digits(), per_round=3)
    training.start()
    s = training.server
    moved = training.fed.ask(training.fed.everyone(), training.method.pretrain, s.w0).dW
    assert_near(jax.tree.map(lambda leaf: leaf[0], s.w), jax.tree.map(lambda w, d: w + d.mean(axis=0), s.w0, moved))
    other = begin(FedAvg(**HOW), small_digits(), per_round=3)
    other.restore(0, jax.tree.map(lambda leaf: leaf[0], s.w), {})
    for _ in range(3):
        training.step()
        other.step()
    assert_near(jax.tree.map(lambda leaf: leaf[0], training.server.w), other.server, 1e-6)


def test_groups_mix_by_the_formula():
    random = np.random.default_rng(2)
    ws = updates(random, 4)
    W, eta = flat(ws), 0.3
    length = np.linalg.norm(W, axis=1)
    wanted = []
    for j in range(4):
        others = [n for n in range(4) if n != j]
        wanted.append((W[j] + eta * sum(W[n] / length[n] for n in others)) / (1 + eta * sum(1 / length[n] for n in others)))
    np.testing.assert_allclose(flat(between(ws, ws, eta)), wanted, atol=1e-6)
    assert between(ws, ws, 0.0) is ws


def test_mixing_is_what_moves_a_group_without_members_in_a_round():
    """Optima at -2 and 2, one client asked: with eta_G=0 the other group's model stays, bit for bit; else it moves by the formula."""
    for eta in (0.0, 0.3):
        training = begin(FedGroup(lr=0.1, batch=0, epochs=1, g=2, pretrain_steps=5, eta_G=eta), quadratics([1.0] * 4, [-2.0, 2.0, -2.1, 2.1]), **linear())
        training.start()
        np.testing.assert_array_equal(training.server.group, [0, 1, 0, 1])
        old = np.asarray(jax.tree.leaves(training.server.w)[0], np.float64).reshape(2)
        training.fed._selector = Only(0)
        training.step()
        new = np.asarray(jax.tree.leaves(training.server.w)[0], np.float64).reshape(2)
        w = np.array([old[0] - 0.1 * (old[0] + 2), old[1]])
        if not eta:
            assert new[1] == np.float32(old[1])
        wanted = [(w[j] + eta * w[1 - j] / abs(w[1 - j])) / (1 + eta / abs(w[1 - j])) for j in range(2)]
        np.testing.assert_allclose(new, wanted, rtol=1e-5)


class Only:
    def __init__(self, *ids):
        self.ids = np.array(ids)

    def choose(self, fed):
        return self.ids


def test_newcomers_join_the_group_that_they_are_like():
    """Client 3 can't be reached before round 2, client 5 is unseen; both have the rows of another. A group's direction is that of those it began with."""
    fed = dataclasses.replace(quadratics([1.0] * 6, [-2.0, 2.0, -2.0, 2.0, -2.1, -2.0]), seen=5)
    training = begin(FedGroup(lr=0.1, batch=0, epochs=1, g=2, pretrain_steps=5), fed, **linear(conditions=Circumstances(gone={0: [3], 1: [3]})))
    training.start()
    np.testing.assert_array_equal(training.server.group, [0, 1, 0, -1, 0])
    first = training.server.direction
    training.step()
    assert training.server.group[3] == -1
    assert clusters(training) == [0, 1, 0, 1, 0, 0]
    training.step()
    np.testing.assert_array_equal(training.server.group, [0, 1, 0, 1, 0])
    down = training.fed.traffic.down
    assert down[3] == 2 * down[0] - 4  # w0 too, which has no number
    assert_near(training.server.direction, first, 0)


def test_alpha_g_clients_are_pretrained_at_the_start():
    training = begin(FedGroup(**HOW, g=2, alpha=2, pretrain_steps=3), small_digits(6))
    cost = training.start()
    assert (cost.cohort, (training.server.group >= 0).sum()) == (4, 4)


def test_clients_without_differences_are_one_group():
    """However many are asked for; nothing is divided by nothing."""
    training = begin(FedGroup(lr=0.1, batch=0, epochs=1, g=3, pretrain_steps=2), quadratics([1.0] * 4, [2.0] * 4), **linear())
    training.start()
    training.step()
    np.testing.assert_array_equal(training.server.group, [0] * 4)
    assert bool(jnp.isfinite(jax.tree.leaves(training.server.w)[0]).all())
