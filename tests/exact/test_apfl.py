"""APFL against Local, FedAvg, NumPy, and finite differences of the mixture's loss."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atoll.core.keys import purpose_key, shuffle
from atoll.methods.apfl import APFL, Own, mixture
from atoll.methods.fedavg import FedAvg
from atoll.methods.local import Local
from atoll.models import build
from tests.exact import dense
from tests.exact.dense import equal_clients
from tests.exact.entropy import classes, entropy, entropy_gradient, kernel, rows
from tests.harness import Fixed, Trained, assert_alike, assert_near, begin, leaves, normed, small_digits, train

LINEAR = ("softmax:bias=false",)


class Reply(NamedTuple):
    w: Any


def mixtures(trained: Trained) -> list[Any]:
    """What each client predicts with."""
    training = trained.training

    def program(k, shared):
        return Reply(training.method.personalize(k, shared)), k.state

    ids = np.arange(training.fed.n)
    stacked = training.fed.ask(ids, program, training.server).reply.w
    return [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in ids]


def parameters(w):
    return {block: leaf for block, leaf in w.tree.items() if block != "buffers"}


def batches(client, n, size, epochs, round):
    """The row numbers of each batch; which rows come is the library's draw, what is done with them is checked."""
    key, per_epoch = jax.random.fold_in(purpose_key(0, "update", round), client), -(-n // size)
    for t in range(epochs * per_epoch):
        position = jnp.arange(t % per_epoch * size, min((t % per_epoch + 1) * size, n), dtype=jnp.int32)
        yield np.asarray(shuffle(position, jnp.int32(n), key, t // per_epoch))

BITS = pytest.param("normed", marks=pytest.mark.long)  # BatchNorm enlarges rounding: only where tests are compiled as users compile


def models(fed):
    """Their names and a net with BatchNorm."""
    return {"mlp": ("mlp:6",), "normed": (normed(fed),)}


@pytest.mark.parametrize("model", ["mlp", BITS])
def test_alpha_1_is_local_training(model):
    """The mixture is v_i alone and the chain rule's factor is 1: the bits of Local, from the same first model and the same batches, whatever w does.
    Clients are ragged and not all are asked, so w moves as it likes."""
    fed = small_digits(3)
    how = {"models": models(fed)[model], "selector": Fixed(0, 2)}
    got = train(APFL(lr=0.1, epochs=2, batch=4, alpha=1.0, adaptive=False), fed, 3, **how)
    wanted = train(Local(lr=0.1, epochs=2, batch=4), fed, 3, models=how["models"])
    for i in (0, 2):
        assert_alike(parameters(got.states[i].v), parameters(wanted.states[i]))
        assert_near(got.states[i].v, wanted.states[i], 1e-6)  # statistics: XLA may round a variance differently in another program
    assert not np.array_equal(leaves(got.server)[-1], leaves(got.states[0].v)[-1])


@pytest.mark.parametrize("model", ["mlp", "normed"])
def test_alpha_0_is_the_common_model(model):
    """v_i has no part in the mixture, so its parameters never move, and what every client predicts with is w, bit for bit."""
    fed = small_digits(3)
    how = {"models": models(fed)[model]}
    method = APFL(lr=0.1, epochs=2, batch=4, alpha=0.0, adaptive=False)
    training = begin(method, fed, **how)
    training.start()
    trained = train(method, fed, 3, **how)
    for i in range(3):
        assert_alike(parameters(trained.states[i].v), parameters(training.server))
    for got in mixtures(trained):
        assert_alike(got, trained.server)
    assert not np.array_equal(leaves(trained.server)[-1], leaves(training.server)[-1])


@pytest.mark.parametrize("model", ["mlp", BITS])
def test_the_common_model_is_fedavgs_for_every_alpha(model):
    """Equally large clients, so FedAvg's weights are equal, too: the same bits, adaptive or not."""
    fed = equal_clients()
    how = {"models": models(fed)[model], "per_round": 2}
    wanted = train(FedAvg(lr=0.1, epochs=2, batch=5), fed, 3, **how).server
    for alpha, adaptive in ((0.0, False), (0.3, False), (1.0, False), (0.5, True)):
        assert_alike(train(APFL(lr=0.1, epochs=2, batch=5, alpha=alpha, adaptive=adaptive), fed, 3, **how).server, wanted)


def test_the_mean_is_uniform():
    """Clients of 9, 14 and 19 rows: the server has the plain mean of what FedAvg would get from each of them alone."""
    fed = small_digits(3)
    alone = [leaves(train(FedAvg(lr=0.1, batch=4), fed, 1, selector=Fixed(i)).server) for i in range(3)]
    assert_near(train(APFL(lr=0.1, batch=4), fed, 1).server, [np.mean(leaf, axis=0) for leaf in zip(*alone, strict=True)], 1e-6)


@pytest.mark.parametrize("adaptive", [True, False])
def test_two_rounds_by_hand(adaptive):
    """In every step w, v and alpha all move from the old values: w by g(w), v by alpha g(v-bar), alpha by <v - w, g(v-bar)> clipped to [0, 1], where
    v-bar = alpha v + (1 - alpha) w. v and alpha go on in the second round, w begins at the plain mean."""
    fed, eta = classes(), 0.5
    method = APFL(lr=eta, epochs=2, batch=3, alpha=0.4, adaptive=adaptive)
    training = begin(method, fed, models=LINEAR)
    training.start()
    common = kernel(training.server)
    own = [(common, 0.4), (common, 0.4)]
    for round in (1, 2):
        sent = []
        for i in range(2):
            x, y = rows(fed, i)
            w, (v, alpha) = common, own[i]
            for at in batches(i, len(x), 3, 2, round):
                g = entropy_gradient(x[at], y[at], alpha * v + (1 - alpha) * w)
                pull = np.sum((v - w) * g)
                w, v = w - eta * entropy_gradient(x[at], y[at], w), v - eta * alpha * g
                alpha = np.clip(alpha - eta * pull, 0, 1) if adaptive else alpha
            own[i] = v, alpha
            sent.append(w)
        common = np.mean(sent, axis=0)
    trained = train(method, fed, 2, models=LINEAR)
    assert_near(kernel(trained.server), common, 2e-6)
    for i, (v, alpha) in enumerate(own):
        assert_near(kernel(trained.states[i].v), v, 2e-6)
        assert_near(trained.states[i].alpha, alpha, 2e-6)
        assert_near(kernel(mixtures(trained)[i]), alpha * v + (1 - alpha) * common, 2e-6)
    assert (trained.states[0].alpha == np.float32(0.4)) != adaptive


def one_step(alpha: float, lr: float):
    """A client with v apart from w takes one step on all of its seven rows: (fed, v, w, its state after)."""
    fed = classes([(7, 2, 2)])
    random = np.random.default_rng(6)
    training = begin(APFL(lr=lr, batch=7, alpha=alpha), fed, models=LINEAR)
    training.start()
    v = training.server * 0.0 + jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape), jnp.float32), training.server)
    w = training.server
    training.restore(0, w, {0: Own(v, jnp.float32(alpha))})
    training.step()
    return fed, kernel(v), kernel(w), training.engine.executor.dump_states()[0]


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.8])
def test_alpha_descends_the_loss_of_the_mixture(alpha):
    """(alpha - alpha+) / eta is the derivative in alpha of f(alpha v + (1 - alpha) w), and (v - v+) / eta its gradient in v: central differences of
    the loss in float64."""
    fed, v, w, after = one_step(alpha, lr=0.05)
    x, y = rows(fed, 0)

    def f(alpha, v):
        return entropy(x, y, alpha * v + (1 - alpha) * w)

    e = 1e-5
    slope = (f(alpha + e, v) - f(alpha - e, v)) / (2 * e)
    assert (alpha - float(after.alpha)) / 0.05 == pytest.approx(slope, rel=1e-4, abs=1e-5)
    assert abs(slope) > 0.01
    wanted = np.zeros_like(v)
    for at in np.ndindex(v.shape):
        moved = np.zeros_like(v)
        moved[at] = e
        wanted[at] = (f(alpha, v + moved) - f(alpha, v - moved)) / (2 * e)
    assert_near((v - kernel(after.v)) / 0.05, wanted, 2e-5)


