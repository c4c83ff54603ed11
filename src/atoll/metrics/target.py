"""How soon, and at what price, a method is good enough."""

from __future__ import annotations

import polars as pl

from atoll.metrics.choice import validation_scores


def to_target(
    clients: pl.DataFrame, rounds: pl.DataFrame, target: float | None, *, regression: bool, seen: int, since: int = 0
) -> pl.DataFrame:
    """What it takes until the validation score is as good as `target`: [method, rounds, steps, bytes, flops, sim_seconds], null where it never is.

    clients, rounds: as in clients.parquet and rounds.parquet. rounds: the first scored one, from `since` on, that is good enough; optimisation steps,
    bytes (down and up) and flops until then are per seen client (seen: their number); sim_seconds are those of the simulated federation, null where nothing
    takes time.
    """
    scores = validation_scores(clients, regression=regression).filter(pl.col("round") >= since)
    good = pl.lit(False) if target is None else pl.col("score") <= target if regression else pl.col("score") >= target
    first = scores.filter(good).group_by("method", maintain_order=True).agg(pl.col("round").min().alias("rounds"))
    spent = rounds.join(first, on="method", how="inner").filter(pl.col("round") <= pl.col("rounds"))
    sums = spent.group_by("method").agg(
        (pl.col("steps").sum() / seen).alias("steps"),
        ((pl.col("bytes_down") + pl.col("bytes_up")).sum() / seen).alias("bytes"),
        (pl.col("flops").sum() / seen).alias("flops"),
        pl.when(pl.col("sim_seconds").sum() > 0).then(pl.col("sim_seconds").sum()).alias("sim_seconds"),
    )
    order = clients.select(pl.col("method").unique(maintain_order=True))
    reached = order.join(first, on="method", how="left", maintain_order="left").join(sums, on="method", how="left", maintain_order="left")
    before = pl.col("rounds").is_not_null()  # good enough before the first round: nothing was spent
    return reached.with_columns(pl.when(before).then(pl.col(name).fill_null(0.0)).alias(name) for name in ("steps", "bytes", "flops"))


def front(costs: list[float], gains: list[float]) -> list[int]:
    """Which of these are on the Pareto front, cheapest first: nothing costs as little or less and gains more, or costs less and gains as much."""
    best, kept = float("-inf"), []
    for at in sorted(range(len(costs)), key=lambda i: (costs[i], -gains[i])):
        if gains[at] > best:
            best = gains[at]
            kept.append(at)
    return kept
