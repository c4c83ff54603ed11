"""FedCurv against FedAvg, the explicit sum of penalties in NumPy, and the optimum of all clients.

Clients f_i(w) = a_i/2 (w - b_i)^2. With I_j = a_j and theta_j = b_j the penalty lam sum_{j != i} a_j (w - b_j)^2 is, for lam=1/2, the sum of the others'
f_j: so every client's minimum is that of all, sum a_j b_j / sum a_j.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from atoll.methods.fedavg import FedAvg
from atoll.methods.fedcurv import Curvature, FedCurv, Server
from tests.exact.plain import Circumstances, add, first_model, gradient, rows, weights
from tests.exact.test_fedcl import fisher
from tests.harness import assert_near, begin, leaves, linear, normed, quadratics, small_digits, train

A, B = np.array([1.0, 2.0, 4.0, 0.5]), np.array([0.0, 1.0, -1.0, 3.0])
OPTIMUM = (A @ B) / A.sum()


@pytest.mark.parametrize(("lam", "shift"), [(0.5, 0.0), (1.0, 0.1)])
def test_with_curvatures_known_every_client_finds_the_optimum_of_all(lam, shift):
    """The paper's factor is lam, not lam/2: with lam=1 the others count double, and clients end in different places."""
    training = begin(FedCurv(lr=0.1, epochs=200, batch=0, lam=lam), quadratics(list(A), list(B)), **linear())
    training.start()
    w = training.server.theta

    def of(a, b):
        return Curvature(0 * w + jnp.float32(a), 0 * w + jnp.float32(a * b))

    sums = Server(w, of(A.sum(), OPTIMUM))
    training.restore(0, sums, {i: of(A[i], B[i]) for i in range(4)})
    training.fed.begin_round(1, sums)
    got = np.array([leaves(training.fed.ask([i], training.method.update, sums).w)[0].item() for i in range(4)])
    others = (A @ B - A * B, A.sum() - A)
    assert_near(got, (A * B + 2 * lam * others[0]) / (A + 2 * lam * others[1]))
    assert (abs(got - OPTIMUM).max() > 0.1) == (shift > 0)
    if not shift:
        assert_near(got, np.full(4, OPTIMUM))


def test_rounds_by_hand():
    """The explicit sum over the others' last (theta_j, I_j), three full steps a round: g + 2 lam sum_{j != i} I_j (theta - theta_j). Client 2 is away in round
    2, and is remembered in round 3 as it was."""
    fed, lr, lam, away = small_digits(3), 0.2, 0.5, {2: [2]}
    theta, last = weights(first_model(begin(FedCurv(), fed, models=("softmax",)))), {}
    for round in (1, 2, 3):
        there = [i for i in range(3) if i not in away.get(round, [])]
        trained = {}
        for i in there:
            w = theta
            for _ in range(3):
                g = gradient(w, *rows(fed, i))
                for j, (theta_j, f_j) in last.items():
                    if j != i:
                        g = add(g, [f * d for f, d in zip(f_j, add(w, theta_j, -1.0), strict=True)], 2 * lam)
                w = add(w, g, -lr)
            trained[i] = w
        last |= {i: (w, fisher(w, *rows(fed, i))) for i, w in trained.items()}
        n = [len(rows(fed, i)[0]) for i in there]
        theta = tuple(np.average(part, axis=0, weights=n) for part in zip(*trained.values(), strict=True))
    run = train(FedCurv(lr=lr, epochs=3, batch=0, lam=lam), fed, 3, models=("softmax",), conditions=Circumstances(gone=away))
    assert_near(weights(run.server.theta), theta)
    assert_near(weights(run.server.sum.u), [sum(part) for part in zip(*(f for _, f in last.values()), strict=True)])
    assert_near(weights(run.states[2].v), [f * w for w, f in zip(*last[2], strict=True)])


def test_the_first_round_is_fedavgs():
    """Nobody has measured anything yet. BatchNorm statistics are averaged and not penalised."""
    fed, how = small_digits(2), {"lr": 0.1, "epochs": 1, "batch": 4}
    model = {"models": (normed(fed),)}
    run = train(FedCurv(**how, lam=50.0), fed, 1, **model)
    assert "buffers" not in run.server.sum.u.tree
    assert_near(run.server.theta, train(FedAvg(**how), fed, 1, **model).server)
