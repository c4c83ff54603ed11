"""How far clients' labels are from everybody's, and how unequal their sizes are: closed forms on counts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


def gini(sizes: np.ndarray) -> float:
    """Gini coefficient of sizes [clients] >= 0: 0 where all are equal, (clients - 1) / clients where one has everything."""
    ordered = np.sort(np.asarray(sizes, np.float64))
    n, total = len(ordered), ordered.sum()
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total)) if total else 0.0


def total_variation(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Half the sum of differences of two distributions [..., labels]: 0 to 1, the share of rows that would have to change their label.

    The earth mover's distance where all labels are equally far apart; half of what Zhao et al. (2018) call EMD.
    """
    return np.abs(p - q).sum(axis=-1) / 2


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence of two distributions [..., labels], in bits: 0 to 1."""
    middle = (p + q) / 2
    return (_entropy(middle) - (_entropy(p) + _entropy(q)) / 2).clip(0)


def earth_mover(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """1-Wasserstein distance of two distributions [..., labels] where label l is one step from l + 1: for ordered labels. 0 to labels - 1."""
    return np.abs(np.cumsum(p - q, axis=-1)).sum(axis=-1)


def to_everybody(counts: np.ndarray, distance: Distance) -> float:
    """Mean over clients of the distance from their distribution to that of all rows. counts: [clients, labels]; clients without rows do not count."""
    counts = counts[counts.sum(axis=1) > 0]
    return float(distance(shares(counts), shares(counts.sum(axis=0))).mean()) if len(counts) else 0.0


def between_pairs(counts: np.ndarray, distance: Distance) -> float:
    """Mean distance between the distributions of two different clients, over all pairs. counts: [clients, labels]."""
    p = shares(counts[counts.sum(axis=1) > 0])
    sums = [distance(p[i], p[i + 1 :]).sum() for i in range(len(p) - 1)]
    return float(np.sum(sums) / (len(p) * (len(p) - 1) / 2)) if len(p) > 1 else 0.0


def count_labels(y: np.ndarray, owner: np.ndarray, clients: int, labels: int) -> np.ndarray:
    """int64 [clients, labels]: rows (of sequences: positions) with each label. y: int [rows, ...]; owner: int [rows]."""
    cell = owner[:, None] * labels + y.reshape(len(y), -1)
    return np.bincount(cell.ravel(), minlength=clients * labels).reshape(clients, labels)


def shares(counts: np.ndarray) -> np.ndarray:
    """Distributions [..., labels] from counts >= 0."""
    return counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1e-300)


def dealt_at_random(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Counts [clients, labels] if all rows were dealt out at random, clients keeping their sizes (each client is a draw by itself, without replacement)."""
    everything, sizes = counts.sum(axis=0).astype(np.int64), counts.sum(axis=1).astype(np.int64)
    return np.stack([rng.multivariate_hypergeometric(everything, n, method="marginals") for n in sizes])


def _entropy(p: np.ndarray) -> np.ndarray:
    return -(p * np.log2(np.where(p > 0, p, 1))).sum(axis=-1)
