"""VIRTUAL: the algebra of its Gaussians, the posterior of all rows where there is a closed form, and what must hold after every round."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tree_math import Vector

from atoll.core.errors import AtollError
from atoll.core.gaussian import Natural, Spread, divergence, draw, factor, over, power, spread, times
from atoll.methods.virtual import VIRTUAL
from atoll.models import build
from tests.exact.plain import Circumstances, rows
from tests.harness import assert_near, begin, federation, leaves, normed, small_digits, train


def natural(precision, shift):
    return Natural(*(Vector({"a": jnp.asarray(part, jnp.float32)}) for part in (precision, shift)))


def numbers(a):
    return tuple(np.asarray(part.tree["a"], np.float64) for part in a)


def test_divergence_and_draws():
    """KL of N(1, 0.5^2) || N(0, 2^2) and of N(-2, 1) || N(-1, 0.5^2) by the integral; draws have the mean and the std."""
    q = Spread(Vector({"a": jnp.array([1.0, -2.0])}), Vector({"a": jnp.log(jnp.array([0.5, 1.0]))}))
    p_mean, p_std = np.array([0.0, -1.0]), np.array([2.0, 0.5])
    x = np.linspace(-12, 12, 200001)[:, None]

    def log(mean, std):
        return -0.5 * np.square((x - mean) / std) - np.log(std) - 0.5 * np.log(2 * np.pi)

    density = log(np.array([1.0, -2.0]), np.array([0.5, 1.0]))
    wanted = (np.exp(density) * (density - log(p_mean, p_std))).sum() * (x[1] - x[0])
    assert_near(divergence(q, natural(p_std**-2.0, p_mean / p_std**2)), wanted[0])
    some = np.asarray(jax.vmap(lambda key: draw(q, key).tree["a"])(jax.random.split(jax.random.key(0), 40000)))
    assert_near(some.mean(axis=0), np.array([1.0, -2.0]), 0.02)
    assert_near(some.std(axis=0), np.array([0.5, 1.0]), 0.02)


def test_a_factor_is_what_the_cavity_lacks_and_adds_no_doubt():
    rest = natural([4.0, 4.0], [2.0, 2.0])
    q = times(rest, natural([5.0, 0.0], [-3.0, 0.0]))
    q = q._replace(precision=q.precision - Vector({"a": jnp.array([0.0, 1.0])}))  # the second is wider than the rest: mean 2/3
    precision, shift = numbers(factor(spread(q), rest))
    assert_near(precision, np.array([5.0, 0.0]))
    assert_near(shift, np.array([-3.0, 4.0 * 2 / 3 - 2]))


def regression():
    """Three clients, rows along one axis each, so that posteriors are independent in the parameters; y = x'(1, -0.5) + noise of variance 1."""
    random = np.random.default_rng(0)
    x = np.concatenate([np.array([[s, 0], [0, r]] * 3, np.float32) for s, r in ((1.0, 2.0), (2.0, 0.5), (1.5, 1.0))])
    x = np.concatenate([x, x[:6]])
    y = (x @ np.array([1.0, -0.5]) + random.normal(size=24)).astype(np.float32)
    return federation(x, y, [(6, 1, 1)] * 3, labels=())


def likelihoods(fed):
    """(precision, shift) of each client's likelihood."""
    return [((x**2).sum(0), x.T @ y) for x, y in (rows(fed, i) for i in range(3))]


def test_with_exact_solutions_one_sweep_gives_the_posterior_of_all_rows():
    """All clients at once from any first factors, gamma=1; a second sweep changes nothing, and gamma=1/2 goes half of the way."""
    of = [natural(*f) for f in likelihoods(regression())]
    prior, first = natural([0.25, 0.25], [0.0, 0.0]), natural([1.0, 1.0], [0.3, -0.2])
    posterior = functools.reduce(times, of, prior)
    for gamma in (1.0, 0.5):
        own, s = [first] * 3, functools.reduce(times, [first] * 3, prior)
        for _ in range(2):
            q = [times(over(s, s_i), f) for s_i, f in zip(own, of, strict=True)]  # cavity times likelihood
            new = [times(power(factor(spread(q_i), over(s, s_i)), gamma), power(s_i, 1 - gamma)) for q_i, s_i in zip(q, own, strict=True)]
            s = functools.reduce(times, [over(a, b) for a, b in zip(new, own, strict=True)], s)
            own = new
            if gamma == 1:
                assert_near(numbers(s), numbers(posterior))
        left = over(s, posterior)
        assert_near(numbers(left), numbers(power(over(functools.reduce(times, [first] * 3, prior), posterior), (1 - gamma) ** 2)), 1e-4)


