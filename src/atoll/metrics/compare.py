"""Methods against each other, client by client."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Paired:
    """One method against another on the same clients. Positive differences: the first is better (higher accuracy, or lower loss)."""

    weighted: float  # difference of the sample-weighted scores
    mean: float  # mean difference over clients
    error: float  # its standard error over clients; NaN for one client
    better: int  # clients better off with the first
    equal: int
    worse: int

    @property
    def clients(self) -> int:
        return self.better + self.equal + self.worse


def paired(scores: pl.DataFrame, first: str, second: str, *, regression: bool) -> Paired | None:
    """Compares two methods on the clients both have finite scores for (scores: as from `client_scores`); None where there is none.

    The standard error is over clients of one run: it says how even the gain is, and nothing about other seeds or other splits.
    """
    columns = ["client", "rows", "total", "score"]
    a, b = (scores.filter((pl.col("method") == m) & pl.col("score").is_finite()).select(columns) for m in (first, second))
    both = a.join(b, on="client", suffix="_b")
    if both.is_empty():
        return None
    sign = -1.0 if regression else 1.0
    gain = sign * (both["score"] - both["score_b"]).to_numpy()
    weighted = float(both["total"].sum()) / float(both["rows"].sum()) - float(both["total_b"].sum()) / float(both["rows_b"].sum())
    error = float(np.std(gain, ddof=1) / math.sqrt(len(gain))) if len(gain) > 1 else math.nan
    return Paired(sign * weighted, float(gain.mean()), error, int((gain > 0).sum()), int((gain == 0).sum()), int((gain < 0).sum()))


def coincide(clients: pl.DataFrame) -> list[tuple[str, ...]]:
    """Groups of methods whose personal models do the same for every client: as many right and, to six digits, the same loss.

    Looks at the last round each method was scored at (after training, all splits). Different methods that coincide are a sign that a part of one of
    them is switched off.
    """
    after = clients.filter((pl.col("model") == "personal") & (pl.col("round") > 0) & (pl.col("round") == pl.col("round").max().over("method")))
    marks = {str(name): _fingerprint(part) for (name,), part in after.group_by("method", maintain_order=True)}
    groups: list[list[str]] = []
    for a, b in combinations(marks, 2):
        if not _same(marks[a], marks[b]):
            continue
        known = next((group for group in groups if a in group), None)
        if known is None:
            groups.append([a, b])
        elif b not in known:
            known.append(b)
    return [tuple(group) for group in groups]


def _fingerprint(rows: pl.DataFrame) -> tuple[list[tuple[int, str]], np.ndarray, np.ndarray]:
    """Who is scored on what, how many are right, the losses; in a fixed order."""
    rows = rows.sort("client", "split")
    keys = list(zip(rows["client"].to_list(), rows["split"].to_list(), strict=True))
    return keys, rows["correct"].to_numpy(), rows["loss"].to_numpy()


def _same(a: tuple[list[tuple[int, str]], np.ndarray, np.ndarray], b: tuple[list[tuple[int, str]], np.ndarray, np.ndarray]) -> bool:
    if a[0] != b[0] or not np.array_equal(a[1], b[1], equal_nan=True):
        return False
    return bool(np.allclose(a[2], b[2], rtol=1e-6, atol=0.0, equal_nan=True))
