"""What a run's tables say: pure functions on the frames of clients.parquet and rounds.parquet. They know no method and read no file."""

from __future__ import annotations

from atoll.metrics.adaptation import adapted, over_time, steadiness
from atoll.metrics.bootstrap import resampled_clients, resampled_seeds
from atoll.metrics.choice import choose, validation_scores
from atoll.metrics.clusters import agreement, memberships
from atoll.metrics.compare import Paired, coincide, paired
from atoll.metrics.cost import costs, state_per_client
from atoll.metrics.curves import convergence
from atoll.metrics.quality import by_label, client_scores, forgotten, hurt, mean_loss, summary
from atoll.metrics.ranks import Ranking, critical_difference, ranking, ranks, record
from atoll.metrics.repeats import Difference, repeated
from atoll.metrics.target import front, to_target

__all__ = [
    "Difference",
    "Paired",
    "Ranking",
    "adapted",
    "agreement",
    "by_label",
    "choose",
    "client_scores",
    "coincide",
    "convergence",
    "costs",
    "critical_difference",
    "forgotten",
    "front",
    "hurt",
    "mean_loss",
    "memberships",
    "over_time",
    "paired",
    "ranking",
    "ranks",
    "record",
    "repeated",
    "resampled_clients",
    "resampled_seeds",
    "state_per_client",
    "steadiness",
    "summary",
    "to_target",
    "validation_scores",
]
