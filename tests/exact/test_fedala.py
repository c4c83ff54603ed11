"""FedALA: fixed weights are FedAvg, one step of learning them in NumPy, and when the first search ends."""

import jax
import numpy as np
import pytest

from atoll.methods.fedala import WINDOW, FedALA
from atoll.methods.fedavg import FedAvg
from tests.exact.plain import add, first_model, gradient, key, rows, sgd, weights
from tests.harness import assert_alike, assert_near, begin, leaves, small_digits, train


def test_weights_fixed_at_one_are_fedavg():
    averaged, fixed, free = (train(m, small_digits(), 3, per_round=3) for m in (FedAvg(batch=4), FedALA(batch=4, eta=0.0), FedALA(batch=4)))
    assert_alike(fixed.server, averaged.server)
    assert all((leaf == 1).all() for state in fixed.states.values() for leaf in leaves(state.W))
    assert (free.server.tree["head"]["kernel"] != averaged.server.tree["head"]["kernel"]).any()


def test_three_rounds_in_numpy():
    """All rows in one batch and one step per search: W <- clip(W - eta grad L(theta-hat) (Theta - theta_i), 0, 1), then a step of training from theta-hat."""
    fed, lr, eta = small_digits(3), 0.5, 40.0
    training = begin(FedALA(lr=lr, batch=64, eta=eta, s=100, longest=1), fed, models=("softmax",))
    Theta = weights(first_model(training))
    theta = [Theta] * 3
    W = [tuple(np.ones_like(part) for part in Theta)] * 3
    n = fed.count["train"] / fed.count["train"].sum()
    seen = set()
    for t in (1, 2, 3):
        for i in range(3):
            x, y = rows(fed, i)
            apart = add(Theta, theta[i], -1.0)
            hat = tuple(a + w * d for a, w, d in zip(theta[i], W[i], apart, strict=True))
            W[i] = tuple(np.clip(w - eta * g * d, 0, 1) for w, g, d in zip(W[i], gradient(hat, x, y), apart, strict=True))
            hat = tuple(a + w * d for a, w, d in zip(theta[i], W[i], apart, strict=True))
            theta[i] = sgd(hat, x, y, lr, 1, 64, key("update", t, i))
            seen |= {float(w) if w in (0, 1) else "between" for w in W[i][0].ravel()}
        Theta = tuple(sum(s * part[j] for s, part in zip(n, theta, strict=True)) for j in range(2))
        training.step()
    assert seen == {0.0, 1.0, "between"}
    assert_near(weights(training.server), Theta, 1e-4)
    states = training.engine.executor.dump_states()
    assert_near([weights(states[i].W) for i in range(3)], W, 1e-3)
    assert_near([weights(states[i].theta) for i in range(3)], theta, 1e-4)


def test_lower_blocks_are_taken_as_they_come():
    trained = train(FedALA(batch=4, p=("dense2",)), small_digits(2), 2, models=("mlp:7,5",))
    for state in trained.states.values():
        assert set(state.W.tree) == {"dense2"}
        assert any((leaf < 1).any() for leaf in leaves(state.W))


def test_where_both_models_are_equal_nothing_is_learned():
    """One client: the common model is its own. It takes the very steps of FedAvg and none more."""
    alone, plain = (train(m, small_digits(1), 3) for m in (FedALA(batch=4), FedAvg(batch=4)))
    assert_alike(alone.server, plain.server)
    assert [cost.steps for cost in alone.costs] == [cost.steps for cost in plain.costs]
    assert not alone.states[0].learned


@pytest.mark.parametrize(("steady", "longest", "epochs"), [(1e9, 100, WINDOW + 1), (1e-9, 14, 14)])
def test_the_first_search_ends_when_the_loss_is_steady(steady, longest, epochs):
    """Round 1 learns nothing, for all models are equal; round 2 until steady, with more than ten losses at least; then one epoch per round."""
    fed = small_digits(3)
    trained = train(FedALA(batch=4, s=50, steady=steady, longest=longest), fed, 3)
    training_steps, per_epoch = (int(np.ceil(n / 4).sum()) for n in (fed.count["train"], fed.count["train"] // 2))
    assert [cost.steps for cost in trained.costs] == [training_steps, training_steps + epochs * per_epoch, training_steps + per_epoch]
    assert all(state.learned for state in trained.states.values())


def test_batch_norm_statistics_come_from_the_common_model():
    """They are in no weight, and mixing leaves the structure of a model."""
    trained = train(FedALA(batch=4, p=2), small_digits(2), 2, models=("mlp:5,norm=batch",))
    for state in trained.states.values():
        assert set(state.W.tree) == {"norm1", "head"}
        assert jax.tree.structure(state.theta) == jax.tree.structure(trained.server)
