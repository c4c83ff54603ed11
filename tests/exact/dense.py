"""A dense ReLU network in NumPy (float64), with the gradient of its mean cross-entropy written out: what layer-wise methods are checked against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from atoll.data.federation import Federation
from tests.harness import federation

Weights = dict[str, dict[str, np.ndarray]]  # block -> {"kernel": [in, out], "bias": [out]}


def weights(w: Any) -> Weights:
    """A model's blocks as float64 arrays."""
    return {block: {name: np.asarray(leaf, np.float64) for name, leaf in part.items()} for block, part in w.tree.items()}


def train_rows(fed: Federation, client: int) -> tuple[np.ndarray, np.ndarray]:
    return rows(fed, client, "train")


def rows(fed: Federation, client: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Normalised, flattened rows and labels of one client."""
    first, n = fed.start[split][client], fed.count[split][client]
    x = (fed.x[first : first + n].astype(np.float64) - fed.shift) * fed.scale
    return x.reshape(n, -1), fed.y[first : first + n]


def logits(w: Weights, x: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Outputs and the input of every layer; the layers are dense1, dense2, ..., head."""
    names = sorted(w)
    inputs = []
    for name in names:
        inputs.append(x)
        x = x @ w[name]["kernel"] + w[name]["bias"]
        x = x if name == names[-1] else np.maximum(x, 0)
    return x, inputs


def loss(w: Weights, x: np.ndarray, y: np.ndarray) -> float:
    """Mean cross-entropy."""
    z, _ = logits(w, x)
    z = z - z.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]))


def gradient(w: Weights, x: np.ndarray, y: np.ndarray) -> Weights:
    """Of the mean cross-entropy, by the chain rule from the head down."""
    z, inputs = logits(w, x)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    error = (p / p.sum(axis=1, keepdims=True) - np.eye(z.shape[1])[y]) / len(y)
    out: Weights = {}
    for name, a in reversed(list(zip(sorted(w), inputs, strict=True))):
        out[name] = {"kernel": a.T @ error, "bias": error.sum(axis=0)}
        error = (error @ w[name]["kernel"].T) * (a > 0)
    return out


def step(w: Weights, g: Weights, lr: float) -> Weights:
    return {block: {name: leaf - lr * g[block][name] for name, leaf in part.items()} for block, part in w.items()}


def mean(parts: list[Weights], share: list[float]) -> Weights:
    """sum_i share_i parts_i."""
    return {b: {n: np.sum([s * p[b][n] for s, p in zip(share, parts, strict=True)], axis=0) for n in part} for b, part in parts[0].items()}


def slopes(w: Weights, loss: Callable[[Weights], float]) -> Weights:
    """Central differences of a loss in every weight."""
    found = {}
    for block, part in w.items():
        found[block] = {}
        for name, leaf in part.items():
            slope = np.zeros(leaf.size)
            for at in range(leaf.size):
                ends = []
                for h in (1e-6, -1e-6):
                    moved = leaf.copy()
                    moved.flat[at] += h
                    ends.append(loss({**w, block: {**part, name: moved}}))
                slope[at] = (ends[0] - ends[1]) / 2e-6
            found[block][name] = slope.reshape(leaf.shape)
    return found


def equal_clients(clients=3):
    """Uniform and row-weighted means are the same numbers where clients are equally large."""
    x = np.random.default_rng(0).integers(0, 17, (20 * clients, 8, 8)).astype(np.uint8)
    return federation(x, np.arange(20 * clients, dtype=np.int32) % 3, [(12, 4, 4)] * clients, scale=1 / 16)
