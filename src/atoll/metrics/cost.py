"""What a method costs: traffic, computing, time and what clients must keep."""

from __future__ import annotations

import polars as pl


def costs(rounds: pl.DataFrame, chosen: pl.DataFrame, *, clients: int) -> pl.DataFrame:
    """Costs per method.

    rounds: as in rounds.parquet (bytes are those of the whole cohort, and only clients that answer cause traffic); round 0 is what a method asked before the
    first round, and counts in sums over all rounds alone. chosen: [method, round].
    clients: number of seen clients. Returns one row per method:

    down_round, up_round, bytes_round    bytes per round of a client that takes part: sum over rounds / sum of clients that answered
    numbers_round                        the same in numbers of four bytes, as parameters are
    bytes_client, flops_client           over all rounds run, per seen client, whether it was asked or not
    bytes_chosen                         the same bytes up to the round that counts
    flops, steps                         over all rounds and clients
    seconds, cpu_seconds, eval_seconds   of the process that simulates, over all rounds; compiling included, scoring in eval_seconds alone
    sim_seconds                          of the simulated federation over all rounds; null where its clients have no devices
    private_bytes, peak_memory           private states of all clients after the last round; largest resident memory of the process while the method ran

    Values that nobody can know (bytes per taking-part client where nobody ever answered) are null.
    """
    until = rounds.join(chosen.select("method", pl.col("round").alias("until")), on="method", how="left", maintain_order="left")
    both = pl.col("bytes_down") + pl.col("bytes_up")
    ordinary = pl.col("round") > 0
    answered = pl.col("answered").filter(ordinary).sum()
    some = answered > 0
    totals = ("flops", "steps", "seconds", "cpu_seconds", "eval_seconds")
    return until.group_by("method", maintain_order=True).agg(
        pl.when(some).then(pl.col("bytes_down").filter(ordinary).sum() / answered).alias("down_round"),
        pl.when(some).then(pl.col("bytes_up").filter(ordinary).sum() / answered).alias("up_round"),
        pl.when(some).then(both.filter(ordinary).sum() / answered).alias("bytes_round"),
        pl.when(some).then(both.filter(ordinary).sum() / answered / 4).alias("numbers_round"),
        (both.sum() / clients).alias("bytes_client"),
        (both.filter(pl.col("round") <= pl.col("until")).sum() / clients).alias("bytes_chosen"),
        (pl.col("flops").sum() / clients).alias("flops_client"),
        *(pl.col(name).sum() for name in totals),
        pl.when(pl.col("sim_seconds").sum() > 0).then(pl.col("sim_seconds").sum()).alias("sim_seconds"),
        pl.col("private_bytes").sort_by("round").last(),
        pl.col("peak_memory").max(),
    )


def state_per_client(rounds: pl.DataFrame, clients: pl.DataFrame) -> pl.DataFrame:
    """Bytes of private state per client that holds one: [method, state_client].

    The states after the last round, divided by the seen clients that had joined when clients were last scored; 0 for methods that keep nothing.
    """
    kept = rounds.group_by("method", maintain_order=True).agg(pl.col("private_bytes").sort_by("round").last())
    last = clients.filter(pl.col("seen") & (pl.col("round") == pl.col("round").max().over("method")) & pl.col("joined"))
    holders = last.group_by("method").agg(pl.col("client").n_unique().alias("holders"))
    per = kept.join(holders, on="method", how="left", maintain_order="left")
    shared = pl.when(pl.col("holders") > 0).then(pl.col("private_bytes") / pl.col("holders"))
    return per.select("method", pl.when(pl.col("private_bytes") == 0).then(0.0).otherwise(shared).alias("state_client"))
