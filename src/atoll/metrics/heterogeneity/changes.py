"""What changes with time: between two times, and from one phase of a federation to the next."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from atoll.metrics.heterogeneity.between import by_rows
from atoll.metrics.heterogeneity.labels import between_pairs, count_labels, jensen_shannon, total_variation
from atoll.metrics.heterogeneity.measure import SHUFFLES, Measure, measured
from atoll.metrics.heterogeneity.sample import sample

if TYPE_CHECKING:
    from atoll.data.federation import Federation

CHANGES, DRIFTING = 3, 20_000  # changes of phase, and rows of a phase, that are looked at, at most


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
        for key, distance in (("label_tv", total_variation), ("label_js", jensen_shannon)):
            name = "total variation" if key == "label_tv" else "Jensen-Shannon, bits"
            found.append(measured("labels", key, name, between_pairs(table, distance), [between_pairs(one, distance) for one in drawn]))
    both = sample(x, y, np.array([0, count[0]]), count, shift=shift, scale=scale, seed=seed)
    return tuple(_of_two(one) for one in (*found, *by_rows(both, seed)))


def _of_two(one: Measure) -> Measure:
    """A measure of two clients as one of drift. The mean distance of two laws to their mixture is half their distance, whatever their shares."""
    if not one.key.endswith("wasserstein"):
        return one._replace(kind="temporal")
    value, chance, limit = (None if number is None else 2 * number for number in (one.value, one.chance, one.limit))
    return one._replace(kind="temporal", name=one.name.replace(" to all rows", ""), value=value, chance=chance, limit=limit)


def by_phases(fed: Federation, seed: int = 0) -> list[Measure]:
    """Drift of all clients' train rows together from one phase to the next, and from the first to the last: of each measure the change that is largest.

    Looks at CHANGES changes at most, the first ones, beside that from the first to the last, which small steps may add up to.
    """
    if fed.drift is None:
        return []
    phases = [fed, *fed.drift.later]
    order = fed.drift.order + fed.drift.order[:1] * fed.drift.again
    steps = list(dict.fromkeys((a, b) for a, b in pairwise(order) if a != b))[:CHANGES]
    pairs = list(dict.fromkeys([*steps, (order[0], order[-1])])) if order[0] != order[-1] else steps
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
