"""Federations that change while they train: a run's rounds pass through phases, and in each the clients have other rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from atoll.core.errors import AtollError

if TYPE_CHECKING:
    from atoll.data.federation import Federation


@dataclass(frozen=True, eq=False)
class Drift:
    """Which rows the clients of a federation have in which rounds. The first phase is the federation itself."""

    every: int  # rounds that a period lasts
    later: tuple[Federation, ...]  # phases 1, 2, ...: the same clients with other rows
    order: tuple[int, ...]  # the phase of each period
    again: bool = False  # after the last period the first follows; else the last one's phase stays
    about: tuple[str, ...] = ()  # what each phase is, in words

    def phase(self, round: int) -> int:
        """The phase in which `round` is trained and scored; 0, the round before training, is in the first."""
        period = max(0, round - 1) // self.every
        return self.order[period % len(self.order) if self.again else min(period, len(self.order) - 1)]

    def changes(self, rounds: int) -> list[int]:
        """Rounds, up to `rounds`, that are the first in a new phase."""
        return [r for r in range(1 + self.every, rounds + 1, self.every) if self.phase(r) != self.phase(r - 1)]


def check_drift(fed: Federation, drift: Drift) -> None:
    """AtollError unless phases differ in rows only."""
    if drift.every < 1 or not drift.order or drift.order[0] != 0 or not set(drift.order) <= set(range(len(drift.later) + 1)):
        raise AtollError(f"phases {list(drift.order)} of {drift.every} rounds each must begin with phase 0 and be among the {len(drift.later) + 1} there are.")
    for n, phase in enumerate(drift.later, 1):
        alike = (fed.names, fed.seen, fed.labels, fed.x.shape[1:], fed.x.dtype, fed.y.shape[1:])
        if (phase.names, phase.seen, phase.labels, phase.x.shape[1:], phase.x.dtype, phase.y.shape[1:]) != alike or phase.drift is not None:
            raise AtollError(f"phase {n} has other clients, labels or kinds of rows than the first. Only the rows themselves may change.")
        if not (np.array_equal(phase.shift, fed.shift) and np.array_equal(phase.scale, fed.scale)):
            raise AtollError(f"phase {n} is shifted and scaled in another way than the first, so that models would see a change that is none of the data's.")
