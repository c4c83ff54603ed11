"""Which clusters of clients a method found, and how well they agree with groups that are known."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from sklearn.metrics import adjusted_rand_score


def memberships(clients: pl.DataFrame) -> pl.DataFrame:
    """[method, round, client, seen, cluster]: who was in which cluster; methods that find no clusters, and clients that are in none, have no row.

    clients: rows as in clients.parquet. Methods and rounds keep the order in which they come, clients are ascending.
    """
    rows = clients.filter(pl.col("cluster").is_not_null()).select("method", "round", "client", "seen", "cluster")
    return rows.unique(["method", "round", "client"], keep="first", maintain_order=True)


def agreement(found: pl.DataFrame, groups: Sequence[int] | None) -> pl.DataFrame:
    """[method, round, clusters, adjusted_rand] of `memberships`: how many clusters seen clients are in, and the adjusted Rand index of these and `groups`.

    The index is 1 where clusters are the groups, about 0 where they are dealt out by chance. It is null without groups, and where they put all
    clients together or all apart. groups: one number per client. Clients that are in no cluster take no part.
    """
    rows = []
    for (name, at), some in found.filter(pl.col("seen")).group_by("method", "round", maintain_order=True):
        cluster = some["cluster"].to_list()
        known = None if groups is None else [groups[i] for i in some["client"]]
        rows.append((name, at, len(set(cluster)), None if known is None or _trivial(known) else float(adjusted_rand_score(known, cluster))))
    types = {"method": pl.String, "round": pl.Int32, "clusters": pl.Int32, "adjusted_rand": pl.Float64}
    return pl.DataFrame(rows, schema=types, orient="row")


def _trivial(labels: list[int]) -> bool:
    return len(set(labels)) in (1, len(labels))
