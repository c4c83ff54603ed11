"""What a run's tables say: pure functions on the frames of clients.parquet and rounds.parquet. They know no method and read no file."""

from __future__ import annotations

from atoll.metrics.adaptation import adapted, over_time, steadiness
from atoll.metrics.choice import choose, validation_scores
from atoll.metrics.clusters import agreement, memberships
from atoll.metrics.compare import Paired, coincide, paired
from atoll.metrics.cost import costs, state_per_client
from atoll.metrics.curves import convergence
from atoll.metrics.quality import client_scores, hurt, mean_loss, summary
from atoll.metrics.repeats import Difference, repeated

__all__ = [
    "Difference",
    "Paired",
    "adapted",
    "agreement",
    "choose",
    "client_scores",
    "coincide",
    "convergence",
    "costs",
    "hurt",
    "mean_loss",
    "memberships",
    "over_time",
    "paired",
    "repeated",
    "state_per_client",
    "steadiness",
    "summary",
    "validation_scores",
]
