"""Softmax regression trained by SGD in NumPy and float64: what local training is compared with."""

import jax
import jax.numpy as jnp
import numpy as np

from atoll.core.keys import purpose_key, shuffle


class Circumstances:
    """Conditions known beforehand: who can't be reached in a round, and how much of its work a client manages."""

    timed = False

    def __init__(self, gone=None, budget=None):
        self.gone, self.budget = gone or {}, budget or {}  # round -> clients, client -> share

    def reachable(self, seed, round, ids):
        return ~np.isin(ids, self.gone.get(round, []))

    def budgets(self, seed, round, ids):
        return np.array([self.budget.get(int(i), 1.0) for i in ids], np.float32)


def rows(fed, client, split="train"):
    """Normalised x [n, values] and y [n] of a client."""
    first, n = fed.start[split][client], fed.count[split][client]
    x = (fed.x[first : first + n].astype(np.float64) - fed.shift) * fed.scale
    return x.reshape(n, -1), fed.y[first : first + n]


def weights(w):
    """(kernel [values, labels], bias [labels]) of the model "softmax"."""
    head = w.tree["head"]
    return np.asarray(head["kernel"], np.float64), np.asarray(head["bias"], np.float64)


def gradient(w, x, y):
    """Of the mean cross-entropy: (x' e / n, sum e / n) with e = softmax(x W + b) - onehot(y)."""
    p = np.exp(x @ w[0] + w[1])
    e = (p / p.sum(1, keepdims=True) - np.eye(len(w[1]))[y]) / len(x)
    return x.T @ e, e.sum(0)


def loss(w, x, y):
    """Sum of the cross-entropies."""
    z = x @ w[0] + w[1]
    return float((np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y]).sum())


def add(w, g, factor):
    return tuple(a + factor * b for a, b in zip(w, g, strict=True))


def sgd(w, x, y, lr, epochs, batch, key, mu=0.0, correction=(0.0, 0.0)):
    """`epochs` passes in batches of `batch` rows (the last may be smaller), in the order that the library's shuffle gives under `key`.
    Step: w <- w - lr (gradient + correction + mu (w - first w))."""
    n, anchor = len(x), w
    for epoch in range(epochs):
        order = np.asarray(shuffle(jnp.arange(n, dtype=jnp.int32), jnp.int32(n), key, epoch))
        assert sorted(order) == list(range(n))
        for at in range(0, n, batch):
            some = order[at : at + batch]
            g = add(gradient(w, x[some], y[some]), correction, 1.0)
            w = add(w, add(g, add(w, anchor, -1.0), mu), -lr)
    return w


def key(program, round, client, seed=0):
    """The key of a program at a client in a round."""
    return jax.random.fold_in(purpose_key(seed, program, round), client)


def first_model(training):
    training.start()
    return training.engine.facts.models[0].init(training.fed.key())
