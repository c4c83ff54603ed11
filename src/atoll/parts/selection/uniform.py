"""Uniform sampling without replacement."""

from __future__ import annotations

import numpy as np

from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.keys import host_generator
from atoll.core.method import checked, hyper


@checked
class Uniform:
    """`per_round` clients drawn uniformly, or all (None). The draw depends on seed and round only, so all methods of a run see the same schedule."""

    per_round: int | None = hyper(None)

    def check(self) -> None:
        if self.per_round is not None and self.per_round < 1:
            raise AtollError(f"A round needs at least one client, not {self.per_round}.")

    def choose(self, fed: Fed) -> np.ndarray:
        if self.per_round is None or self.per_round == fed.n:
            return fed.everyone()
        if self.per_round > fed.n:
            raise AtollError(f"{self.per_round} clients per round were asked for, and the federation has {fed.n}. Ask for fewer, or leave it out for all.")
        return np.sort(host_generator(fed.seed, "sample", fed.round).choice(fed.n, self.per_round, replace=False))
