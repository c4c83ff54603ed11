"""pFedMe against its fixed points on quadratics, the Moreau envelope by SciPy, and NumPy."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from atoll.core.errors import AtollError
from atoll.core.keys import purpose_key, shuffle
from atoll.data import load
from atoll.methods.fedprox import FedProx
from atoll.methods.pfedme import PFedMe
from tests.exact.entropy import classes, entropy, entropy_gradient, kernel, rows
from tests.harness import Fixed, assert_alike, assert_near, begin, leaves, linear, normed, quadratics, small_digits, train

A, B = np.array([1, 2, 4, 0.5]), np.array([0, 1, -1, 3.0])
LINEAR = ("softmax:bias=false",)


def started(method, fed, **how):
    training = begin(method, fed, **how)
    training.start()
    return training


def scores(trained, model, split="test"):
    return np.array([[row["correct"], row["loss"]] for row in trained.training.evaluate().to_dicts() if (row["model"], row["split"]) == (model, split)])


@pytest.mark.parametrize("lam", [1.0, 15.0])
def test_fixed_points(lam):
    """theta_i(w) = (a b + lam w) / (a + lam), so w - theta_i = a / (a + lam) (w - b): its mean vanishes at w = sum c b / sum c with c = a / (a + lam)."""
    c = A / (A + lam)
    w = c @ B / c.sum()
    assert w == pytest.approx({1.0: 0.376812, 15.0: 0.009209}[lam], abs=1e-6)
    theta = (A * B + lam * w) / (A + lam)
    if lam == 1:
        assert_near(theta, np.array([0.188406, 0.792271, -0.724638, 1.251208]), 1e-6)
    method = PFedMe(lam=lam, K=80, R=1, batch=1, eta=1 / lam, plr=1 / (4 + lam))
    trained = train(method, quadratics(A, B), 150, **linear())
    assert_near(kernel(trained.server), w, 3e-6)
    assert_near(np.array([kernel(trained.states[i]).item() for i in range(4)]), theta, 3e-6)


def test_the_step_is_the_moreau_gradient():
    """R = 1, full batch, one client: (w - w+) / eta is the gradient of F(w) = min over theta of f(theta) + lam/2 |theta - w|^2. SciPy minimises, and central
    differences of its minimum give the gradient."""
    fed, lam = classes([(7, 2, 2)]), 2.0
    x, y = rows(fed, 0)
    method = PFedMe(lam=lam, K=200, R=1, batch=7, eta=0.5, plr=0.2)
    training = started(method, fed, models=LINEAR)
    w = kernel(training.server)

    def F(w):
        def value(theta):
            theta = theta.reshape(w.shape)
            return entropy(x, y, theta) + lam / 2 * np.sum((theta - w) ** 2), (entropy_gradient(x, y, theta) + lam * (theta - w)).ravel()

        return minimize(value, w.ravel(), jac=True, method="L-BFGS-B", options={"ftol": 1e-16, "gtol": 1e-10}).fun

    wanted, e = np.zeros_like(w), 1e-3
    for at in np.ndindex(w.shape):
        moved = np.zeros_like(w)
        moved[at] = e
        wanted[at] = (F(w + moved) - F(w - moved)) / (2 * e)
    training.step()
    assert_near((w - kernel(training.server)) / 0.5, wanted, 1e-5)


def test_full_steps_give_the_mean_of_the_personal_models():
    """R = 1, beta = 1, eta lam = 1: w_i becomes theta_i, so the new w is their plain mean, although clients have 9, 14, 19 and 24 rows."""
    trained = train(PFedMe(lam=4.0, eta=0.25, R=1, K=7, batch=30), small_digits(), 2)
    thetas = [leaves(trained.states[i]) for i in range(4)]
    assert_near(trained.server, [np.mean(leaf, axis=0) for leaf in zip(*thetas, strict=True)], 1e-6)
    assert abs(thetas[0][-1] - thetas[1][-1]).max() > 0.01


@pytest.mark.parametrize("beta", [0.3, 1.0, 2.0])
def test_the_server_mixes(beta):
    """w <- (1 - beta) w + beta mean of w_i; beta > 1 goes beyond the mean. The mean is what beta = 1 gives, bit for bit."""
    method = PFedMe(R=3, K=2, batch=4, lam=5.0, eta=0.1)
    start, plain = started(method, small_digits(3)).server, train(method, small_digits(3), 1).server
    got = train(dataclasses.replace(method, beta=beta), small_digits(3), 1).server
    if beta == 1:
        assert_alike(got, plain)
    assert_near(got, [(1 - beta) * a + beta * b for a, b in zip(leaves(start), leaves(plain), strict=True)], 1e-5)
    assert abs(leaves(plain)[-1] - leaves(start)[-1]).max() > 1e-3


def test_theta_is_held_closely_by_a_large_lambda():
    """The minimum has theta - w = -grad f(theta) / lam = -grad f(w) / lam + O(1 / lam^2): doubling lam quarters what is left."""
    fed = classes([(7, 2, 2)])
    left = []
    for lam in (10.0, 20.0, 40.0):
        method = PFedMe(lam=lam, K=60, R=1, batch=7, eta=1 / lam, plr=1 / (lam + 2))
        training = started(method, fed, models=LINEAR)
        w = kernel(training.server)
        training.step()
        theta = kernel(training.engine.executor.dump_states()[0])
        left.append(np.linalg.norm(theta - w + entropy_gradient(*rows(fed, 0), w) / lam))
    assert left[0] < 0.02
    assert 3.3 < left[0] / left[1] < 4.2
    assert 3.3 < left[1] / left[2] < 4.2


def batches(client, n, size, steps, purpose="update", round=1):
    """The row numbers of each batch; which rows come is the library's draw, what is done with them is checked."""
    key, per_epoch = jax.random.fold_in(purpose_key(0, purpose, round), client), -(-n // size)
    for t in range(steps):
        position = jnp.arange(t % per_epoch * size, min((t % per_epoch + 1) * size, n), dtype=jnp.int32)
        yield np.asarray(shuffle(position, jnp.int32(n), key, t // per_epoch))


def test_a_round_by_hand():
    """R = 4 batches of 3 rows (the last of an epoch is partial), K = 2: theta goes on from the batch before, w_i follows it. Then the plain mean."""
    fed = classes()
    method = PFedMe(lam=3.0, K=2, R=4, batch=3, eta=0.2, plr=0.1, beta=1.0)
    start = kernel(started(method, fed, models=LINEAR).server)
    sent, thetas = [], []
    for i in range(2):
        x, y = rows(fed, i)
        theta = w = start
        for at in batches(i, len(x), 3, 4):
            for _ in range(2):
                theta = theta - 0.1 * (entropy_gradient(x[at], y[at], theta) + 3.0 * (theta - w))
            w = w - 0.2 * 3.0 * (w - theta)
        sent.append(w)
        thetas.append(theta)
    trained = train(method, fed, 1, models=LINEAR)
    assert_near(kernel(trained.server), np.mean(sent, axis=0), 2e-6)
    for i in range(2):
        assert_near(kernel(trained.states[i]), thetas[i], 2e-6)
        assert abs(thetas[i] - sent[i]).max() > 0.01  # so it is theta that is kept, not w_i


def test_a_round_starts_from_the_new_common_model():
    """theta begins at w in every round: what a client kept does not come back, and a client's round depends on w alone."""
    fed, method = small_digits(2), PFedMe(R=2, K=3, batch=4)
    training = started(method, fed)
    training.step()
    training.step()
    first, again = train(method, fed, 1), begin(method, fed)
    again.restore(1, first.server, {i: theta * 0.0 for i, theta in first.states.items()})
    again.step()
    assert_alike(again.server, training.server)
    assert_alike(again.engine.executor.dump_states(), training.engine.executor.dump_states())


def test_the_personal_model_is_theta():
    """On quadratics the squared error of the personal model is a (theta - b)^2, that of the global one a (w - b)^2; theta, w and w_i all differ."""
    method = PFedMe(lam=1.0, K=80, R=1, batch=1, eta=0.5, plr=0.2)
    trained = train(method, quadratics(A, B), 150, **linear())
    w = 0.376812
    theta = (A * B + w) / (A + 1)
    assert_near(scores(trained, "personal")[:, 1], A * (theta - B) ** 2, 1e-5)
    assert_near(scores(trained, "global")[:, 1], A * (w - B) ** 2, 1e-5)
    w_i = w - 0.5 * (w - theta)
    assert abs(scores(trained, "personal")[:, 1] - A * (w_i - B) ** 2).min() > 1e-3


def test_a_client_that_never_trained_predicts_with_its_theta_of_w():
    """By hand: K steps on each of R batches toward theta_i(w) for the w that it meets, w itself at rest."""
    fed = classes()
    method = PFedMe(lam=3.0, K=2, R=3, batch=3, eta=0.2, plr=0.1)
    trained = train(method, fed, 2, models=LINEAR, selector=Fixed(0))
    assert set(trained.states) == {0}
    w = kernel(trained.server)
    x, y = rows(fed, 1)
    theta = w
    for at in batches(1, len(x), 3, 3, "join", 0):
        for _ in range(2):
            theta = theta - 0.1 * (entropy_gradient(x[at], y[at], theta) + 3.0 * (theta - w))
    first, n = fed.start["test"][1], fed.count["test"][1]
    assert scores(trained, "personal")[1, 1] / n == pytest.approx(entropy(fed.x[first : first + n], fed.y[first : first + n], theta), rel=1e-5)
    assert scores(trained, "personal")[1, 1] != pytest.approx(scores(trained, "global")[1, 1], rel=1e-3)


def test_statistics_are_averaged_but_not_mixed():
    """BatchNorm: with beta = 2 parameters go beyond the clients' mean and statistics do not (a variance might become negative); w_i has theta's statistics."""
    fed = small_digits(3)
    method, how = PFedMe(R=3, K=2, batch=4, lam=5.0, eta=0.1), {"models": (normed(fed),)}
    plain, doubled = train(method, fed, 1, **how), train(dataclasses.replace(method, beta=2.0), fed, 1, **how)
    assert_alike(doubled.server.tree["buffers"], plain.server.tree["buffers"])
    assert abs(leaves(doubled.server.tree["head"])[0] - leaves(plain.server.tree["head"])[0]).max() > 1e-3
    kept = [leaves(plain.states[i].tree["buffers"]) for i in range(3)]
    assert_near(plain.server.tree["buffers"], [np.mean(leaf, axis=0) for leaf in zip(*kept, strict=True)])


def test_steps_beyond_theta_are_refused():
    assert PFedMe(eta=1 / 15, lam=15.0).beta == 1
    with pytest.raises(AtollError, match=r"eta \* lam = 1\.5"):
        PFedMe(eta=0.1, lam=15.0)


def matrices():
    """Three clients f_i(w) = 1/2 (w - b_i)' A_i (w - b_i) in three dimensions, whose Hessians do not commute, and the federation of them."""
    random = np.random.default_rng(8)
    bases = np.linalg.qr(random.normal(size=(3, 3, 3)))[0]
    a = bases @ (random.uniform(0.3, 2.5, (3, 3, 1)) * np.swapaxes(bases, 1, 2))
    b = random.normal(size=(3, 3))
    return a, b, load("quadratic", a=a, b=b)


def test_closed_forms_in_several_dimensions():
    """theta_i(w) = (A_i + lam I)^-1 (A_i b_i + lam w); the envelope is 1/2 (w - b)' M (w - b) with M = (A^-1 + I / lam)^-1 = lam (A + lam I)^-1 A, so a step
    goes along the mean of M_i (w - b_i), and w comes to rest at [sum M]^-1 sum M b."""
    lam, eta, (a, b, fed) = 2.0, 0.3, matrices()
    M = np.linalg.inv(np.linalg.inv(a) + np.eye(3) / lam)
    method = PFedMe(lam=lam, K=60, R=1, batch=3, eta=eta, plr=1 / (2.5 + lam))
    training = started(method, fed, **linear())
    for _ in range(2):
        w = kernel(training.server)[:, 0]
        training.step()
        assert_near((w - kernel(training.server)[:, 0]) / eta, np.einsum("ijk,ik->j", M, w - b) / 3, 2e-6)
        for i, theta in training.engine.executor.dump_states().items():
            assert_near(kernel(theta)[:, 0], np.linalg.solve(a[i] + lam * np.eye(3), a[i] @ b[i] + lam * w), 2e-6)
    rest = np.linalg.solve(M.sum(0), np.einsum("ijk,ik->j", M, b))
    for _ in range(100):
        training.step()
    assert_near(kernel(training.server)[:, 0], rest, 1e-5)


def test_full_steps_are_fedprox_solved_exactly():
    """R = 1, beta = 1, eta lam = 1 and mu = lam: both send the minimiser of f_i(theta) + lam/2 |theta - w|^2, and clients are equally large."""
    lam, (_, _, fed) = 2.0, matrices()
    steps = {"lr": 1 / (2.5 + lam), "epochs": 60, "batch": 0}
    prox = train(FedProx(mu=lam, **steps), fed, 3, **linear())
    full = train(PFedMe(lam=lam, K=60, R=1, batch=3, eta=1 / lam, plr=steps["lr"]), fed, 3, **linear())
    assert_near(full.server, prox.server, 2e-6)
