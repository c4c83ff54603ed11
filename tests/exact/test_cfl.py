"""CFL: the split in two against all splits, the rules that lead to it against quadratics by hand, the tree and the ways down it."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atoll.methods.cfl import CFL, bipartition
from atoll.methods.fedavg import FedAvg
from tests.exact.dense import equal_clients
from tests.exact.plain import Circumstances
from tests.harness import assert_near, begin, federation, linear, quadratics, small_digits, train

SPLITS = {"burn_in": 0, "relative": False, "gamma_max": 0.0, "batch": 0, "epochs": 1}  # one full-batch step per round; eps1, eps2 as they are


def models(server):
    """The one weight of every node."""
    return np.asarray(jax.tree.leaves(server.theta)[0], np.float64).reshape(len(server.children), -1)[:, 0]


def from_zero(training):
    training.start()
    training.server = training.server._replace(theta=jax.tree.map(jnp.zeros_like, training.server.theta))


def clusters(training):
    return training.evaluate().filter(split="test", model="personal").sort("client")["cluster"].to_list()


def one_row_each(x, y):
    return federation(x, y, [(1, 1, 1)] * (len(y) // 3), labels=())


def every_split(m):
    """All ways to part m clients in two, client 0 in the first part."""
    return [np.array([0, *((n >> i) & 1 for i in range(m - 1))], bool) for n in range(1, 2 ** (m - 1))]


@pytest.mark.parametrize("m", range(2, 9))
def test_the_split_is_the_best_of_all(m):
    """By brute force over all 2^(m-1) - 1 of them, for cosines of random updates and for any symmetric numbers."""
    random = np.random.default_rng(m)
    for _ in range(15):
        U = random.normal(size=(m, random.integers(2, 6)))
        U /= np.linalg.norm(U, axis=1, keepdims=True)
        A = random.uniform(-1, 1, size=(m, m))
        for alpha in (U @ U.T, (A + A.T) / 2):
            across = {tuple(second): alpha[~second][:, second].max() for second in every_split(m)}
            second = bipartition(alpha)
            assert not second[0]
            assert across[tuple(second)] == min(across.values())


def by_hand(b, rounds, lr, eps1, eps2):
    """f_i = (w - b_i)^2 / 2 from w = 0 in plain Python: {members: w} of the leaves after so many rounds."""
    leaves = {tuple(range(len(b))): 0.0}
    for _ in range(rounds):
        new = {}
        for members, w in leaves.items():
            D = {i: -lr * (w - b[i]) for i in members}
            mean = sum(D.values()) / len(D)
            if len(members) > 2 and abs(mean) < eps1 and max(map(abs, D.values())) > eps2:
                for sign in (-1, 1):
                    part = tuple(i for i in members if np.sign(D[i]) == sign)
                    new[part] = w + sum(D[i] for i in part) / len(part)
            else:
                new[members] = w + mean
        leaves = new
    return leaves


def test_two_groups_of_quadratics_part_when_they_have_settled():
    """Optima at -1.5, -1, 1 and 2, clients in no order: each round moves the mean a tenth of the way, and in the round in which that is less than eps1 the
    clients part by their sign (cosines are 1 or -1). Their models start from the common one and move by their own clients' mean."""
    b = [1.0, -1.0, 2.0, -1.5]
    method = CFL(lr=0.1, eps1=0.004, eps2=0.05, **SPLITS)
    training = begin(method, quadratics([1.0] * 4, b), **linear())
    training.start()
    w0 = models(training.server)[0]
    shifted = [x - w0 for x in b]
    when = None
    for r in range(1, 40):
        before = models(training.server)[0]
        training.step()
        tree = training.server
        if when is None and len(tree.children) == 3:
            when = r
            assert models(tree)[0] == before  # the root keeps the model with which it split
            np.testing.assert_array_equal(tree.node, [1, 2, 1, 2])  # client 0's part first
            np.testing.assert_allclose(np.asarray(jax.tree.leaves(tree.D)[0]).reshape(-1)[[0, 2, 1, 3]], 0.1 * (np.sort(b)[[2, 3, 1, 0]] - before), atol=1e-6)
        leaves = by_hand(shifted, r, 0.1, 0.004, 0.05)
        assert (when is None) == (len(leaves) == 1)
        for members, w in leaves.items():
            node = set(tree.node[list(members)].tolist())
            assert len(node) == 1
            assert models(tree)[node.pop()] == pytest.approx(w + w0, abs=1e-5)
    assert when is not None
    assert when > 5
    assert clusters(training) == [1, 2, 1, 2]


@pytest.mark.parametrize(("eps1", "eps2", "split"), [(0.2, 0.35, True), (0.17, 0.35, False), (0.2, 0.44, False)])
def test_both_thresholds_count(eps1, eps2, split):
    """From w = 0, steps of 0.1 towards -1, 4 and 2.5: mean 0.183..., largest 0.4, both in absolute terms and, with relative=True, as shares: of the
    largest step 0.4, and of the mean 0.183, the largest so far."""
    for relative in (False, True):
        units = (0.4, 5.5 / 30) if relative else (1.0, 1.0)
        method = CFL(lr=0.1, **{**SPLITS, "relative": relative}, eps1=eps1 / units[0], eps2=eps2 / units[1])
        training = begin(method, quadratics([1.0] * 3, [-1.0, 4.0, 2.5]), **linear())
        from_zero(training)
        training.step()
        assert (len(training.server.children) == 3) == split
        assert float(training.server.top) == pytest.approx(5.5 / 30, rel=1e-5)


