"""Ditto: its common model is FedAvg's, its own models are Local's without the spring, and closed forms with it."""

import jax.numpy as jnp
import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.keys import shuffle
from atoll.methods.ditto import Ditto
from atoll.methods.fedavg import FedAvg
from atoll.methods.local import Local
from tests.exact.plain import add, first_model, gradient, key, rows, sgd, weights
from tests.harness import assert_alike, assert_near, begin, leaves, linear, quadratics, small_digits, train


@pytest.mark.parametrize("how", [{"lam": 0.0}, {"lam": 3.0}, {"lam": 3.0, "s": 2}])
def test_the_common_model_is_fedavgs(how):
    averaged, ditto = (train(m, small_digits(), 3, per_round=3) for m in (FedAvg(batch=4, epochs=2), Ditto(batch=4, epochs=2, **how)))
    assert_alike(ditto.server, averaged.server)


def test_without_the_spring_own_models_are_locals():
    """Next to FedAvg's common model; and with it they are not."""
    local, free, held = (train(m, small_digits(), 3) for m in (Local(batch=4), Ditto(batch=4, lam=0.0), Ditto(batch=4, lam=1.0)))
    assert_alike(free.states, local.states)
    assert all(not np.array_equal(a, b) for a, b in zip(leaves(held.states), leaves(local.states), strict=True))


@pytest.mark.parametrize("lam", [0.5, 2.0, 50.0])
def test_fixed_point_on_quadratics(lam):
    """v_k = (a_k b_k + lam w) / (a_k + lam), with w the fixed point of FedAvg; a strong spring leaves v_k = w."""
    a, b = np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.0, -1.0])
    trained = train(Ditto(lr=0.02, epochs=4, batch=0, lam=lam), quadratics(list(a), list(b)), 150, **linear())
    w = leaves(trained.server)[0].item()
    v = np.array([leaves(trained.states[i])[0].item() for i in range(3)])
    assert_near(v, (a * b + lam * w) / (a + lam), 1e-4)
    assert np.abs(v - w).max() < np.abs(b - w).max() * 4 / (4 + lam) + 1e-6  # ever nearer to w


@pytest.mark.parametrize("s", [0, 3])
def test_two_rounds_in_numpy(s):
    """Softmax regression: v starts from the first model, and each round from where it was, held to the w that was sent."""
    fed, method = small_digits(3), Ditto(lr=0.2, batch=4, epochs=2, lam=0.7, s=s)
    training = begin(method, fed, models=("softmax",))
    w = weights(first_model(training))
    v = [w] * 3
    n = np.array([len(rows(fed, i)[1]) for i in range(3)])
    for t in (1, 2):
        v = [spring_sgd(v[i], w, *rows(fed, i), 0.2, 2, 4, key("update", t, i), 0.7, s or None) for i in range(3)]
        ws = [sgd(w, *rows(fed, i), 0.2, 2, 4, key("update", t, i)) for i in range(3)]
        w = tuple(sum(n_i * part[j] for n_i, part in zip(n, ws, strict=True)) / n.sum() for j in range(2))
        training.step()
    assert_near(weights(training.server), w)
    states = training.engine.executor.dump_states()
    assert_near([weights(states[i]) for i in range(3)], v)


def spring_sgd(v, w, x, y, lr, epochs, batch, key, lam, steps):
    """plain.sgd with a spring to w instead of to its start, ended after `steps` steps."""
    done = 0
    for epoch in range(epochs):
        order = np.asarray(shuffle(jnp.arange(len(x), dtype=jnp.int32), jnp.int32(len(x)), key, epoch))
        for at in range(0, len(x), batch):
            if steps is not None and done == steps:
                return v
            some = order[at : at + batch]
            v = add(v, add(gradient(v, x[some], y[some]), add(v, w, -1.0), lam), -lr)
            done += 1
    return v


def test_rates_at_which_the_spring_overshoots_are_refused():
    with pytest.raises(AtollError, match="Take lr < "):
        Ditto(lr=0.3, lam=10.0)
