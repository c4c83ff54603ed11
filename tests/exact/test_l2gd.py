"""L2GD and L2SGD+ against the minimiser of their objective on quadratics, and their communication against the coins.

Clients f_i(x) = mean_j a_ij/2 (x - b_ij)^2 = A_i/2 (x - B_i)^2 + const. Where 1/n sum f_i(x_i) + lam/(2n) sum (x_i - x-bar)^2 is smallest,
A_i (x_i - B_i) + lam (x_i - x-bar) = 0: n linear equations.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tree_math import Vector

from atoll.core.errors import AtollError
from atoll.core.keys import common_key, host_generator, shuffle
from atoll.methods import l2gd
from atoll.methods.l2gd import L2GD
from atoll.methods.l2sgd import L2SGD
from atoll.methods.local import Local
from tests.exact.plain import Circumstances, key
from tests.harness import assert_near, begin, federation, leaves, linear, quadratics, small_digits, train

CURVES = np.array([0.5, 1.0, 1.5]), np.array([1.0, -2.0, 4.0])
COINS = [0, 1, 1, 0, 0, 1]  # of a coin with p=0.3 in the first rounds of seed 0


def optimum(a, b, lam):
    """The solution of a_i (x_i - b_i) + lam (x_i - x-bar) = 0."""
    n = len(a)
    return np.linalg.solve(np.diag(a + lam) - lam / n, a * b)


def number(w):
    return leaves(w)[0].item()


def weight(value):
    return Vector({"head": {"kernel": np.array([[value]], np.float32)}})


def models(training):
    return np.array([number(state.x) for _, state in sorted(training.engine.executor.dump_states().items())])


def coin(round, p=0.3):
    return int(host_generator(0, "coin", round).random() < p)


def a_round_of(coin_is, p, before=None):
    """A round whose coin is as said, and so was the coin of the round before."""
    return next(r for r in range(2, 999) if coin(r, p) == coin_is and before in (None, coin(r - 1, p)))


def test_the_coins_of_this_seed():
    assert [coin(r) for r in range(1, 7)] == COINS


def test_the_optimum_for_one_curvature():
    """With a_i = 1 it is (b_i + lam b-bar) / (1 + lam)."""
    b = CURVES[1]
    np.testing.assert_allclose(optimum(np.ones(3), b, 0.7), (b + 0.7 * b.mean()) / 1.7)


def l2gd_step(method, fed, x, coin_is):
    """The clients' models after a round with that coin."""
    training = begin(method, fed, **linear())
    round = a_round_of(coin_is, method.p, before=0)
    states = {i: l2gd.Own(weight(v), weight(0.0)) for i, v in enumerate(x)}
    training.restore(round - 1, l2gd.Server(weight(0.0), np.zeros(len(x), bool)), states)
    training.step()
    return models(training)


@pytest.mark.parametrize("lam", [0.3, 2.0])
def test_l2gds_expected_step_is_the_gradient(lam):
    """(1-p) times the step of coin 0 plus p times that of coin 1 is - lr (f_i'(x_i) + lam (x_i - x-bar)), which vanishes at the optimum."""
    (a, b), method = CURVES, L2GD(lr=0.1, lam=lam, p=0.3)
    fed, best = quadratics(list(a), list(b)), optimum(a, b, lam)
    for x in (best, np.array([0.3, -1.0, 2.0])):
        learnt, moved = (l2gd_step(method, fed, x, c) - x for c in (0, 1))
        wanted = -0.1 * (a * (x - b) + lam * (x - x.mean()))
        np.testing.assert_allclose(0.7 * learnt + 0.3 * moved, wanted, atol=1e-6)
        assert np.abs(learnt).max() > 0.01  # where the sum vanishes its parts do not
        assert np.abs(moved).max() > 0.01
    assert np.abs(a * (best - b) + lam * (best - best.mean())).max() < 1e-12


def test_l2gds_average_comes_near_the_optimum():
    (a, b), method = CURVES, L2GD(lr=0.02, lam=0.7, p=0.3)
    training = begin(method, quadratics(list(a), list(b)), **linear())
    training.start()
    for _ in range(100):
        training.step()
    seen = []
    for _ in range(400):
        training.step()
        seen.append(models(training))
    best = optimum(a, b, 0.7)
    assert np.abs(np.mean(seen, axis=0) - best).max() < 0.1
    assert np.abs(best - b).max() > 0.5  # neither the clients' own optima
    assert np.abs(best - best.mean()).max() > 0.5  # nor a common one


