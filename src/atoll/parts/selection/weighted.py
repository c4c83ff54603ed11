"""Sampling by the number of rows."""

from __future__ import annotations

import numpy as np

from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.keys import host_generator
from atoll.core.method import checked, hyper
from atoll.parts.selection.drawing import check_size, draw


@checked
class Weighted:
    """Clients are drawn one after another without replacement, with probabilities p_k = n_k / n: who has more rows is asked more often.

    Replies then weigh alike, or rows would count twice: a method must be told so (fedprox.weighting=alike), and most weigh by rows.

    The first of two pairs of sampling and weighting in Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020 (the other: uniform, by rows).
    Departure: the paper draws with replacement; here, as in the authors' later code, a client is asked once a round.
    """

    per_round: int | None = hyper(None)

    def check(self) -> None:
        check_size(self)

    def choose(self, fed: Fed) -> np.ndarray:
        assert self.per_round is not None
        weighting = getattr(fed.method, "weighting", None)
        if weighting == "rows":
            raise AtollError("Clients are drawn by their rows (select=weighted), and replies would be weighed by them again. Set weighting=alike.")
        return draw(host_generator(fed.seed, "select weighted", fed.round), fed.everyone(), self.per_round, fed.rows / fed.rows.sum())
