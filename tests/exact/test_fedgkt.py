"""FedGKT against NumPy: edges and server by hand, each with the other's scores, and momentum and decay written out."""

import jax
import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.keys import common_key, purpose_key
from atoll.methods.fedgkt import C, FedGKT, divergence
from atoll.study.training import check_method
from tests.exact import dense
from tests.harness import assert_near, begin, federation, small_digits

METHOD = FedGKT(lr=0.3, momentum=0.6, decay=0.01, batch=16, epochs=2, server_epochs=2, alpha_c=0.7, alpha_s=0.4, T=2.0)


def softmax(z):
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def scores_gradient(z, y, teacher, alpha):
    """Of mean(CE + alpha T^2 KL(teacher / T || z / T)) in the scores, T = 2."""
    pull = 0 if teacher is None else 2 * (softmax(z / 2) - softmax(teacher / 2))
    return (softmax(z) - np.eye(10)[y] + alpha * pull) / len(y)


class Nesterov:
    """v <- .6 v + g, w <- w - .3 (g + .6 v) with g the gradient + .01 w."""

    def __init__(self):
        self.v = None

    def __call__(self, w, g):
        g = jax.tree.map(lambda g, w: g + 0.01 * w, g, w)
        self.v = g if self.v is None else jax.tree.map(lambda v, g: 0.6 * v + g, self.v, g)
        return jax.tree.map(lambda w, g, v: w - 0.3 * (g + 0.6 * v), w, g, self.v)


def linear(part, h):
    return h @ part["kernel"] + part["bias"]


def edge_step(sgd, w, x, y, teacher):
    pre = linear(w["e"], x)
    h = np.maximum(pre, 0)
    error = scores_gradient(linear(w["c"], h), y, teacher, 0.7)
    back = (error @ w["c"]["kernel"].T) * (pre > 0)
    return sgd(w, {"e": {"kernel": x.T @ back, "bias": back.sum(0)}, "c": {"kernel": h.T @ error, "bias": error.sum(0)}})


def test_two_rounds_by_hand():
    """Two clients of 9 and 14 rows, all in one batch each: what is sent is 16 rows. In round 2 edges have the server's scores of their rows."""
    fed = small_digits(2)
    training = begin(METHOD, fed)
    training.start()
    first = dense.weights(training.engine.facts.models[0].init(common_key(0)))
    c = {"kernel": np.asarray(jax.nn.initializers.lecun_normal()(jax.random.fold_in(common_key(0), 1), (6, 10)), np.float64), "bias": np.zeros(10)}
    edges, s, taught = [{"e": first["dense1"], "c": c}] * 2, first["head"], [None, None]
    data = [dense.train_rows(fed, i) for i in range(2)]
    for round in (1, 2):
        for i, (x, y) in enumerate(data):
            sgd = Nesterov()
            for _ in range(2):
                edges[i] = edge_step(sgd, edges[i], x, y, taught[i])
        h = [np.maximum(linear(edges[i]["e"], x), 0) for i, (x, _) in enumerate(data)]
        sgd, key = Nesterov(), purpose_key(0, "server learn", round)
        for epoch in range(2):
            for i in np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), 2)):
                error = scores_gradient(linear(s, h[i]), data[i][1], linear(edges[i]["c"], h[i]), 0.4)
                s = sgd(s, {"kernel": h[i].T @ error, "bias": error.sum(0)})
        taught = [linear(s, part) for part in h]
        training.step()
        states = training.engine.executor.dump_states()
        for i in range(2):
            assert_near(dense.weights(states[i].w), {"dense1": edges[i]["e"], C: edges[i]["c"]}, 1e-4)
            assert_near(np.asarray(states[i].z)[: len(taught[i])], taught[i], 1e-4)
        assert_near(dense.weights(training.server)["head"], s, 1e-4)
        assert training.fed.traffic.up[:2].tolist() == [16 * 4 * (6 + 10 + 1)] * 2
        assert training.fed.traffic.down[:2].tolist() == [16 * 4 * 10] * 2
    right = {(row["client"], row["split"]): row["correct"] for row in training.evaluate().to_dicts() if row["model"] == "personal"}
    for i in range(2):  # the server's blocks on the client's own
        x, y = dense.rows(fed, i, "test")
        assert right[i, "test"] == (linear(s, np.maximum(linear(edges[i]["e"], x), 0)).argmax(1) == y).sum()


def test_distance_of_scores():
    """0 for the same probabilities, else T^2 sum p (log p - log q); for large T it tends to half the variance of the difference."""
    a, b = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    assert_near(divergence(a, a + 3, 2.0), np.zeros(5), 1e-5)
    p, q = softmax(a / 2), softmax(b / 2)
    assert_near(divergence(a, b, 2.0), 4 * (p * np.log(p / q)).sum(1))
    assert_near(divergence(a, b, 100.0), (b - a).var(1) / 2, 0.05)


def test_what_it_can_not_work_with_is_refused():
    with pytest.raises(AtollError, match="server needs one too"):
        check_method(FedGKT(lower=2), begin(FedGKT(), small_digits(2)).engine.facts)
    numbers = federation(np.ones((12, 2), np.float32), np.arange(12, dtype=np.float32), [(2, 2, 2)] * 2, labels=())
    with pytest.raises(AtollError, match="for regression"):
        check_method(FedGKT(), begin(FedGKT(), numbers, models=("mlp:3",)).engine.facts)