def test_the_method_finds_the_posterior_of_all_rows():
    """As above, by Adam on noisy gradients, and so to some percent. All blocks are shared."""
    fed = regression()
    how = {"lr": 0.0005, "epochs": 24000, "batch": 6, "beta": 1.0, "gamma": 1.0, "prior": 2.0, "start": 1.0, "personal": 0}
    run = train(VIRTUAL(**how), fed, 1, models=("softmax:bias=false",))
    precision = 0.25 + sum(f[0] for f in likelihoods(fed))
    mean = sum(f[1] for f in likelihoods(fed)) / precision
    got = spread(run.server.s)
    np.testing.assert_allclose(leaves(run.server.s.precision)[0][:, 0], precision, rtol=0.05)
    np.testing.assert_allclose(leaves(got.mean)[0][:, 0], mean, atol=0.02)


def test_the_posterior_is_prior_times_factors_after_every_round():
    """Two of three clients a round, some lost; who has not taken part yet has its first factor."""
    fed, made = small_digits(3), VIRTUAL(batch=4, lr=0.05, gamma=0.5, prior=3.0, samples=0)
    training = begin(made, fed, models=("mlp:4",), per_round=2, conditions=Circumstances(gone={2: [0, 1]}))
    training.start()
    s, first = training.server
    start = jax.tree.map(lambda shift, p: shift / (p - 1 / 9), s.shift, s.precision)  # the common first model's blocks
    for _ in range(3):
        training.step()
        states = training.engine.executor.dump_states()
        absent = 3 - len(states)
        precision = 1 / 9 + absent * first + sum(state.s.precision for state in states.values())
        shift = absent * first * start + sum(state.s.shift for state in states.values())
        assert_near(training.server.s, Natural(precision, shift), 1e-4)
        assert all((leaf >= 0).all() for state in states.values() for leaf in leaves(state.s.precision))
    assert max(abs(leaf).max() for leaf in leaves(training.server.s.shift - s.shift)) > 1


class Someone:
    """What `predict` needs of a client."""

    def __init__(self, model):
        self.model = model

    def key_for(self, purpose):
        return jax.random.key(purpose)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_predictions_are_means_of_probabilities(task):
    model, x = build("mlp:2", (3,), 2, task), jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)), jnp.float32)
    q, c = (Spread(part, 0.0 * part - 0.5) for part in model.split(model.init(jax.random.key(0)), 1))
    outs = []
    for key in jax.random.split(jax.random.key(0), 3):
        key_q, key_c = jax.random.split(key)
        outs.append(np.asarray(model.apply(model.join(draw(q, key_q), draw(c, key_c)), x), np.float64))
    got = VIRTUAL(samples=3).predict(Someone(model), (q, c), x)
    if task == "regression":
        assert_near(got, np.mean(outs, axis=0))
    else:
        p = [np.exp(out) / np.exp(out).sum(axis=1, keepdims=True) for out in outs]
        assert_near(np.exp(got) / np.exp(got).sum(axis=1, keepdims=True), np.mean(p, axis=0))
        assert np.ptp(p, axis=0).max() > 0.1
    assert_near(VIRTUAL(samples=0).predict(Someone(model), (q, c), x), model.apply(model.join(q.mean, c.mean), x))


def test_batch_norm_and_a_start_wider_than_the_prior_are_refused():
    with pytest.raises(AtollError, match="BatchNorm"):
        VIRTUAL().check_model(normed(small_digits(1)))
    with pytest.raises(AtollError, match="start < prior"):
        VIRTUAL(start=2.0, prior=1.0)
