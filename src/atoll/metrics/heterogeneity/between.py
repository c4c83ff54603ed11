"""Measures between clients, kind by kind.

Chance: of labels, all rows dealt out anew to clients of the same sizes; of features and label preference, only among rows of the same label, so that they
do not show what is a difference of labels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from atoll.metrics.heterogeneity.features import area, mean_wasserstein, owner_scores, ranks
from atoll.metrics.heterogeneity.labels import between_pairs, dealt_at_random, earth_mover, gini, jensen_shannon, to_everybody, total_variation
from atoll.metrics.heterogeneity.measure import SHUFFLES, Measure, measured
from atoll.metrics.heterogeneity.preference import alike, comparable, disagreement
from atoll.metrics.heterogeneity.sample import Sample

DEALT = 50_000  # clients times labels from which the chance of label distances is worked out, at most
PAIRS = 300  # clients compared pair by pair, at most


def by_sizes(sizes: np.ndarray) -> list[Measure]:
    """Inequality of sizes [clients]."""
    return [measured("quantity", "gini", "Gini of sizes", gini(sizes))]


def by_counts(counts: np.ndarray, seed: int = 0) -> list[Measure]:
    """Distances of label distributions. counts: int [clients, labels]."""
    rng = np.random.default_rng([seed, 1])
    some = counts[np.sort(rng.permutation(len(counts))[: max(1, DEALT // (100 + counts.shape[1]))])]
    drawn = [dealt_at_random(some, rng) for _ in range(SHUFFLES)]
    few = counts[np.sort(rng.permutation(len(counts))[:PAIRS])]

    def against(key: str, name: str, of: Callable[[np.ndarray], float]) -> Measure:
        return measured("labels", key, name, of(counts), [of(one) for one in drawn])

    found = [
        against("label_tv", "total variation to all rows", lambda c: to_everybody(c, total_variation)),
        against("label_js", "Jensen-Shannon to all rows, bits", lambda c: to_everybody(c, jensen_shannon)),
        against("label_emd", "1-Wasserstein to all rows, if ordered", lambda c: to_everybody(c, earth_mover)),
    ]
    return [*found, measured("labels", "label_tv_pairs", "total variation between two clients", between_pairs(few, total_variation))]


def by_rows(sample: Sample, seed: int = 0) -> list[Measure]:
    """Distances of inputs, and of labels at the same input."""
    if sample.clients < 2:
        return []
    rng = np.random.default_rng([seed, 2])
    return [*_targets(sample, rng), *_features(sample, rng, seed), *_preference(sample, rng)]


def _targets(sample: Sample, rng: np.random.Generator) -> list[Measure]:
    if sample.y is None or sample.y.dtype.kind in "iu":
        return []
    y = Sample(sample.y[:, None].astype(np.float64), None, sample.owner)
    drawn = [mean_wasserstein(y, rng.permutation(y.owner)) for _ in range(SHUFFLES)]
    return [measured("labels", "target_wasserstein", "1-Wasserstein to all rows, deviations", mean_wasserstein(y, y.owner), drawn)]


def _features(sample: Sample, rng: np.random.Generator, seed: int) -> list[Measure]:
    moved = [mean_wasserstein(sample, sample.shuffled(rng)) for _ in range(SHUFFLES)]
    rows, scores = owner_scores(sample, seed)
    strata, one = rows.strata, np.zeros(len(rows.owner), np.int64)
    apart = mean_wasserstein(sample, sample.owner)
    found = [measured("features", "feature_wasserstein", "1-Wasserstein to all rows, deviations", apart, moved)]
    if scores.shape[1]:
        within, over = ranks(scores, strata), ranks(scores, one)
        told = [area(within, rows.shuffled(rng), strata) for _ in range(SHUFFLES)]
        found += [
            measured("features", "owner_auc", "AUC of telling whose a row is", area(over, rows.owner, one)),
            measured("features", "owner_auc_same_label", "the same, among rows of one label", area(within, rows.owner, strata), told),
        ]
    return found


def _preference(sample: Sample, rng: np.random.Generator) -> list[Measure]:
    name = "labels differ at the same x"
    nothing = [Measure("preference", "disagreement", name, None, None, None, "")]
    if not comparable(sample):
        return nothing
    assert sample.y is not None
    like = alike(sample.x)
    found = disagreement(like, sample.y, sample.owner)
    shuffled = [one.excess for _ in range(SHUFFLES) if (one := disagreement(like, sample.y, sample.shuffled(rng))) is not None]
    if found is None or not shuffled:
        return nothing
    return [measured("preference", "disagreement", name, found.excess, shuffled)]


def by_attackers(attackers: np.ndarray | None, clients: int) -> list[Measure]:
    """Share of clients that are marked. attackers: bool [clients] or None."""
    return [measured("attack", "attackers", "share of clients marked", 0.0 if attackers is None else float(attackers.sum()) / clients)]