def test_a_burn_in_and_a_least_size():
    """Everything else says split: not before the burn-in is over, and never a cluster of two."""
    always = {**SPLITS, "eps1": 1e9, "eps2": 0.0}
    late = begin(CFL(lr=0.1, **{**always, "burn_in": 2}), quadratics([1.0] * 4, [-1.0, 1.0, -2.0, 2.0]), **linear())
    from_zero(late)
    sizes = [(late.step(), len(late.server.children))[1] for _ in range(5)]
    assert sizes == [1, 1, 3, 3, 3]


@pytest.mark.parametrize(("gamma_max", "split"), [(0.6, True), (0.75, False)])
def test_a_split_that_noise_could_make_is_refused(gamma_max, split):
    """Updates at right angles, three clients along one axis and three along the other: sqrt((1 - 0) / 2) = 0.707."""
    x = np.repeat(np.eye(2, dtype=np.float32), 3, axis=0)
    fed = one_row_each(np.tile(x, (3, 1)), np.tile(np.ones(6, np.float32), 3))
    training = begin(CFL(lr=0.1, **{**SPLITS, "eps1": 1e9, "eps2": 0.0, "gamma_max": gamma_max}), fed, **linear())
    from_zero(training)
    training.step()
    assert (len(training.server.children) == 3) == split


def test_without_splits_it_is_fedavg_with_uniform_means():
    how = {"models": ("mlp:7,5",), "per_round": 3}
    one = train(CFL(lr=0.05, epochs=2, batch=5, eps1=0.0, burn_in=0), equal_clients(4), 3, **how)
    assert_near(jax.tree.map(lambda leaf: leaf[0], one.server.theta), train(FedAvg(lr=0.05, epochs=2, batch=5), equal_clients(4), 3, **how).server, 1e-6)
    ragged = train(CFL(lr=0.5, batch=0, eps1=0.0), quadratics([1.0, 2.0, 4.0], [1.0, 2.0, 3.0]), 1, **linear())
    start = begin(CFL(), quadratics([1.0, 2.0, 4.0], [1.0, 2.0, 3.0]), **linear())
    start.start()
    w = models(start.server)[0]
    wanted = w - 0.5 * np.mean(np.array([1, 2, 4]) * (w - np.array([1, 2, 3])))
    assert models(ragged.server)[0] == pytest.approx(wanted, abs=1e-6)


def test_clients_that_are_alike_never_part():
    """One row for all: whatever the thresholds, a cosine of 1 across is no reason to split."""
    trained = train(CFL(lr=0.1, **{**SPLITS, "eps1": 1e9, "eps2": 0.0, "gamma_max": 0.01}), quadratics([1.0] * 5, [2.0] * 5), 4, **linear())
    assert len(trained.server.children) == 1


def directions(angles):
    """Clients that pull one way each: one row x = (cos, sin) with y = 1."""
    x = np.array([[np.cos(a), np.sin(a)] for a in np.deg2rad(angles)], np.float32)
    return np.tile(x, (3, 1)), np.ones(3 * len(angles), np.float32)


ANGLES = [0, 120, 240, 10, 130, 250, 5, 125, 245, 15, 135, 255]  # three groups in turn, 120 degrees apart


def test_splits_of_splits_keep_track_of_who_is_who():
    """Three groups in two splits. Ids inside a part are not places in it (a known error of other implementations)."""
    method = CFL(lr=0.1, **{**SPLITS, "eps1": 0.06, "eps2": 0.02, "gamma_max": 0.5})
    training = begin(method, one_row_each(*directions(ANGLES)), **linear())
    from_zero(training)
    for _ in range(3):
        training.step()
    node = training.server.node
    groups = np.arange(12) % 3
    assert len(set(node)) == 3
    assert len(set(zip(node.tolist(), groups.tolist(), strict=True))) == 3
    np.testing.assert_array_equal(np.array(clusters(training)), node)


def test_newcomers_go_down_the_tree():
    """The last three clients are unseen, one of each group; client 1 can't be reached while the tree grows. Each ends where its group is."""
    fed = dataclasses.replace(one_row_each(*directions(ANGLES)), seen=9)
    method = CFL(lr=0.1, **{**SPLITS, "eps1": 0.06, "eps2": 0.02, "gamma_max": 0.5})
    away = {r: [1] for r in (1, 2, 3)}
    training = begin(method, fed, **linear(conditions=Circumstances(gone=away)))
    from_zero(training)
    for _ in range(3):
        training.step()
    assert training.server.node[1] == 0
    wanted = training.server.node[[0, 4, 2, 0, 4, 2, 0, 4, 2]].tolist()
    assert clusters(training) == [*wanted, *wanted[:3]]  # client 1 too predicts as its group does
    depth = 1 if training.server.node[4] in training.server.children[0] else 2
    for _ in range(depth):
        assert training.server.node[1] != training.server.node[4]
        training.step()
    assert training.server.node[1] == training.server.node[4]  # a node per round
    assert training.server.children[training.server.node[1], 0] < 0


def test_bytes_and_the_state_of_others():
    """A client that is not asked stays where it is."""
    trained = train(CFL(batch=4, eps1=2.0, eps2=0.0, gamma_max=0.0, burn_in=0), small_digits(6), 1, per_round=4)
    asked = trained.costs[0].cohort
    assert asked == 4
    assert (trained.server.node == 0).sum() == 2
    assert trained.server.node.dtype == np.int32
