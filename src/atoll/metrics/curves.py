"""How a method gets on over its rounds."""

from __future__ import annotations

import polars as pl

from atoll.metrics.choice import validation_scores


def convergence(clients: pl.DataFrame, rounds: pl.DataFrame, *, regression: bool, seen: int) -> pl.DataFrame:
    """Validation score against rounds and against traffic: [method, round, score, bytes_client].

    score: as from `validation_scores`. bytes_client: bytes down and up so far, per seen client (seen: their number); 0 before training.
    """
    scores = validation_scores(clients, regression=regression)
    traffic = rounds.sort("round").select(
        "method",
        pl.col("round").cast(scores.schema["round"]),
        ((pl.col("bytes_down") + pl.col("bytes_up")).cum_sum().over("method") / seen).alias("bytes_client"),
    )
    return scores.join(traffic, on=["method", "round"], how="left", maintain_order="left").with_columns(pl.col("bytes_client").fill_null(0.0))
