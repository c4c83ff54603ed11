"""FedGen against NumPy: a client's step with made features, what the generator is to minimise, and that without them it is FedAvg."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tree_math import Vector

from atoll.core.errors import AtollError
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedgen import FedGen, _learn, diversity, generator_loss
from atoll.models import build
from atoll.study.training import check_method
from tests.exact import dense
from tests.exact.plain import key
from tests.harness import assert_near, begin, small_digits, train

METHOD = FedGen(lr=0.1, steps=1, batch=32, alpha=3.0, decay=0.5, gen_steps=2, gen_batch=5, noise=4, hidden=8)


def test_without_made_features_it_is_fedavg():
    """Clients of twelve rows: three mini-batches of four are an epoch."""
    fed = dense.equal_clients()
    got, wanted = (train(m, fed, 2) for m in (dataclasses.replace(METHOD, alpha=0.0, steps=3, batch=4), FedAvg(lr=0.1, batch=4, epochs=1)))
    assert_near(got.server.theta, wanted.server, 1e-6)
    assert_near(got.server.p, np.full(3, 1 / 3))


def test_a_step_and_the_mean_by_hand():
    """Round 2, so alpha has halved: all own rows, and five made features, for which only the last layer answers. Then the mean, by rows."""
    fed = small_digits(2)
    training = begin(METHOD, fed)
    training.start()
    training.step()
    s, model = training.server, training.engine.facts.models[0]
    assert (np.asarray(s.p) > 0).tolist() == [label in np.concatenate([dense.train_rows(fed, i)[1] for i in range(2)]) for label in range(10)]
    moved = []
    for i in range(2):
        w = dense.weights(s.theta)
        g = dense.gradient(w, *dense.train_rows(fed, i))
        batch_key = jax.random.fold_in(key("update", 2, i), 1 << 30)
        _eps, y, z = (np.asarray(part) for part in METHOD.made(model, s.w, s.p, jax.random.fold_in(batch_key, 1)))
        scores = z @ w["head"]["kernel"] + w["head"]["bias"]
        p = np.exp(scores - scores.max(1, keepdims=True))
        error = 1.5 * (p / p.sum(1, keepdims=True) - np.eye(10)[y]) / 5
        g["head"] = {"kernel": g["head"]["kernel"] + z.T @ error, "bias": g["head"]["bias"] + error.sum(0)}
        moved.append(dense.step(w, g, 0.1))
    training.step()
    assert_near(training.server.theta.tree, dense.mean(moved, [9 / 23, 14 / 23]))


def test_what_the_generator_is_to_minimise():
    """Two heads, weighted label by label, and the diversity, written out; its steps lower that."""
    random, model = np.random.default_rng(0), build("mlp:6", (8, 8), 3)
    heads = {"kernel": random.normal(size=(2, 6, 3)), "bias": random.normal(size=(2, 3))}
    weight = random.dirichlet([1, 1], 3).T
    eps, y, z = random.random((4, 2)), np.array([2, 0, 1, 2]), random.normal(size=(4, 6))
    wanted = 0.0
    for b in range(4):
        for i in range(2):
            out = z[b] @ heads["kernel"][i] + heads["bias"][i]
            wanted += weight[i, y[b]] * (np.log(np.exp(out).sum()) - out[y[b]]) / 4
    pairs = [np.mean((eps[a] - eps[b]) ** 2) * np.mean(abs(z[a] - z[b])) for a in range(4) for b in range(4)]
    wanted += 0.3 * np.exp(-np.mean(pairs))
    w = Vector({"head": jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), heads)})
    assert float(generator_loss(model, w, jnp.asarray(weight), 0.3, *map(jnp.asarray, (eps, y, z)))) == pytest.approx(wanted, rel=1e-5)
    assert float(diversity(jnp.asarray(eps), jnp.ones((4, 6)))) == 1
    gen, p = dataclasses.replace(METHOD, gen_steps=60, gen_lr=0.01), jnp.array([0.5, 0.0, 0.5])
    first = gen._generator(model).init(jax.random.key(1))
    last = _learn(gen, model, first, w, jnp.asarray(weight, jnp.float32), p, jax.random.key(2))
    made = [gen.made(model, g, p, jax.random.key(3)) for g in (first, last)]
    assert set(np.asarray(made[0][1]).tolist()) <= {0, 2}  # labels that nobody has are not asked for
    before, after = (float(generator_loss(model, w, jnp.asarray(weight), 1.0, *of)) for of in made)
    assert after < before - 0.3


def test_features_are_needed():
    with pytest.raises(AtollError, match="its one layer is its output"):
        check_method(METHOD, begin(METHOD, small_digits(2), models=("softmax",)).engine.facts)