def test_rounds_by_hand():
    """The algorithm box for the coins 0, 1, 1, 0, 0, 1."""
    (a, b), n = CURVES, 3
    method = L2GD(lr=0.1, lam=0.9, p=0.3)
    training = begin(method, quadratics(list(a), list(b)), **linear())
    training.start()
    x = np.full(n, number(training.server.mean))
    for c in COINS:
        before, cost = x.mean(), training.step()
        x = x + 0.1 * 0.9 / 0.3 * (x.mean() - x) if c else x - 0.1 / 0.7 * a * (x - b)
        np.testing.assert_allclose(models(training), x, rtol=1e-5)
        if c:
            assert x.mean() == pytest.approx(before)  # moving keeps the mean,
            assert number(training.server.mean) == pytest.approx(x.mean(), rel=1e-5)  # so that the one sent stays right
        assert cost.answered == n


def test_clients_communicate_when_the_coin_turns_and_at_no_other_time():
    """4 bytes of model, and 4 of its weight up. In the first round all join, for which they are sent the first model."""
    trained = train(L2GD(lr=0.1, p=0.3), quadratics([1.0, 2.0], [0.0, 1.0]), 40, **linear())
    thrown = [0, *(coin(r) for r in range(1, 41))]
    turns = [now and not before for before, now in itertools.pairwise(thrown)]
    assert [cost.bytes_up for cost in trained.costs] == [2 * 8 * turn for turn in turns]
    assert [cost.bytes_down for cost in trained.costs] == [2 * 4 * (turn or first) for turn, first in zip(turns, [1] + 39 * [0], strict=True)]
    assert 4 < sum(turns) < 14  # about p (1-p) 40 = 8.4
    assert sum(thrown) > sum(turns)


def test_moves_in_a_row_shrink_what_differs_from_the_mean():
    """Rounds 2 and 3 both move: x_i - x-bar becomes (1 - lr lam / p)^2 times what it was."""
    method = L2GD(lr=0.1, lam=0.9, p=0.3)
    training = begin(method, quadratics([1.0, 1.0, 1.0], [0.0, 1.0, 5.0]), **linear())
    training.start()
    training.step()
    x = models(training)
    training.step()
    training.step()
    np.testing.assert_allclose(models(training) - x.mean(), (1 - 0.3) ** 2 * (x - x.mean()), rtol=1e-4)


def test_without_attraction_it_is_local_training():
    """lam=0: rounds of coin 1 change nothing, the others are steps with the rate lr / (1 - p)."""
    fed = small_digits(3)
    trained = train(L2GD(lr=0.07, lam=0.0, p=0.3), fed, 5)  # coins 0, 1, 1, 0, 0
    alone = train(Local(lr=0.07 / 0.7, batch=0), fed, 3)
    for i in range(3):
        assert_near(trained.states[i].x, alone.states[i], 1e-5)


def test_a_full_move_is_averaging():
    """lr lam = p: every client has the mean afterwards. More is refused."""
    trained = train(L2GD(lr=0.1, lam=3.0, p=0.3), small_digits(3), 2)
    for i in range(3):
        assert_near(trained.states[i].x, trained.server.mean, 1e-6)
    with pytest.raises(AtollError, match="at most 1"):
        L2GD(lr=0.11, lam=3.0, p=0.3)
    with pytest.raises(AtollError, match="at most 1"):
        L2SGD(lr=0.11, lam=3.0, p=0.3)


def test_who_misses_the_mean_is_sent_it_when_others_already_have_it():
    """Client 2 can't be reached in round 2, when x-bar is taken and sent; in round 3, where the others need nothing, it gets it."""
    fed = quadratics([1.0, 1.0, 1.0], [0.0, 1.0, 5.0])
    training = begin(L2GD(lr=0.1, lam=0.9, p=0.3), fed, conditions=Circumstances(gone={2: [2]}), **linear())
    training.start()
    training.step()
    x = models(training)
    training.step()
    assert training.server.has.tolist() == [True, True, False]
    assert number(training.server.mean) == pytest.approx(x[:2].mean(), rel=1e-5)
    training.step()
    assert training.fed.traffic.down[:3].tolist() == [0, 0, 4]
    assert training.fed.traffic.up[:3].tolist() == [0, 0, 0]
    wanted = x[:2].mean() + np.array([0.7**2, 0.7**2, 0.7]) * (x - x[:2].mean())
    np.testing.assert_allclose(models(training), wanted, rtol=1e-5)


