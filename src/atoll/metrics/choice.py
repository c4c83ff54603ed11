"""Which round of a method counts: chosen on validation rows alone, so that test rows never take part in a choice."""

from __future__ import annotations

import polars as pl


def amount(regression: bool) -> pl.Expr:
    """What is summed over rows: the number right, or the loss."""
    return pl.col("loss" if regression else "correct")


def validation_scores(clients: pl.DataFrame, *, regression: bool) -> pl.DataFrame:
    """Sample-weighted validation score of the personal models of seen clients, per method and round, as from `round_scores`."""
    return round_scores(clients, "validation", regression=regression)


def round_scores(clients: pl.DataFrame, split: str, *, regression: bool) -> pl.DataFrame:
    """Sample-weighted score of the personal models of seen clients on the rows of a split, per method and round.

    clients: rows as in clients.parquet. Returns [method, round, score]; score is an accuracy in 0..1, or a mean loss for regression, and null where
    a sum is not finite or nobody has rows. Methods keep the order in which they come, rounds are ascending.
    """
    rows = clients.filter(pl.col("seen") & (pl.col("split") == split) & (pl.col("model") == "personal"))
    order = clients.select(pl.col("method").unique(maintain_order=True)).with_row_index("at")
    scores = rows.group_by("method", "round").agg((amount(regression).sum() / pl.col("rows").sum()).alias("score"))
    scores = scores.with_columns(pl.when(pl.col("score").is_finite()).then(pl.col("score")))
    return order.join(scores, on="method").sort("at", "round").drop("at")


def choose(clients: pl.DataFrame, *, regression: bool, since: int = 0) -> pl.DataFrame:
    """The round that counts for each method: the one with the best validation score, and of equal ones the earliest.

    Round 0, before training, takes part: a method whose training does not help is not made to look as if it did.
    since: rounds before this one take no part, because clients had other rows then.
    Returns [method, round, validation, last]: validation is the score at that round, last the latest round scored. Without any validation score the
    last round counts, and validation is null.
    """
    scores = validation_scores(clients, regression=regression)
    last = clients.group_by("method", maintain_order=True).agg(pl.col("round").max().alias("last"))
    ranked = scores.filter(pl.col("round") >= since).drop_nulls("score").sort("score", "round", descending=[not regression, False])
    best = ranked.group_by("method", maintain_order=True).first().rename({"score": "validation"})
    chosen = last.join(best, on="method", how="left", maintain_order="left")
    return chosen.select("method", pl.coalesce("round", "last").alias("round"), "validation", "last")