def test_alpha_and_v_descend_the_loss_of_a_mixed_network():
    """With a hidden layer, where mixing parameters is not mixing outputs: alpha by the derivative of f(alpha v + (1 - alpha) w), and v by its gradient, seen
    along a random direction; central differences of the loss in float64."""
    fed, alpha, lr, e = classes([(7, 2, 2)]), 0.3, 0.05, 1e-5
    training = begin(APFL(lr=lr, batch=7, alpha=alpha), fed, models=("mlp:5",))
    training.start()
    random, w = np.random.default_rng(6), training.server
    v, d = (jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape), jnp.float32), w) for _ in range(2))
    training.restore(0, w, {0: Own(v, jnp.float32(alpha))})
    training.step()
    after = training.engine.executor.dump_states()[0]
    parts = [dense.weights(one) for one in (v, w, d)]

    def f(alpha, along):
        return dense.loss(dense.mean(parts, [alpha, 1 - alpha, alpha * along]), *rows(fed, 0))  # of v + along d

    slope = (f(alpha + e, 0.0) - f(alpha - e, 0.0)) / (2 * e)
    assert (alpha - float(after.alpha)) / lr == pytest.approx(slope, rel=1e-3)
    assert abs(slope) > 0.01
    along = (f(alpha, e) - f(alpha, -e)) / (2 * e)
    assert float((v - after.v) @ d) / lr == pytest.approx(along, rel=1e-3)
    assert abs(along) > 0.01


