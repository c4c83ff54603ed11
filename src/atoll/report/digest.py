"""A run boiled down once: the round that counts for each method, the scores of clients at it, and the comparison table made of them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import polars as pl

from atoll import metrics
from atoll.report.run import Run

SPREAD = ("mean", "std", "worst", "p10", "median", "p90")  # over clients


@dataclass(frozen=True, eq=False)
class Digest:
    """Everything tables, findings and plots are made from. Methods that diverged or have not run are in `table` only."""

    run: Run
    chosen: pl.DataFrame  # [method, round, validation, last]
    scores: pl.DataFrame  # personal models, test rows, seen clients, at the chosen round; as metrics.client_scores
    common: pl.DataFrame  # the same of global models
    unseen: pl.DataFrame  # personal models, test rows, clients held out
    clusters: pl.DataFrame  # all rounds, as metrics.memberships
    agreement: pl.DataFrame  # all rounds, as metrics.agreement with the known groups
    table: pl.DataFrame  # one row per method, in the order of status.json

    @property
    def regression(self) -> bool:
        return self.run.regression

    @property
    def unit(self) -> str:
        """What a score is called, and the stem of its columns: "accuracy" or "loss"."""
        return "loss" if self.regression else "accuracy"

    @property
    def methods(self) -> list[str]:
        """Labels of the methods that have scores, in the order of the table."""
        return self.table.filter(pl.col(self.unit).is_not_null())["method"].to_list()

    def leading(self, names: list[str], at_most: int = 10) -> list[str]:
        """Of these methods the ones that a crowded plot shows at first: all if they are few, else baselines and the best on validation rows."""
        if len(names) <= at_most:
            return names
        rows = self.table.filter(pl.col("method").is_in(names))
        ranked = rows.sort("baseline", f"validation_{self.unit}", descending=[True, not self.regression], nulls_last=True, maintain_order=True)
        first = set(ranked["method"][:at_most])
        return [name for name in names if name in first]

    def value(self, method: str | None, column: str) -> float | None:
        """One cell of the table; None where there is no such method, no such column, or nothing in the cell."""
        return self._cells.get(method or "", {}).get(column)

    @functools.cached_property
    def _cells(self) -> dict[str, dict[str, Any]]:
        """Method -> column -> value: the page of a study asks for some ten thousand."""
        return {row["method"]: row for row in self.table.iter_rows(named=True)}

    def best(self, *, baselines: bool = False) -> str | None:
        """The method (or, if asked, baseline) with the best validation score: chosen without a look at test rows. The first of equal ones."""
        rows = self.table.filter((pl.col("baseline") == baselines) & pl.col(self.unit).is_not_null()).drop_nulls(f"validation_{self.unit}")
        ranked = rows.sort(f"validation_{self.unit}", descending=not self.regression, maintain_order=True)
        return ranked["method"][0] if len(ranked) else None


def digest(run: Run) -> Digest:
    """Boils a run down."""
    regression = run.regression
    clients = run.clients.filter(~pl.col("method").is_in(run.diverged) & pl.col("method").is_in(list(run.status)))
    chosen = metrics.choose(clients, regression=regression, since=run.settled)
    scores = metrics.client_scores(clients, chosen, regression=regression)
    common = metrics.client_scores(clients, chosen, regression=regression, model="global")
    unseen = metrics.client_scores(clients, chosen, regression=regression, seen=False)
    clusters = metrics.memberships(clients)
    agreement = metrics.agreement(clusters, run.data.get("groups"))
    table = _table(run, clients, chosen, scores, common, unseen)
    table = table.join(agreement, on=["method", "round"], how="left", maintain_order="left")
    return Digest(run, chosen, scores, common, unseen, clusters, agreement, table)


def target(run: Run, chosen: pl.DataFrame) -> float | None:
    """The validation score that FedAvg reaches at its best: the mark by which it is told how soon others are as good. None where there is no FedAvg."""
    found = chosen.filter(pl.col("method") == pl.lit(run.reference("FedAvg"), pl.String))["validation"]
    return found[0] if len(found) else None


def _table(run: Run, clients: pl.DataFrame, chosen: pl.DataFrame, scores: pl.DataFrame, common: pl.DataFrame, unseen: pl.DataFrame) -> pl.DataFrame:
    unit = "loss" if run.regression else "accuracy"
    last = metrics.client_scores(clients, chosen.select("method", pl.col("last").alias("round")), regression=run.regression)
    first = metrics.client_scores(clients, chosen.select("method", pl.lit(0).alias("round")), regression=run.regression)
    before = metrics.client_scores(clients, chosen, regression=run.regression, model="before")
    mix = metrics.client_scores(clients, chosen, regression=run.regression, split="mix")
    common_mix = metrics.client_scores(clients, chosen, regression=run.regression, model="global", split="mix")
    table = _methods(run)
    parts = [
        chosen.select("method", "round", pl.col("validation").alias(f"validation_{unit}")),
        _quality(scores, unit, ""),
        _hurt(run, scores, "Local"),
        _hurt(run, scores, "FedAvg"),
        _quality(common, unit, "global_"),
        _quality(before, unit, "before_"),
        _quality(unseen, unit, "unseen_"),
        _quality(first, unit, "start_").select("method", f"start_{unit}"),
        _quality(last, unit, "last_").select("method", f"last_{unit}"),
        _quality(mix, unit, "mix_").select("method", f"mix_{unit}"),
        metrics.forgotten(mix, common_mix, regression=run.regression),
        scores.group_by("method").agg((~pl.col("joined")).sum().alias("never_trained")),
    ]
    if not run.regression:
        parts += [metrics.mean_loss(clients, chosen), metrics.by_label(clients, chosen)]
    if run.attackers:
        parts.append(_quality(scores.filter(~pl.col("client").is_in(run.attackers)), unit, "benign_"))
    if run.changes:
        parts.append(metrics.steadiness(clients, run.changes, regression=run.regression))
    reach = metrics.to_target(clients, run.rounds, target(run, chosen), regression=run.regression, seen=max(1, run.seen), since=run.settled)
    parts.append(reach.select("method", *(pl.col(name).alias(f"{name}_to_target") for name in ("rounds", "steps", "bytes", "flops", "sim_seconds"))))
    parts += [metrics.costs(run.rounds, chosen, clients=max(1, run.seen)), metrics.state_per_client(run.rounds, run.clients)]
    for part in parts:
        table = table.join(part, on="method", how="left", maintain_order="left")
    return table


def _methods(run: Run) -> pl.DataFrame:
    """Label, family, state and a note on every method of the run."""
    rows = [
        {
            "method": name,
            "family": str(entry.get("family", "")),
            "baseline": bool(entry["baseline"]),
            "state": str(entry["state"]),
            "note": _note(entry),
            "last_round": int(entry["round"]),
        }
        for name, entry in run.status.items()
    ]
    types = {"method": pl.String, "family": pl.String, "baseline": pl.Boolean, "state": pl.String, "note": pl.String, "last_round": pl.Int32}
    return pl.DataFrame(rows, schema=types, orient="row")


def _note(entry: dict[str, object]) -> str:
    state, at = entry["state"], entry["round"]
    if state == "diverged":
        return f"diverged at round {at}"
    if state == "running":
        return f"stopped at round {at} of {entry['rounds']}"
    if state == "refused":
        return "can't work here"
    return "not started" if state == "waiting" else ""


def _quality(scores: pl.DataFrame, unit: str, stem: str) -> pl.DataFrame:
    found = metrics.summary(scores, regression=unit == "loss")
    names = {"weighted": f"{stem}{unit}", "clients": f"{stem}clients"} | {name: f"{stem}{unit}_{name}" for name in SPREAD}
    return found.rename(names)


def _hurt(run: Run, scores: pl.DataFrame, title: str) -> pl.DataFrame:
    column = f"hurt_{title.lower()}"
    reference = run.reference(title)
    if reference is None or reference not in scores["method"]:
        return pl.DataFrame(schema={"method": pl.String, column: pl.Float64})
    return metrics.hurt(scores, reference, regression=run.regression).rename({"hurt": column})
