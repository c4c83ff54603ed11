"""What goes wrong in a round: clients that can't be reached, stragglers that manage only part of the work, devices that miss a deadline; and the clock."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from atoll.core.errors import AtollError
from atoll.core.federation import Effort, Timing
from atoll.core.keys import host_generator
from atoll.parts.devices import Devices


@dataclass(frozen=True)
class Conditions:
    """Drop-out, stragglers and devices, drawn per (seed, round, client): the same for all methods, whatever they ask.

    dropout: share of asked clients that can't be reached in a round (they keep their state, and nothing is sent).
    stragglers: share of clients that manage only part of the work, uniformly between nothing and all of it, at least one step. Methods that
    take partial work (FedProx) use what they send; others lose them, as FedAvg does.
    devices: how fast clients compute and send, and how often they are there; with them every ask takes simulated seconds.
    deadline: seconds for which the server waits for answers to one ask. Whom it would take longer does the part of the work that fits, or is lost.
    """

    dropout: float = 0.0
    stragglers: float = 0.0
    devices: Devices | None = field(default=None, compare=False)
    deadline: float | None = None

    def __post_init__(self) -> None:
        for name in ("dropout", "stragglers"):
            if not 0 <= getattr(self, name) <= 1:
                raise AtollError(f"{name} is a share of the clients between 0 and 1, not {getattr(self, name)}.")
        if self.deadline is not None and not self.deadline > 0:
            raise AtollError(f"deadline is a number of seconds above 0, not {self.deadline}.")
        if self.deadline is not None and self.devices is None:
            raise AtollError(f"deadline={self.deadline:g} needs devices, whose speeds say who keeps it. Say which (--devices lognormal), or leave it out.")

    @property
    def timed(self) -> bool:
        """Whether asks take time."""
        return self.devices is not None

    def reachable(self, seed: int, round: int, ids: np.ndarray) -> np.ndarray:
        """Bool [len(ids)]."""
        there = self._draw(seed, "dropout", round, ids) >= self.dropout
        if self.devices is not None:
            there &= self._draw(seed, "available", round, ids) < self.devices.available[ids]
        return there

    def budgets(self, seed: int, round: int, ids: np.ndarray) -> np.ndarray:
        """Float32 [len(ids)], the share of the work each client manages: 1 but for stragglers."""
        slow = self._draw(seed, "straggler", round, ids) < self.stragglers
        return np.where(slow, np.minimum(self._draw(seed, "work", round, ids), 0.999), 1.0).astype(np.float32)

    def timing(self, seed: int, round: int, ids: np.ndarray, effort: Effort) -> Timing:
        """How long one ask takes each of `ids`, who is lost meanwhile, and when the server stops waiting. There must be devices."""
        d = self.devices
        assert d is not None
        send = d.latency[ids] + 8e-6 * (effort.down / d.down_mbit[ids] + effort.up / d.up_mbit[ids])
        lost = self._draw(seed, "lost", round, ids) < d.dropout[ids]
        return Timing(send, effort.flops / d.speed(seed, round, ids), lost, np.inf if self.deadline is None else self.deadline)

    def _draw(self, seed: int, purpose: str, round: int, ids: np.ndarray) -> np.ndarray:
        size = int(ids.max()) + 1
        return host_generator(seed, purpose, round).random(size)[ids]