def test_mixing_parameters_is_mixing_outputs_in_linear_models_only():
    """So that the authors' code, which mixes outputs, agrees with the paper there."""
    x = jax.random.normal(jax.random.key(0), (5, 4))
    for name, same in (("softmax", True), ("mlp:6", False)):
        net = build(name, (4,), 3)
        v, w = (net.init(jax.random.key(seed)) for seed in (1, 2))
        of_outputs = 0.3 * net.apply(v, x) + 0.7 * net.apply(w, x)
        assert np.allclose(net.apply(mixture(v, jnp.float32(0.3), w), x), of_outputs, atol=1e-5) == same


@pytest.mark.parametrize("alpha", [0.05, 0.95])
def test_alpha_stays_a_share(alpha):
    """A huge step ends at 0 or 1, whichever the slope points to."""
    fed, v, w, after = one_step(alpha, lr=1000.0)
    g = entropy_gradient(*rows(fed, 0), alpha * v + (1 - alpha) * w)
    assert float(after.alpha) == (0.0 if np.sum((v - w) * g) > 0 else 1.0)


def test_a_client_that_never_trained_predicts_with_the_common_model():
    """It joins with v = w, so that the mixture is w for any alpha."""
    trained = train(APFL(lr=0.1, batch=4, alpha=0.7), small_digits(3), 2, selector=Fixed(0, 1))
    assert set(trained.states) == {0, 1}
    at = {(row["model"], row["client"]): row["loss"] for row in trained.training.evaluate().to_dicts() if row["split"] == "test"}
    assert at["personal", 2] == pytest.approx(at["global", 2], rel=1e-5)
    assert at["personal", 0] != pytest.approx(at["global", 0], rel=1e-5)


def test_the_mixture_has_the_newest_common_model():
    """A client that is not asked keeps v and alpha, and yet what it predicts with follows w."""
    method, fed = APFL(lr=0.1, batch=4, alpha=0.3), small_digits(2)
    training = begin(method, fed)
    training.start()
    training.step()
    trained = Trained(training, [])
    before, state = mixtures(trained)[0], trained.states[0]
    training.fed._selector = Fixed(1)
    training.step()
    assert_alike(trained.states[0], state)
    share = float(state.alpha)
    assert_near(mixtures(trained)[0], share * state.v + (1 - share) * training.server, 1e-6)
    assert not np.array_equal(leaves(mixtures(trained)[0])[-1], leaves(before)[-1])


def test_alpha_is_the_clients_own():
    """Clients start from the same share and end with different ones in [0, 1]; with adaptive=False nobody's moves."""
    method = APFL(lr=0.3, batch=4, alpha=0.5)
    moved = [float(state.alpha) for state in train(method, small_digits(4), 4).states.values()]
    assert len(set(moved)) == 4
    assert all(0 <= alpha <= 1 for alpha in moved)
    still = train(dataclasses.replace(method, adaptive=False), small_digits(4), 4).states.values()
    assert {float(state.alpha) for state in still} == {0.5}
