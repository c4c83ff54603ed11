"""Softmax regression without a bias in NumPy: rows of small federations, and the cross-entropy with its gradient written out."""

from __future__ import annotations

import numpy as np

from tests.harness import federation


def classes(counts=((7, 2, 2), (5, 2, 2))):
    """Clients of a few rows with four values and one of three labels."""
    random, n = np.random.default_rng(3), int(np.sum(counts))
    return federation(random.normal(size=(n, 4)).astype(np.float32), (np.arange(n) % 3).astype(np.int32), list(counts), labels=("0", "1", "2"))


def rows(fed, client):
    first, n = fed.start["train"][client], fed.count["train"][client]
    return fed.x[first : first + n].astype(np.float64), fed.y[first : first + n]


def kernel(w):
    return np.asarray(w.tree["head"]["kernel"], np.float64)


def entropy(x, y, w):
    z = x @ w
    return np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y])


def entropy_gradient(x, y, w):
    p = np.exp(x @ w)
    return x.T @ (p / p.sum(1, keepdims=True) - np.eye(w.shape[1])[y]) / len(x)