CUTS = [(7, 1, 1), (4, 1, 1), (6, 1, 1)]


def scattered():
    """Clients of 7, 4 and 6 rows a_ij/2 (x - b_ij)^2, and their (A_i, B_i)."""
    random = np.random.default_rng(5)
    n = sum(sum(c) for c in CUTS)
    a, b = random.uniform(0.3, 1.7, n), 2 * random.normal(size=n)
    fed = federation(np.sqrt(a).astype(np.float32)[:, None], (np.sqrt(a) * b).astype(np.float32), CUTS, labels=())
    own = [slice(int(s), int(s + c)) for s, c in zip(fed.start["train"], fed.count["train"], strict=True)]
    A = np.array([a[s].mean() for s in own])
    return fed, A, np.array([(a[s] * b[s]).mean() for s in own]) / A


def test_l2sgd_ends_in_the_optimum():
    """With batches of 3 rows, ragged ones among them; where L2GD with the same batches still wanders about."""
    fed, A, B = scattered()
    best = optimum(A, B, 0.7)
    training = begin(L2SGD(lr=0.1, lam=0.7, p=0.3, batch=3), fed, **linear())
    training.start()
    for _ in range(500):
        training.step()
    np.testing.assert_allclose(models(training), best, atol=2e-5)
    noisy = begin(L2GD(lr=0.1, lam=0.7, p=0.3, batch=3), fed, **linear())
    noisy.start()
    far = []
    for _ in range(100):
        noisy.step()
        far.append(np.abs(models(noisy) - best).max())
    assert min(far[40:]) > 1e-3


def test_l2sgd_by_hand():
    """The algorithm box for the coins 0, 1, 1, 0, 0, 1 and blocks of 3 rows, which lie and are drawn as the library's keys say. x-bar moves in each move."""
    fed, _, _ = scattered()
    method = L2SGD(lr=0.1, lam=0.9, p=0.3, batch=3)
    training = begin(method, fed, **linear())
    training.start()
    x, J, Psi, blocks = np.full(3, number(training.server)), np.zeros((3, 3)), np.zeros(3), []
    for i, (n, _, _) in enumerate(CUTS):
        lasting = jax.random.fold_in(jax.random.fold_in(common_key(0), 1 << 29), i)
        order = np.asarray(shuffle(jnp.arange(n, dtype=jnp.int32), jnp.int32(n), lasting))
        blocks.append([rows(fed, i, order[at : at + 3]) for at in range(0, n, 3)])
    for r, c in enumerate(COINS, start=1):
        cost = training.step()
        Jbar = np.array([sum(len(a) * J[i, j] for j, (a, _) in enumerate(of)) / CUTS[i][0] for i, of in enumerate(blocks)])
        if c:
            pull = 0.9 * (x - x.mean())
            x = x - 0.1 * (pull / 0.3 - (1 / 0.3 - 1) * Psi + Jbar)
            Psi = pull
        else:
            for i, of in enumerate(blocks):
                j = int(jax.random.randint(jax.random.fold_in(key("learn", r, i), 1 << 29), (), 0, CUTS[i][0])) // 3
                a, b = of[j]
                g = (a * (x[i] - b)).mean()
                x[i] -= 0.1 * ((g - J[i, j]) / 0.7 + Jbar[i] + Psi[i])
                J[i, j] = g
        np.testing.assert_allclose(models(training), x, rtol=1e-5, atol=1e-6)
        assert cost.bytes_up == 3 * 8 * c
        assert cost.bytes_down == 3 * 4 * (c or r == 1)
    assert number(training.server) != pytest.approx(x.mean(), rel=1e-3)
    states = training.engine.executor.dump_states()
    np.testing.assert_allclose([leaves(states[i].J)[0].ravel() for i in range(3)], J, rtol=1e-5, atol=1e-6)
    assert (J != 0).sum() > 3


def rows(fed, i, at):
    """a_ij and b_ij of a client's rows number `at`."""
    root, y = fed.x[fed.start["train"][i] + at, 0].astype(np.float64), fed.y[fed.start["train"][i] + at].astype(np.float64)
    return root**2, y / root
