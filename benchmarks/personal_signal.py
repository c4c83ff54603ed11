"""Which sources of data have something for personalization to gain? Linear models in closed form, no training: a few seconds per source.

    python benchmarks/personal_signal.py [SOURCE ...]   prints the table of docs/data.md

Three ridge classifiers (one-hot targets, largest output wins) on each client's test rows: one of all clients' train rows; one of each client's own; and one of
each client's own, drawn to that of all. How strongly the last two are drawn (to 0, to that of all) is chosen on validation rows, one strength for all clients.
"""

from __future__ import annotations

import sys

import numpy as np

import atoll
from atoll.data.federation import SPLITS, Federation

SOURCES = {
    "vowel": {}, "verbagg": {}, "digits": {}, "two-digits": {}, "watch": {}, "penguins": {}, "exam": {}, "star": {}, "chem97": {}, "mathachieve": {},
    "insteval": {}, "ames": {}, "azpro": {}, "medpar": {}, "indo-rct": {}, "loans": {}, "flights": {"limit": 20_000}, "movielens-100k": {"films": 200},
}  # fmt: skip
SEEDS = range(5)
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


def parts(fed: Federation) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """split -> (x [rows, values + 1], y [rows]) of every client; values as models see them, and a 1."""
    found = {}
    for split in SPLITS:
        found[split] = []
        for first, n in zip(fed.start[split], fed.count[split], strict=True):
            x = ((fed.x[first : first + n].astype(np.float64) - fed.shift) * fed.scale).reshape(n, int(np.prod(fed.x.shape[1:])))
            found[split].append((np.column_stack([x, np.ones(n)]), fed.y[first : first + n]))
    return found


def ridge(x: np.ndarray, y: np.ndarray, labels: int, strength: float, center: np.ndarray | None = None) -> np.ndarray:
    """Weights [values + 1, labels] that fit one-hot targets, drawn to `center` (0 where there is none)."""
    center = np.zeros((x.shape[1], labels)) if center is None else center
    return np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ np.eye(labels)[y] + strength * center)


def right(weights: list[np.ndarray], rows: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Share of all rows that are classified right, client i's by weights[i]."""
    hits = [(x @ w).argmax(axis=1) == y for w, (x, y) in zip(weights, rows, strict=True)]
    return float(np.concatenate(hits).mean())


def accuracies(fed: Federation) -> tuple[float, float, float]:
    """Test accuracy of one model of all, of models of their own, and of models of their own drawn to that of all."""
    rows, labels = parts(fed), len(fed.labels)
    common = ridge(np.concatenate([x for x, _ in rows["train"]]), np.concatenate([y for _, y in rows["train"]]), labels, 1.0)
    scores = [right([common] * len(fed.names), rows["test"])]
    for center in (None, common):
        models = [[ridge(x, y, labels, strength, center) for x, y in rows["train"]] for strength in STRENGTHS]
        best = max(models, key=lambda one: right(one, rows["validation"]))
        scores.append(right(best, rows["test"]))
    return scores[0], scores[1], scores[2]


def main() -> None:
    print("| source | clients | of all % | own % | own, drawn to that of all % | gain over the better of the first two |\n|---|---|---|---|---|---|")
    for name in sys.argv[1:] or SOURCES:
        found, clients = [], 0
        for seed in SEEDS:
            fed = atoll.load(name, seed=seed, **SOURCES.get(name, {}))
            found.append(accuracies(fed))
            clients = len(fed.names)
        each = 100 * np.array(found)
        gain = each[:, 2] - each[:, :2].max(axis=1)
        mean = " | ".join(f"{value:.1f}" for value in each.mean(axis=0))
        print(f"| `{name}` | {clients} | {mean} | {gain.mean():+.1f} ± {gain.std(ddof=1):.1f} |", flush=True)


if __name__ == "__main__":
    main()
