"""pFedHN: the server's step is the gradient of an inner product, by autodiff and in closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tree_math import Vector

from atoll.core.errors import AtollError
from atoll.methods.pfedhn import PFedHN, made
from atoll.models import build
from tests.exact import dense
from tests.harness import Fixed, assert_alike, assert_near, begin, small_digits, train

PLAIN = {"momentum": 0.0, "decay": 0.0, "alpha_decay": 0.0, "clip": 1e9, "batch": 64}  # plain steps, on all rows of a client


def before_and_after(method, fed, **how):
    training = begin(method, fed, **how)
    training.start()
    phi = training.server.phi
    training.step()
    return phi, training.server.phi


def test_a_step_is_the_gradient_of_the_loss_through_the_hypernetwork():
    """One local step without momentum: phi - alpha lr d/d phi of the mean over clients of F_i(H(e_i; phi)), by autodiff of all of it."""
    fed = small_digits(3)
    phi, after = before_and_after(PFedHN(**PLAIN, lr=0.2, K=1, alpha=0.5, hidden=7), fed)

    def F(phi):
        total = 0.0
        for i in range(3):
            x, y = dense.train_rows(fed, i)
            w = made(phi, phi.e[i]).tree
            out = jax.nn.relu(x @ w["dense1"]["kernel"] + w["dense1"]["bias"]) @ w["head"]["kernel"] + w["head"]["bias"]
            total += -jax.nn.log_softmax(out)[np.arange(len(y)), y].mean()
        return total / 3

    assert_near(after, jax.tree.map(lambda p, g: p - 0.5 * 0.2 * g, phi, jax.grad(F)(phi)))


def test_a_step_of_a_linear_hypernetwork_in_closed_form():
    """theta_i = W h_i + b with h_i = e_i K + c and delta_i = theta_i - theta~_i: b moves by the mean delta, W by h_i x delta_i, e_i by K (W : delta_i)."""
    fed, alpha, lr = small_digits(3), 0.5, 0.2
    phi, after = before_and_after(PFedHN(**PLAIN, lr=lr, K=3, alpha=alpha, depth=0, hidden=5, embedding=2), fed)
    ((kernel, bias),) = [[np.asarray(leaf, np.float64) for leaf in layer] for layer in phi.layers]
    e = np.asarray(phi.e, np.float64)
    W, b = ([np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(part)] for part in (phi.W, phi.b))
    names = jax.tree.structure(phi.b)
    new_W, new_b, new_e, new_kernel, new_bias = [w.copy() for w in W], [v.copy() for v in b], e.copy(), kernel.copy(), bias.copy()
    for i in range(3):
        h = e[i] @ kernel + bias
        theta = [np.tensordot(h, w, 1) + v for w, v in zip(W, b, strict=True)]
        w = dense.weights(jax.tree.unflatten(names, theta))
        for _ in range(3):
            w = dense.step(w, dense.gradient(w, *dense.train_rows(fed, i)), lr)
        delta = [t - leaf for t, leaf in zip(theta, jax.tree.leaves(Vector(w)), strict=True)]
        down = sum(np.tensordot(w, d, d.ndim) for w, d in zip(W, delta, strict=True))  # [hidden]
        for j, d in enumerate(delta):
            new_W[j] -= alpha / 3 * np.multiply.outer(h, d)
            new_b[j] -= alpha / 3 * d
        new_e[i] -= alpha / 3 * kernel @ down
        new_kernel -= alpha / 3 * np.outer(e[i], down)
        new_bias -= alpha / 3 * down
    assert_near(jax.tree.leaves(after.W), new_W)
    assert_near(jax.tree.leaves(after.b), new_b)
    assert_near(after.e, new_e)
    assert_near(after.layers, [(new_kernel, new_bias)])


def test_without_local_steps_nothing_moves():
    phi, after = before_and_after(PFedHN(**PLAIN, K=0, hidden=5), small_digits(2))
    assert_alike(phi, after)


def test_only_those_asked_move_their_vectors():
    phi, after = before_and_after(PFedHN(**PLAIN, K=2, hidden=30), small_digits(4), selector=Fixed(3, 1))
    moved = (np.asarray(phi.e) != np.asarray(after.e)).any(axis=1)
    assert moved.tolist() == [False, True, False, True]


def test_momentum_decay_and_clipping_at_the_server():
    """Without local steps the gradient is 0 and decay alone moves: v <- 0.9 v + decay phi, phi <- phi - alpha v. A clipped gradient has the norm `clip`."""
    how = {"hidden": 5, "alpha": 0.1, "alpha_decay": 0.2}
    trained = train(PFedHN(K=0, **how), small_digits(2), 2)
    start = begin(PFedHN(K=0, **how), small_digits(2))
    start.start()
    phi, v = np.asarray(start.server.phi.e), 0.0
    for _ in range(2):
        v = 0.9 * v + 0.2 * phi
        phi = phi - 0.1 * v
    assert_near(trained.server.phi.e, phi)
    before, after = before_and_after(PFedHN(**(PLAIN | {"clip": 0.01}), K=5, lr=0.2, alpha=1.0, hidden=5), small_digits(2))
    assert jnp.sqrt(sum(jnp.square(a - b).sum() for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True))) == pytest.approx(0.01, rel=1e-3)


def test_what_clients_predict_with():
    """H(e_i; phi); a client held out of training gets the model of the mean vector."""
    fed = dataclasses.replace(small_digits(3), seen=2)
    trained = train(PFedHN(hidden=5, embedding=3), fed, 2)
    phi = trained.server.phi
    for i, e in enumerate([phi.e[0], phi.e[1], phi.e.mean(0)]):
        w, (x, y) = dense.weights(made(phi, e)), dense.rows(fed, i, "test")
        row = next(row for row in trained.training.evaluate().to_dicts() if row["client"] == i and row["split"] == "test")
        assert row["loss"] / row["rows"] == pytest.approx(dense.loss(w, x, y), rel=1e-4)


def test_models_with_running_statistics_are_refused():
    with pytest.raises(AtollError, match="statistics"):
        PFedHN().check_model(build("mlp:6,norm=batch", (8, 8), 10))
