"""How clients differ, kind by kind: a number, what it would be if clients differed by chance alone, and a word.

Chance: of labels, all rows dealt out anew to clients of the same sizes; of features and label preference, only among rows of the same label, so that they
do not show what is a difference of labels. A word is "none" where the number is within three standard deviations of such draws, or hardly beyond.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from atoll.metrics.heterogeneity.features import area, mean_wasserstein, owner_scores, ranks
from atoll.metrics.heterogeneity.labels import between_pairs, count_labels, dealt_at_random, earth_mover, gini, jensen_shannon, to_everybody, total_variation
from atoll.metrics.heterogeneity.preference import alike, comparable, disagreement
from atoll.metrics.heterogeneity.sample import CLIENTS, ROWS, Sample, sample

if TYPE_CHECKING:
    from atoll.data.federation import Federation

BY_CHANCE = (
    "By chance: clients of the same sizes with random rows; for features and preference with random rows of the same labels. None: not beyond that. "
    f"Features and preference are seen on at most {ROWS:,} rows of {CLIENTS} clients."
)
SHUFFLES = 20  # draws from which chance is worked out
SIGMAS = 3.0
DEALT = 50_000  # clients times labels from which the chance of label distances is worked out, at most
CHANGES, DRIFTING = 3, 20_000  # changes of phase, and rows of a phase, that are looked at, at most
PAIRS = 300  # clients compared pair by pair, at most


class Measure(NamedTuple):
    """One number about how clients differ."""

    kind: str  # quantity, labels, features, preference, attack, or temporal
    key: str  # gini
    name: str  # "Gini of sizes"
    value: float | None  # None: it can't be measured here
    chance: float | None  # its mean if clients differed by chance alone; None where it is 0 by itself
    limit: float | None  # what chance alone hardly exceeds: SIGMAS standard deviations above its mean
    word: str  # none, weak, strong; "" where it has no value

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self._asdict()


def heterogeneity(fed: Federation, seed: int = 0) -> tuple[Measure, ...]:
    """How the clients of a federation differ, from the train rows of all of them. Takes about a second: of many rows it looks at some (sample.py)."""
    count = np.asarray(fed.count["train"])
    rows = int(count.sum())
    labelled = by_counts(count_labels(fed.y[:rows], np.repeat(np.arange(len(count)), count), len(count), len(fed.labels)), seed) if fed.labels else []
    some = sample(fed.x, fed.y, np.asarray(fed.start["train"]), count, shift=fed.shift, scale=fed.scale, seed=seed)
    return (*by_sizes(count), *labelled, *by_rows(some, seed), *by_phases(fed, seed), *by_attackers(fed.attackers, len(count)))


def by_sizes(sizes: np.ndarray) -> list[Measure]:
    """Inequality of sizes [clients]."""
    return [_measure("quantity", "gini", "Gini of sizes", gini(sizes), (0.1, 0.3))]


def by_counts(counts: np.ndarray, seed: int = 0) -> list[Measure]:
    """Distances of label distributions. counts: int [clients, labels]."""
    rng = np.random.default_rng([seed, 1])
    some = counts[np.sort(rng.permutation(len(counts))[: max(1, DEALT // (100 + counts.shape[1]))])]
    drawn = [dealt_at_random(some, rng) for _ in range(SHUFFLES)]
    few = counts[np.sort(rng.permutation(len(counts))[:PAIRS])]

    def against(key: str, name: str, of: Callable[[np.ndarray], float], steps: tuple[float, float] | None) -> Measure:
        return _measure("labels", key, name, of(counts), steps, [of(one) for one in drawn])

    found = [
        against("label_tv", "total variation to all rows", lambda c: to_everybody(c, total_variation), (0.03, 0.3)),
        against("label_js", "Jensen-Shannon to all rows, bits", lambda c: to_everybody(c, jensen_shannon), (0.01, 0.15)),
        against("label_emd", "1-Wasserstein to all rows, if ordered", lambda c: to_everybody(c, earth_mover), None),
    ]
    return [*found, _measure("labels", "label_tv_pairs", "total variation between two clients", between_pairs(few, total_variation), None)]


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
    return [_measure("labels", "target_wasserstein", "1-Wasserstein to all rows, deviations", mean_wasserstein(y, y.owner), (0.03, 0.3), drawn)]


def _features(sample: Sample, rng: np.random.Generator, seed: int) -> list[Measure]:
    moved = [mean_wasserstein(sample, sample.shuffled(rng)) for _ in range(SHUFFLES)]
    rows, scores = owner_scores(sample, seed)
    strata, one = rows.strata, np.zeros(len(rows.owner), np.int64)
    apart = mean_wasserstein(sample, sample.owner)
    found = [_measure("features", "feature_wasserstein", "1-Wasserstein to all rows, deviations", apart, (0.03, 0.2), moved)]
    if scores.shape[1]:
        within, over = ranks(scores, strata), ranks(scores, one)
        told = [area(within, rows.shuffled(rng), strata) for _ in range(SHUFFLES)]
        found += [
            _measure("features", "owner_auc", "AUC of telling whose a row is", area(over, rows.owner, one), None),
            _measure("features", "owner_auc_same_label", "the same, among rows of one label", area(within, rows.owner, strata), (0.03, 0.15), told),
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
    return [_measure("preference", "disagreement", name, found.excess, (0.03, 0.2), shuffled)]


def by_phases(fed: Federation, seed: int = 0) -> list[Measure]:
    """Drift of all clients' train rows together from one phase to the next, where the federation changes: of each measure the change that is largest.

    Looks at CHANGES changes at most, the first ones.
    """
    if fed.drift is None:
        return []
    phases = [fed, *fed.drift.later]
    order = fed.drift.order + fed.drift.order[:1] * fed.drift.again
    pairs = list(dict.fromkeys((a, b) for a, b in pairwise(order) if a != b))[:CHANGES]
    found: dict[str, Measure] = {}
    for a, b in pairs:
        for one in drift(_train(phases[a]), _train(phases[b]), len(fed.labels), shift=fed.shift, scale=fed.scale, seed=seed):
            known = found.get(one.key)
            if known is None or (one.value or 0.0) > (known.value or 0.0):
                found[one.key] = one
    return list(found.values())


def _train(fed: Federation) -> tuple[np.ndarray, np.ndarray]:
    """All train rows, at most DRIFTING of them, evenly spaced: by clients, one after another."""
    rows = int(np.asarray(fed.count["train"]).sum())
    some = np.unique(np.linspace(0, rows - 1, min(DRIFTING, rows)).astype(np.int64))
    return fed.x[some], fed.y[some]


def by_attackers(attackers: np.ndarray | None, clients: int) -> list[Measure]:
    """Share of clients that are marked. attackers: bool [clients] or None."""
    return [_measure("attack", "attackers", "share of clients marked", 0.0 if attackers is None else float(attackers.sum()) / clients, (0.0, 0.1))]


def drift(
    before: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray], outputs: int, *,
    shift: np.ndarray | float = 0.0, scale: np.ndarray | float = 1.0, seed: int = 0,
) -> tuple[Measure, ...]:  # fmt: skip
    """What has changed from one time to another, from the rows (x, y) of both: of one client, or of a group of clients, before and after.

    The same measures as between clients, with two: total variation and Jensen-Shannon divergence from labels before to labels after, 1-Wasserstein distance of
    single values, the area under the ROC curve of a classifier that tells after from before, and how often labels at the same x differ between the times more
    than within one. outputs: number of labels; 0: numbers to predict.
    """
    x, y = (np.concatenate([a, b]) for a, b in zip(before, after, strict=True))
    count = np.array([len(before[1]), len(after[1])])
    rng = np.random.default_rng([seed, 3])
    found: list[Measure] = []
    if outputs:
        table = count_labels(y, np.repeat([0, 1], count), 2, outputs)
        order = [rng.permutation(np.repeat([0, 1], count)) for _ in range(SHUFFLES)]
        drawn = [count_labels(y, owner, 2, outputs) for owner in order]
        for key, distance, steps in (("label_tv", total_variation, (0.03, 0.3)), ("label_js", jensen_shannon, (0.01, 0.15))):
            name = "total variation" if key == "label_tv" else "Jensen-Shannon, bits"
            found.append(_measure("labels", key, name, between_pairs(table, distance), steps, [between_pairs(one, distance) for one in drawn]))
    both = sample(x, y, np.array([0, count[0]]), count, shift=shift, scale=scale, seed=seed)
    return tuple(_of_two(one) for one in (*found, *by_rows(both, seed)))


def _of_two(one: Measure) -> Measure:
    """A measure of two clients as one of drift. The mean distance of two laws to their mixture is half their distance, whatever their shares."""
    if not one.key.endswith("wasserstein"):
        return one._replace(kind="temporal")
    value, chance, limit = (None if number is None else 2 * number for number in (one.value, one.chance, one.limit))
    return one._replace(kind="temporal", name=one.name.replace(" to all rows", ""), value=value, chance=chance, limit=limit)


def _measure(kind: str, key: str, name: str, value: float, steps: tuple[float, float] | None, drawn: list[float] | None = None) -> Measure:
    """steps: how far beyond chance is more than nothing, and is strong; None: no word. drawn: what chance alone gives."""
    if value != value:
        return Measure(kind, key, name, None, None, None, "")
    chance, limit = (None, None) if drawn is None else (float(np.mean(drawn)), float(np.mean(drawn) + SIGMAS * np.std(drawn, ddof=1)))
    word = ""
    if steps is not None:
        beyond = value - (chance or 0.0)
        nothing = beyond <= steps[0] or (limit is not None and value <= limit)
        word = "none" if nothing else "weak" if beyond < steps[1] else "strong"
    return Measure(kind, key, name, value, chance, limit, word)
