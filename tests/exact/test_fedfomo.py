"""FedFomo: its weights by hand, whom it asks, and a round in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atoll.core.keys import common_key, shuffle
from atoll.methods.fedfomo import FedFomo, chosen_for, normalised
from tests.exact.plain import add, first_model, key, loss, rows, sgd, weights
from tests.harness import Fixed, assert_alike, assert_near, begin, small_digits, train


def test_weights_by_hand():
    """Gain per distance, nothing for models that are worse or the same model, over their sum."""
    assert_near(normalised(jnp.array([0.5, -1.0, 1.0, 3.0]), jnp.array([1.0, 2.0, 4.0, 0.0])), np.array([2 / 3, 0, 1 / 3, 0]))
    assert_near(normalised(jnp.array([-0.5, 0.2]), jnp.array([1.0, 2.0])), np.array([0, 1]))
    assert_near(normalised(jnp.array([-0.5, 0.0, 1.0]), jnp.array([1.0, 2.0, 0.0])), np.zeros(3))


def test_who_is_chosen():
    """Without chance the most useful first; with nothing but chance everybody as often; never one twice."""
    p = np.array([9.0, 0.1, 0.5, 0.0, 0.3])
    others = [1, 2, 3, 4]
    assert chosen_for(p, others, 3, 0.0, np.random.default_rng(0)) == [2, 4, 1]
    for_nothing = [chosen_for(p, others, 2, 1.0, np.random.default_rng(seed)) for seed in range(400)]
    assert all(len(set(chosen)) == 2 for chosen in for_nothing)
    counts = np.bincount(np.concatenate(for_nothing), minlength=5)
    assert counts[0] == 0
    assert np.abs(counts[1:] - 200).max() < 50
    ties = [chosen_for(np.zeros(5), others, 1, 0.0, np.random.default_rng(seed))[0] for seed in range(400)]
    assert np.bincount(ties, minlength=5)[1:].min() > 60


def own_and_tried(fed, i, kept=0.2):
    """A client's rows, shuffled once and for all: the first 20 % are for trying models, the others for training."""
    x, y = rows(fed, i)
    lasting = jax.random.fold_in(jax.random.fold_in(common_key(0), 1 << 29), i)
    order = np.asarray(shuffle(jnp.arange(len(y), dtype=jnp.int32), jnp.int32(len(y)), lasting))
    n = int(kept * len(y))
    return (x[order[n:]], y[order[n:]]), (x[order[:n]], y[order[:n]])


def test_two_rounds_in_numpy():
    """All others are sent (M = 3 of 4 clients), so there is no choice. P adds up the weights."""
    fed, method = small_digits(4), FedFomo(lr=0.3, epochs=2, batch=4, M=3)
    training = begin(method, fed, models=("softmax",))
    theta = [weights(first_model(training))] * 4
    P = np.zeros((4, 4))
    moved = 0
    for t in (1, 2):
        after = [sgd(theta[i], *own_and_tried(fed, i)[0], 0.3, 2, 4, key("train", t, i)) for i in range(4)]
        new = []
        for i in range(4):
            x, y = own_and_tried(fed, i)[1]
            gain = np.array([loss(theta[i], x, y) - loss(w, x, y) for w in after]) / len(y)
            apart = [add(w, theta[i], -1.0) for w in after]
            w = np.maximum(gain / [np.sqrt(sum(np.square(part).sum() for part in d)) for d in apart], 0)
            w = w / w.sum() if w.sum() else w
            moved += (np.delete(w, i) > 0).sum()
            new.append(tuple(a + sum(w_j * d[j] for w_j, d in zip(w, apart, strict=True)) for j, a in enumerate(theta[i])))
            P[i] += np.where(np.arange(4) == i, 0, w)
        theta = new
        training.step()
    assert moved > 2
    states = training.engine.executor.dump_states()
    assert_near([weights(states[i].theta) for i in range(4)], theta, 1e-4)
    assert_near(training.server, P, 1e-4)


def test_a_client_alone_keeps_what_is_better_on_rows_it_did_not_train_on():
    """Trained or as before: with a rate that spoils the model it goes back to the first one."""
    fed = small_digits(3)
    good, bad = (train(FedFomo(lr=lr, batch=4), fed, 1, selector=Fixed(1), models=("softmax",)) for lr in (0.05, 1e3))
    start = good.training.engine.facts.models[0].init(common_key(0))
    assert_alike(bad.states[1].theta, start)
    assert (good.states[1].theta.tree["head"]["kernel"] != start.tree["head"]["kernel"]).any()
    assert good.costs[0].bytes_down == 0
    assert not good.server.any()


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_models_that_are_sent_are_others_models(epsilon):
    """Two of four others; who was of use gets a number in P, and nobody himself."""
    trained = train(FedFomo(batch=4, M=2, epsilon=epsilon, decay=0.0), small_digits(5), 3)
    assert (np.diag(trained.server) == 0).all()
    assert (trained.server >= 0).all()
    assert (trained.server.sum(1) <= 3 + 1e-5).all()
    assert trained.server.any()
