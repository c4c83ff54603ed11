"""How much clients differ: in size, labels, inputs, what they call the same input, over time, and by attacks; on rows and counts."""

from __future__ import annotations

from atoll.metrics.heterogeneity.changes import drift
from atoll.metrics.heterogeneity.labels import earth_mover, gini, jensen_shannon, total_variation
from atoll.metrics.heterogeneity.measure import Measure
from atoll.metrics.heterogeneity.summary import heterogeneity

__all__ = ["Measure", "drift", "earth_mover", "gini", "heterogeneity", "jensen_shannon", "total_variation"]
