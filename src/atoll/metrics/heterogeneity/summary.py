"""How the clients of a federation differ, all kinds together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from atoll.metrics.heterogeneity.between import by_attackers, by_counts, by_rows, by_sizes
from atoll.metrics.heterogeneity.changes import by_phases
from atoll.metrics.heterogeneity.labels import count_labels
from atoll.metrics.heterogeneity.measure import Measure
from atoll.metrics.heterogeneity.sample import CLIENTS, ROWS, sample

if TYPE_CHECKING:
    from atoll.data.federation import Federation

BY_CHANCE = (
    "By chance: clients of the same sizes with random rows; for features and preference with random rows of the same labels. None: not beyond that. "
    f"Features and preference are seen on at most {ROWS:,} rows of {CLIENTS} clients."
)


def heterogeneity(fed: Federation, seed: int = 0) -> tuple[Measure, ...]:
    """How the clients of a federation differ, from the train rows of all of them. Takes about a second: of many rows it looks at some (sample.py)."""
    count = np.asarray(fed.count["train"])
    rows = int(count.sum())
    labelled = by_counts(count_labels(fed.y[:rows], np.repeat(np.arange(len(count)), count), len(count), len(fed.labels)), seed) if fed.labels else []
    some = sample(fed.x, fed.y, np.asarray(fed.start["train"]), count, shift=fed.shift, scale=fed.scale, seed=seed)
    return (*by_sizes(count), *labelled, *by_rows(some, seed), *by_phases(fed, seed), *by_attackers(fed.attackers, len(count)))
