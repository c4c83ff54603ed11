"""How methods get on with data that change while they train."""

from __future__ import annotations

import polars as pl

from atoll.metrics.choice import round_scores


def over_time(clients: pl.DataFrame, *, regression: bool) -> pl.DataFrame:
    """Sample-weighted test score of the personal models of seen clients in every round scored, on the rows that clients had then; as `round_scores`."""
    return round_scores(clients, "test", regression=regression)


def adapted(scores: pl.DataFrame, changes: list[int], *, regression: bool) -> pl.DataFrame:
    """What every change of the data cost: [method, change, before, after, end, recovery].

    scores: as from `over_time`. changes: the first rounds of new phases, ascending. before: the last score before the change; after: the first one from it
    on; end: the last one before the next change; recovery: rounds from the change until the score is as good as before, null where it never is. A change
    before or after which nothing was scored is left out.
    """
    found = []
    for method in scores["method"].unique(maintain_order=True):
        own = scores.filter(pl.col("method") == method).drop_nulls("score")
        for change, following in zip(changes, [*changes[1:], None], strict=True):
            earlier = own.filter(pl.col("round") < change)
            until = pl.col("round") < following if following is not None else pl.lit(True)
            later = own.filter((pl.col("round") >= change) & until)
            if earlier.is_empty() or later.is_empty():
                continue
            before = float(earlier["score"][-1])
            good = later.filter(pl.col("score") <= before if regression else pl.col("score") >= before)
            recovery = None if good.is_empty() else int(good["round"][0]) - change + 1
            found.append((method, change, before, float(later["score"][0]), float(later["score"][-1]), recovery))
    names = {"method": pl.String, "change": pl.Int32, "before": pl.Float64, "after": pl.Float64, "end": pl.Float64, "recovery": pl.Int32}
    return pl.DataFrame(found, schema=names, orient="row")


def steadiness(clients: pl.DataFrame, changes: list[int], *, regression: bool) -> pl.DataFrame:
    """In short, per method: [method, mean_over_time, lost, recovery].

    mean_over_time: the mean of the scores from the first round of training on; lost: by how much the score is worse right after a change than before it,
    mean over changes (negative: better); recovery: rounds until it is as good again, mean over the changes after which it is, null where it never is.
    """
    scores = over_time(clients, regression=regression)
    sign = -1 if regression else 1
    means = scores.filter(pl.col("round") > 0).group_by("method", maintain_order=True).agg(pl.col("score").mean().alias("mean_over_time"))
    told = adapted(scores, changes, regression=regression).group_by("method").agg(
        (sign * (pl.col("before") - pl.col("after"))).mean().alias("lost"), pl.col("recovery").mean()
    )
    return means.join(told, on="method", how="left", maintain_order="left")
