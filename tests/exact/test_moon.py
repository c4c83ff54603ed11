"""MOON against FedAvg, NumPy and a gradient written out for a dense network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.methods.fedavg import FedAvg
from atoll.methods.moon import MOON, contrast
from atoll.study.training import check_method
from tests.exact.dense import equal_clients, train_rows
from tests.harness import assert_near, begin, small_digits, train

HOW = {"lr": 0.2, "epochs": 2, "batch": 4}


def test_without_the_term_it_is_fedavg():
    fed = small_digits(3)
    wanted = train(FedAvg(**HOW), fed, 3)
    assert_near(train(MOON(**HOW, mu=0.0), fed, 3).server, wanted.server, 1e-6)
    assert not np.allclose(train(MOON(**HOW), fed, 3).server.tree["head"]["kernel"], wanted.server.tree["head"]["kernel"], atol=1e-4)


def test_a_first_round_is_fedavg():
    """No client has a past yet, so there is nothing to be kept away from."""
    fed = small_digits(3)
    assert_near(train(MOON(**HOW, mu=9.0), fed, 1).server, train(FedAvg(**HOW), fed, 1).server, 1e-6)


def test_the_contrast_by_hand():
    """Two rows, a buffer of three of which two are filled: the third does not count, whatever it holds."""
    random = np.random.default_rng(0)
    z, near, far = random.normal(size=(2, 4)), random.normal(size=(2, 4)), random.normal(size=(3, 2, 4))

    def cos(a, b):
        return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)

    top, below = np.exp(cos(z, near) / 0.5), np.exp(cos(z, far[:2]) / 0.5).sum(0)
    got = contrast(*(jnp.asarray(a, jnp.float32) for a in (z, near, far)), jnp.int32(2), 0.5)
    np.testing.assert_allclose(got, -np.log(top / (top + below)), rtol=1e-5)


def test_a_past_like_the_common_model_has_no_pull():
    """log 2 and no gradient; and swapping common and past model turns the pull around at the point where both are equally far."""
    z, other = jax.random.normal(jax.random.key(0), (5, 3)), jax.random.normal(jax.random.key(1), (5, 3))
    value, pull = jax.value_and_grad(lambda z: contrast(z, other, other[None], jnp.int32(1), 0.5).sum())(z)
    assert float(value) == pytest.approx(5 * np.log(2), rel=1e-6)
    np.testing.assert_allclose(pull, 0, atol=1e-6)


def test_features_that_are_zero_make_no_nan():
    z = jnp.zeros((2, 3))
    value, pull = jax.value_and_grad(lambda z: contrast(z, z, z[None], jnp.int32(0), 0.5).sum())(z)
    assert float(value) == 0
    np.testing.assert_array_equal(pull, 0)


@pytest.mark.parametrize("mu", [0.0, 2.0])
def test_the_second_round_by_hand(mu):
    """One full step per round: the first along the cross-entropy alone, the second along cross-entropy + mu contrast, with the client's own last model."""
    fed, lr, tau = equal_clients(2), 0.3, 0.7
    method = MOON(lr=lr, epochs=1, batch=0, mu=mu, tau=tau)
    training = begin(method, fed, models=("mlp:6",))
    training.start()
    first = jax.tree.map(jnp.asarray, training.server.tree)

    def features(w, x):
        return jax.nn.relu(x @ w["dense1"]["kernel"] + w["dense1"]["bias"])

    def objective(v, w, past, x, y):
        z = features(v, x)
        out = z @ v["head"]["kernel"] + v["head"]["bias"]
        ce = -jnp.take_along_axis(jax.nn.log_softmax(out), y[:, None], 1).mean()
        if past is None:
            return ce

        def cos(a, b):
            return (a * b).sum(1) / jnp.maximum(jnp.linalg.norm(a, axis=1) * jnp.linalg.norm(b, axis=1), 1e-12)

        near, far = cos(z, features(w, x)) / tau, cos(z, features(past, x)) / tau
        return ce + mu * jnp.mean(jnp.log(jnp.exp(near) + jnp.exp(far)) - near)

    data = [tuple(jnp.asarray(a, t) for a, t in zip(train_rows(fed, i), (jnp.float32, jnp.int32), strict=True)) for i in range(2)]
    w, past = first, [None, None]
    for _ in range(2):
        steps = [jax.tree.map(lambda a, g: a - lr * g, w, jax.grad(objective)(w, w, past[i], *data[i])) for i in range(2)]
        past, w = steps, jax.tree.map(lambda a, b: (a + b) / 2, *steps)
        training.step()
    assert_near(training.server.tree, w, 1e-5)


def test_the_buffer_holds_the_last_models_newest_first():
    fed = small_digits(2)
    short = train(MOON(**HOW, mu=0.0, buffer=3), fed, 2)
    longer = train(MOON(**HOW, mu=0.0, buffer=3), fed, 3)
    one = train(MOON(**HOW, mu=0.0), fed, 3)
    for i in range(2):
        assert (int(short.states[i].n), int(longer.states[i].n)) == (2, 3)
        assert_near(jax.tree.map(lambda leaf: leaf[1:], longer.states[i].past), jax.tree.map(lambda leaf: leaf[:2], short.states[i].past), 1e-6)
        assert_near(jax.tree.map(lambda leaf: leaf[:1], longer.states[i].past), one.states[i].past, 1e-6)


def test_a_model_without_features_is_refused():
    with pytest.raises(AtollError, match="hidden layer"):
        check_method(MOON(), begin(MOON(), small_digits(2), models=("softmax",)).engine.facts)
    check_method(MOON(), begin(MOON(), small_digits(2)).engine.facts)
