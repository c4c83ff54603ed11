"""What goes wrong in a round: clients that can't be reached, and stragglers that manage only part of the work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atoll.core.errors import AtollError
from atoll.core.keys import host_generator


@dataclass(frozen=True)
class Conditions:
    """Drop-out and stragglers, drawn per (seed, round, client): the same for all methods, whatever they ask.

    dropout: share of asked clients that can't be reached in a round (they keep their state, and nothing is sent).
    stragglers: share of clients that manage only part of the work, uniformly between nothing and all of it, at least one step. Methods that
    take partial work (FedProx) use what they send; others lose them, as FedAvg does.
    """

    dropout: float = 0.0
    stragglers: float = 0.0

    def __post_init__(self) -> None:
        for name in ("dropout", "stragglers"):
            if not 0 <= getattr(self, name) <= 1:
                raise AtollError(f"{name} is a share of the clients between 0 and 1, not {getattr(self, name)}.")

    def reachable(self, seed: int, round: int, ids: np.ndarray) -> np.ndarray:
        """Bool [len(ids)]."""
        return self._draw(seed, "dropout", round, ids) >= self.dropout

    def budgets(self, seed: int, round: int, ids: np.ndarray) -> np.ndarray:
        """Float32 [len(ids)], the share of the work each client manages: 1 but for stragglers."""
        slow = self._draw(seed, "straggler", round, ids) < self.stragglers
        return np.where(slow, np.minimum(self._draw(seed, "work", round, ids), 0.999), 1.0).astype(np.float32)

    def _draw(self, seed: int, purpose: str, round: int, ids: np.ndarray) -> np.ndarray:
        size = int(ids.max()) + 1
        return host_generator(seed, purpose, round).random(size)[ids]
