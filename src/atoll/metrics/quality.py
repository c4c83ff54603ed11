"""How well clients are served: scores per client, their mean and spread, and who is worse off."""

from __future__ import annotations

import polars as pl

from atoll.metrics.choice import amount


def client_scores(
    clients: pl.DataFrame, rounds: pl.DataFrame, *, regression: bool, model: str = "personal", split: str = "test", seen: bool = True
) -> pl.DataFrame:
    """The score of every client at the round given for its method.

    rounds: [method, round]. model: "personal", "global" or "before"; split: "validation", "test" or "mix" (rows of all clients); seen: the clients that took
    part, or those held out. Returns [method, client, joined, rows, total, score]: score = total / rows is an accuracy in 0..1 or, for regression, a mean
    loss. Clients without rows in `split` have no score and are left out.
    """
    rows = _rows_at(clients, rounds, model, split, seen)
    scored = rows.with_columns(amount(regression).alias("total"), (amount(regression) / pl.col("rows")).alias("score"))
    return scored.select("method", "client", "joined", "rows", "total", "score")


def _rows_at(clients: pl.DataFrame, rounds: pl.DataFrame, model: str, split: str, seen: bool) -> pl.DataFrame:
    """Rows of clients.parquet at the round given for each method, of clients that have rows in the split."""
    wanted = pl.col("seen") if seen else ~pl.col("seen")
    rows = clients.filter(wanted & (pl.col("model") == model) & (pl.col("split") == split) & (pl.col("rows") > 0))
    at = rounds.select("method", pl.col("round").cast(rows.schema["round"]))
    return rows.join(at, on=["method", "round"], how="semi", maintain_order="left")


def summary(scores: pl.DataFrame, *, regression: bool) -> pl.DataFrame:
    """Mean and spread over clients, per method.

    scores: as from `client_scores`. Returns [method, clients, weighted, mean, std, worst, p10, median, p90]: `weighted` counts every row alike
    and `mean` every client alike; `std` is the sample standard deviation over clients (ddof 1; null for one client); `worst` is the mean of the worst tenth
    of clients, ceil(n / 10) of them; p10, median and p90 are percentiles over clients, interpolated linearly. All are null for a method with a score that
    is not finite: part of a sum would flatter it.
    """
    tenth = (pl.len() + 9) // 10
    by_client = pl.col("score")
    values = scores.group_by("method", maintain_order=True).agg(
        pl.len().alias("clients"),
        (pl.col("total").sum() / pl.col("rows").sum()).alias("weighted"),
        by_client.mean().alias("mean"),
        by_client.std(ddof=1).alias("std"),
        by_client.sort(descending=regression).head(tenth).mean().alias("worst"),
        by_client.quantile(0.1, "linear").alias("p10"),
        by_client.median().alias("median"),
        by_client.quantile(0.9, "linear").alias("p90"),
        by_client.is_finite().all().alias("finite"),
    )
    names = ("weighted", "mean", "std", "worst", "p10", "median", "p90")
    return values.with_columns(pl.when("finite").then(pl.col(name)).alias(name) for name in names).drop("finite")


def hurt(scores: pl.DataFrame, reference: str, *, regression: bool) -> pl.DataFrame:
    """Share of clients that are strictly worse off than with the method `reference`, each client compared with itself.

    Returns [method, hurt], hurt in 0..1; null for the reference itself and for methods with a score that is not finite, empty where the reference has
    no scores. A tie does not hurt.
    """
    own = scores.filter(pl.col("method") == reference).select("client", pl.col("score").alias("theirs"))
    both = scores.join(own, on="client", maintain_order="left")
    worse = pl.col("score") > pl.col("theirs") if regression else pl.col("score") < pl.col("theirs")
    finite = pl.col("score").is_finite().all() & pl.col("theirs").is_finite().all()
    shares = both.group_by("method", maintain_order=True).agg(worse.mean().alias("hurt"), finite.alias("finite"))
    told = pl.col("finite") & (pl.col("method") != reference)
    return shares.select("method", pl.when(told).then(pl.col("hurt")).alias("hurt"))


def forgotten(own: pl.DataFrame, common: pl.DataFrame, *, regression: bool) -> pl.DataFrame:
    """By how much personal models are worse on rows of all clients than the common model: [method, forgotten]; negative: better.

    own, common: scores of both on the split "mix", as from `client_scores`. Methods without a common model are left out.
    """
    own, common = (summary(scores, regression=regression).select("method", "weighted") for scores in (own, common))
    both = own.join(common, on="method", suffix="_common", maintain_order="left")
    worse = pl.col("weighted") - pl.col("weighted_common") if regression else pl.col("weighted_common") - pl.col("weighted")
    return both.select("method", worse.alias("forgotten"))


def by_label(clients: pl.DataFrame, rounds: pl.DataFrame) -> pl.DataFrame:
    """Measures that frequent labels do not carry, of personal models on test rows of seen clients at the round given for each method.

    Returns [method, balanced, auc], means over clients: `balanced` is the share of rows that are right, mean over the labels that a client has; `auc` the area
    under the ROC curve, of clients with rows of both labels. null where there is nothing to average, or a score is not finite.
    """
    finite = pl.col("loss").is_finite().all()
    means = _rows_at(clients, rounds, "personal", "test", seen=True).group_by("method", maintain_order=True)
    return means.agg(pl.when(finite).then(pl.col(name).fill_nan(None).mean()).alias(name) for name in ("balanced", "auc"))


def mean_loss(clients: pl.DataFrame, rounds: pl.DataFrame, *, model: str = "personal", split: str = "test") -> pl.DataFrame:
    """Sample-weighted mean loss of seen clients at the round given for each method: [method, loss], null where it is not finite."""
    scores = client_scores(clients, rounds, regression=True, model=model, split=split)
    return summary(scores, regression=True).select("method", pl.col("weighted").alias("loss"))
