"""The columns of the comparison, described once for the terminal, the page and LaTeX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from atoll.report import words
from atoll.report.digest import Digest


@dataclass(frozen=True)
class Column:
    """One column: where its values are, what it is called, how they read, and which of them is best."""

    key: str  # in the comparison frame
    title: str  # short; "\n" where the terminal breaks the line
    full: str  # what it means, in a sentence without its full stop
    show: Callable[[float | None], str]
    best: Literal["high", "low"] | None = None
    cost: bool = False  # compared among methods that communicate: whoever sends nothing always pays least
    rank: int = 9  # the terminal drops columns of the highest rank first; 9: on the page only
    group: Literal["quality", "cost"] = "quality"


def columns(d: Digest) -> list[Column]:
    """The columns that have anything to show in this run."""
    return [c for c in every_column(regression=d.regression) if c.key in d.table.columns and d.table[c.key].is_not_null().any()]


def every_column(*, regression: bool) -> list[Column]:
    """All columns that there are."""
    return [*_quality(regression), *_costs()]


def best_rows(d: Digest, column: Column) -> set[int]:
    """Row numbers of the best value of a column, as shown: values that read the same are equally good.

    Costs: the lowest above zero. Where all are equal none is best.
    """
    if column.best is None:
        return set()
    values = d.table[column.key]
    eligible = values.is_not_null() & d.table[d.unit].is_not_null()
    if column.cost:
        eligible &= (d.table["bytes_round"].fill_null(0) > 0) & (values > 0).fill_null(False)
    rows = [i for i, yes in enumerate(eligible) if yes]
    if not rows or (column.cost and len(rows) < 2):
        return set()
    top = (max if column.best == "high" else min)(values[i] for i in rows)
    winners = {i for i in rows if column.show(values[i]) == column.show(top)}
    return set() if len(winners) == len(rows) > 1 else winners


def _quality(regression: bool) -> list[Column]:
    u = "loss" if regression else "accuracy"
    show = words.loss if regression else words.percent
    sign = "" if regression else "%"
    good: Literal["high", "low"] = "low" if regression else "high"
    name = "mean loss" if regression else "accuracy"
    more = [
        Column("balanced", "balanced\n%", "Share of test rows right, mean over the labels that a client has, then over clients", show, good, rank=6),
        Column("auc", "AUC", "Area under the ROC curve, of several labels the mean, each against the others; mean over clients", words.index, good, rank=3),
        Column("loss", "mean loss", "Mean loss of personal models over test rows", words.loss, "low"),
    ]
    return [
        Column("round", "round", "The round that counts: best validation score, ties to the earliest; 0 is before training", words.count, rank=3),
        Column(
            u,
            f"{u}\n{sign}",
            f"Test {name} of personal models, seen clients, every row counting alike",
            show,
            good,
            rank=0,
        ),
        Column(f"{u}_mean", f"client\nmean {sign}", f"The same {name}, every client counting alike", show, good, rank=1),
        Column(f"{u}_std", "std over\nclients", "Standard deviation over clients (ddof 1)", show, "low", rank=5),
        Column(f"{u}_worst", "worst\n10 %", "Mean over the worst tenth of clients, at least one", show, good, rank=2),
        Column(f"{u}_p10", "10th\npercentile", "Score of the client that a tenth of clients are below", show, good),
        Column(f"{u}_median", "median", "Score of the median client", show, good),
        Column(f"{u}_p90", "90th\npercentile", "Score of the client that a tenth of clients are above", show, good),
        Column(f"benign_{u}", f"benign\n{sign}", f"Test {name} of personal models of clients that do not attack, every row counting alike", show, good, rank=1),
        Column(f"benign_{u}_mean", f"benign\nmean {sign}", f"The same {name}, every client counting alike", show, good, rank=4),
        Column(f"benign_{u}_worst", "benign worst 10 %", "Mean over the worst tenth of the clients that do not attack", show, good),
        Column("hurt_local", "hurt vs\nLocal %", "Share of clients strictly worse off than with Local", words.percent, "low", rank=1),
        Column("hurt_fedavg", "hurt vs\nFedAvg %", "Share of clients strictly worse off than with FedAvg", words.percent, "low", rank=4),
        Column(f"unseen_{u}", f"unseen\n{sign}", f"Test {name} of personal models of clients held out of training", show, good, rank=2),
        Column(f"unseen_{u}_mean", f"unseen mean {sign}", f"Test {name} of held-out clients, every client counting alike", show, good),
        Column(f"global_{u}", f"global\n{sign}", f"Test {name} of the common model, seen clients, every row counting alike", show, good, rank=4),
        Column(f"global_{u}_mean", f"global\nmean {sign}", f"Test {name} of the common model, every client counting alike", show, good, rank=6),
        Column(f"global_{u}_std", "global std", "Standard deviation over clients of the common model's score (ddof 1)", show, "low"),
        Column(f"global_{u}_worst", "global worst 10 %", "The common model on its worst tenth of clients", show, good),
        Column(f"before_{u}", f"before\nFT {sign}", f"Test {name} of personal models before fine-tuning, unless they are the common one", show, good, rank=4),
        Column(f"mix_{u}", f"all clients'\nrows {sign}", f"Test {name} of personal models on rows of all clients", show, good, rank=4),
        Column("forgotten", f"forgotten\n{sign}", f"By how much this {name} is worse than the common model's on the same rows", show, "low", rank=5),
        Column(f"last_{u}", f"last\nround {sign}", f"Test {name} after the last round, whatever the validation rows say", show, good, rank=5),
        Column(f"start_{u}", f"before training {sign}", f"Test {name} of personal models before the first round: what adapting alone gives", show),
        *([] if regression else more),
        Column("mean_over_time", f"over\ntime {sign}", f"Test {name} of personal models, mean over rounds scored, on the rows of the time", show, good, rank=1),
        Column("lost", "lost at\nchange", f"By how much this {name} is worse after a change of the data than before; mean over changes", show, "low", rank=4),
        Column("recovery", "rounds to\nrecover", "Rounds until it is as good again; mean over the changes after which it is", words.rounds, "low", rank=5),
        Column("clusters", "clusters", "Clusters of clients that the method found, at the round that counts", words.count),
        Column("adjusted_rand", "groups\nfound", "Adjusted Rand index of these and known groups: 1 = the groups, 0 = by chance", words.index, "high", rank=5),
        Column(f"validation_{u}", f"validation {sign}", f"Validation {name} at the round that counts", show, good),
    ]


def _costs() -> list[Column]:
    size, work, time = words.size, words.work, words.seconds
    made = [
        Column("bytes_round", "traffic\nper round", "Bytes down and up per round of a client that takes part", size, "low", cost=True, rank=3),
        Column("numbers_round", "numbers per round", "The same in numbers of four bytes, as parameters are", words.count, "low", cost=True),
        Column("down_round", "down per round", "Bytes down per round of a client that takes part", size, "low", cost=True),
        Column("up_round", "up per round", "Bytes up per round of a client that takes part", size, "low", cost=True),
        Column("bytes_client", "traffic\nin all", "Bytes down and up over all rounds, per seen client, asked or not", size, "low", cost=True, rank=4),
        Column("bytes_chosen", "traffic to round", "The same up to the round that counts", size, "low", cost=True),
        Column("rounds_to_target", "rounds to FedAvg's best", "Rounds until the validation score is as good as FedAvg's best", words.count, "low"),
        Column("steps_to_target", "steps to FedAvg's best", "Steps of local training per seen client until then", words.rounds, "low", cost=True),
        Column("bytes_to_target", "traffic to FedAvg's best", "Bytes down and up per seen client until then", size, "low", cost=True),
        Column("flops_to_target", "FLOPs to FedAvg's best", "Floating-point operations per seen client until then", work, "low", cost=True),
        Column("sim_seconds_to_target", "time to FedAvg's best", "Simulated time until then", time, "low", cost=True),
        Column("flops_client", "FLOPs\n/client", "Floating-point operations over all rounds, per seen client", work, "low", cost=True, rank=6),
        Column("sim_seconds", "simulated\ntime", "Time that the rounds would take on the clients' devices", time, "low", cost=True, rank=3),
        Column("seconds", "training\ntime", "Wall time of the simulation over all rounds, compiling included, scoring not", time, "low", cost=True, rank=6),
        Column("cpu_seconds", "CPU\ntime", "Processor time of the simulation over all rounds", time, "low", cost=True, rank=8),
        Column("peak_memory", "peak memory", "Largest memory of the simulating process while the method ran, with what earlier methods left in it", size),
        Column("state_client", "state\n/client", "Bytes that a client keeps from round to round", size, rank=7),
    ]
    return [replace(c, group="cost") for c in made]


def methods_first_row(d: Digest) -> int:
    """The number of rows of the first group, the baselines."""
    return int(d.table["baseline"].sum())


def cell(d: Digest, column: Column, row: int) -> float | None:
    """A value of the table as a number, or None."""
    value = d.table[column.key][row]
    return None if value is None else float(value)


def finished(d: Digest) -> pl.DataFrame:
    """The rows of methods that have scores."""
    return d.table.filter(pl.col(d.unit).is_not_null())
