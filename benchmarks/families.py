"""Every family of methods on the heterogeneity it was made for, beside Local, FedAvg and FedAvg+FT, over several seeds.

    .venv/bin/python benchmarks/families.py                      # all families, 3 seeds; prints the tables
    .venv/bin/python benchmarks/families.py --only meta --seeds 5
    .venv/bin/python benchmarks/families.py --write              # puts the tables into benchmarks/families.md

Nothing is tuned: within a family all methods share rate, batch and rounds, and their other settings are their defaults, unless the table says so.
Scores are test accuracies of the clients' own models, every row alike, at the round with the best validation accuracy. Intervals are 95 %, Student's, over
seeds.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from atoll.api import Result
from atoll.metrics.repeats import repeated
from atoll.report.table import comparison
from atoll.study.run import execute, make_plan
from atoll.study.spec import make_spec

OUT = Path(__file__).with_name("families.md")


@dataclass(frozen=True)
class Family:
    """One table. methods: names, or (name, settings); variants: title -> changes of the run that FedAvg is then run with."""

    name: str
    about: str
    data: dict[str, Any]
    methods: tuple[Any, ...] = ()
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=lambda: {"lr": 0.1, "batch": 10})
    how: dict[str, Any] = field(default_factory=lambda: {"rounds": 40, "eval_every": 4})
    baselines: bool = True  # False: those that work are among the methods
    before: bool = False  # also the score before fine-tuning
    clusters: bool = False  # also the adjusted Rand index of clusters and known groups


DIRICHLET = {"source": "digits", "skew": ["dirichlet:0.1"], "clients": 20}
TWO = {"source": "digits", "skew": ["classes:2"], "clients": 20}

CLUSTERING = ("ifca", "cfl", "fl-hc", "cbfl", "fedgroup", "fesem", "hypcluster", "fedavg+clustered")

FAMILIES = (
    Family(
        "augmentation",
        "Data augmentation, on digits with two labels per client.",
        TWO | {"public": 0.05},
        ("data-sharing", "faug", "astraea", "fedhome"),
        {f"FedAvg, {kind} rows": {"data": {"resample": kind}} for kind in ("smote", "adasyn", "tomek")},
    ),
    Family(
        "regularized",
        "Regularized local losses, on digits with skewed labels and five local epochs, in which clients drift.",
        DIRICHLET | {"public": 0.05},
        ("fedprox", "scaffold", "fedcl", "moon"),
        settings={"lr": 0.1, "batch": 10, "epochs": 5},
        how={"rounds": 30, "eval_every": 3},
    ),
    Family(
        "meta",
        "Meta-learning, on digits with skewed labels and few rows per client.",
        DIRICHLET,
        ("per-fedavg", "pfedme", "reptile", "aruba", ("aruba", {"zeta": 0.01})),
    ),
    Family(
        "transfer",
        "Transfer learning, on digits whose images each client sees turned by an angle of its own group; the first of three dense layers is frozen.",
        {"source": "digits", "skew": ["iid", "rotate:4"], "clients": 20},
        ("fedhealth", ("fedhealth", {"eta": 100.0})),
        how={"rounds": 40, "eval_every": 4, "model": ["mlp:100,50"]},
    ),
    Family(
        "transfer-persons",
        "Transfer learning, on spoken vowels: every client is a speaker; the first of three dense layers is frozen.",
        {"source": "vowel"},
        ("fedhealth", ("fedhealth", {"eta": 100.0})),
        how={"rounds": 60, "eval_every": 5, "model": ["mlp:64,32"]},
    ),
    Family(
        "steganalysis",
        "Transfer learning on its own kind of task: telling patches of photos with hidden bits from covers; photos and embedding rates differ by client.",
        {"source": "steganalysis", "clients": 6},
        ("fedsteg",),
        how={"rounds": 20, "eval_every": 2, "model": ["steganalyser:4"]},
    ),
    Family(
        "adaptation",
        "Federated training and local adaptation, on digits with skewed labels: before and after fine-tuning.",
        DIRICHLET | {"public": 0.05},
        ("fedprox+ft", "scaffold+ft", "moon+ft", "fedcl+ft", "reptile+ft"),
        before=True,
    ),
    Family(
        "decoupling",
        "Parameter decoupling, on digits with skewed labels: each client has a part of the model for itself.",
        DIRICHLET,
        ("fedper", "lg-fedavg", "fedrep", "fedbabu", "fedrod", "fedpac"),
    ),
    Family(
        "decoupling-features",
        "Norms of their own, on digits with images turned by an angle of each client's group, and a net with BatchNorm.",
        {"source": "digits", "skew": ["iid", "rotate:4"], "clients": 20},
        ("fedbn", "fedper"),
        how={"rounds": 30, "eval_every": 3, "model": ["mlp:64,norm=batch"]},
    ),
    Family(
        "distillation",
        "Knowledge distillation among three architectures, on digits with skewed labels: clients have a dense net, LeNet or the CNN of McMahan et al. in turn.",
        DIRICHLET | {"public": 0.1, "limit": 900},
        ("majority", "local", ("fedmd", {"lr": 0.001}), "fd", "feddf", "d-distillation"),
        baselines=False,
        how={"rounds": 12, "eval_every": 3, "model": ["mlp:64", "lenet", "cnn"]},
    ),
    Family(
        "distillation-common",
        "Knowledge distillation with one architecture, on digits with skewed labels; the server teaches a common model, or half of the model is the server's.",
        DIRICHLET | {"public": 0.1},
        ("feddf", "fedgen", ("fedgkt", {"lr": 0.01})),
        how={"rounds": 20, "eval_every": 4, "model": ["mlp:64,32"]},
    ),
    Family(
        "multi-task",
        "Multi-task learning, on spoken vowels: every client is a speaker.",
        {"source": "vowel"},
        ("fedamp", "heurfedamp", "fedcurv", "fedfomo", "pfedgraph", "pfedhn", "ditto"),
        how={"rounds": 60, "eval_every": 5, "model": ["mlp:64"]},
    ),
    Family(
        "multi-task-linear",
        "Multi-task learning with linear models, on spoken vowels: every client is a speaker.",
        {"source": "vowel"},
        ("mocha", "fedamp", "ditto", "pfedgraph"),
        how={"rounds": 60, "eval_every": 5, "model": ["softmax"]},
    ),
    Family(
        "clustering-labels",
        "Clustering, on digits whose clients are in four groups that name the labels differently.",
        {"source": "digits", "skew": ["iid", "swap:4"], "clients": 20},
        CLUSTERING,
        clusters=True,
    ),
    Family(
        "clustering-rotation",
        "Clustering, on digits whose clients are in four groups that see images turned by another angle.",
        {"source": "digits", "skew": ["iid", "rotate:4"], "clients": 20},
        CLUSTERING,
        clusters=True,
    ),
)

# interpolation: from clients that are alike to clients with one label each

RANGE = ("iid", "dirichlet:1", "dirichlet:0.3", "dirichlet:0.1", "classes:2", "classes:1")
INTERPOLATION = Family(
    "interpolation",
    "Model interpolation over the whole range, on digits from clients that are alike to clients with one label each: mean accuracy, %.",
    {"source": "digits", "clients": 20, "public": 0.05},
    ("apfl", "l2gd", "l2sgd", "mapper", "dapper", "fedala", "knn-per", "heterofl"),
    how={"rounds": 30, "eval_every": 3},
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=[f.name for f in FAMILIES] + ["interpolation", "selection"], default=None)
    parser.add_argument("--write", action="store_true", help=f"put the tables into {OUT.name}")
    asked = parser.parse_args()
    for family in FAMILIES:
        if asked.only is None or family.name in asked.only:
            publish(family.name, family.about, table(family, asked.seeds), asked)
    if asked.only is None or "interpolation" in asked.only:
        publish(INTERPOLATION.name, INTERPOLATION.about, over_the_range(INTERPOLATION, asked.seeds), asked)
    if asked.only is None or "selection" in asked.only:
        publish("selection", selection_about(), selection(asked.seeds), asked)


def publish(name: str, about: str, rows: str, asked: argparse.Namespace) -> None:
    command = f"python benchmarks/families.py --only {name} --seeds {asked.seeds}"
    section = f"## {name}\n{about}\n`{command}`\n\n{rows}\n"
    print(section, flush=True)
    if asked.write:
        old = OUT.read_text() if OUT.exists() else "# Families of methods on the heterogeneity they were made for\n"
        parts = [part.rstrip() + "\n" for part in re.split(r"(?m)^(?=## )", old)]
        at = next((n for n, part in enumerate(parts) if part.startswith(f"## {name}\n")), len(parts))
        OUT.write_text("\n".join([*parts[:at], section.rstrip() + "\n", *parts[at + 1 :]]))


def table(family: Family, seeds: int) -> str:
    """A row per method: its score, and how much better it is than Local and than FedAvg+FT, seed by seed."""
    scores: dict[str, list[float]] = {}
    before: dict[str, list[float]] = {}
    agreed: dict[str, list[float]] = {}
    costs: dict[str, float] = {}
    for seed in range(seeds):
        for found in runs(family, seed):
            for row in found.to_dicts():
                scores.setdefault(row["method"], []).append(row["accuracy"] if row["accuracy"] is not None else np.nan)
                if row.get("before_accuracy") is not None or row.get("global_accuracy") is not None:
                    before.setdefault(row["method"], []).append(row.get("before_accuracy") or row["global_accuracy"])
                if row.get("adjusted_rand") is not None:
                    agreed.setdefault(row["method"], []).append(row["adjusted_rand"])
                costs[row["method"]] = row["mb"]
    more = [*(["before, %"] if family.before else []), *(["groups found"] if family.clusters else [])]
    titles = ["method", "accuracy, %", *more, "gain on FedAvg", "gain on Local", "gain on FedAvg+FT", "MB per round"]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for name in scores:
        cells = [name, percent(scores[name])]
        if family.before:
            cells.append(f"{100 * np.mean(before[name]):.1f}" if name in before else "")
        if family.clusters:
            cells.append(", ".join(f"{index:.2f}" for index in agreed.get(name, [])))
        cells += ["" if name == other or other not in scores else gain(scores[name], scores[other]) for other in ("FedAvg", "Local", "FedAvg+FT")]
        lines.append("| " + " | ".join([*cells, f"{costs[name]:.2f}"]) + " |")
    return "\n".join(lines) + "\n\n" + verdict(scores)


def over_the_range(family: Family, seeds: int) -> str:
    """A row per method, a column per skew; bold where a method beats Local, FedAvg and FedAvg+FT beyond what seeds explain, and who of these is best."""
    scores: dict[str, dict[str, list[float]]] = {}
    for skew in RANGE:
        for seed in range(seeds):
            for found in runs(replace(family, data=family.data | {"skew": [skew]}), seed):
                for row in found.to_dicts():
                    value = row["accuracy"] if row["accuracy"] is not None else np.nan
                    scores.setdefault(row["method"], {}).setdefault(skew, []).append(value)
    rivals = ("Local", "FedAvg", "FedAvg+FT")
    lines = ["| method | " + " | ".join(RANGE) + " |", "|" + "---|" * (1 + len(RANGE))]
    for name, by_skew in scores.items():
        cells = []
        for skew in RANGE:
            values = by_skew[skew]
            others = [scores[rival][skew] for rival in rivals]
            known = name not in (*rivals, "Majority") and np.isfinite([values, *others]).all()
            better = known and all(repeated(values, other, regression=False).low > 0 for other in others)
            cells.append(f"**{percent(values)}**" if better else percent(values))
        lines.append("| " + " | ".join([name, *cells]) + " |")
    best = [max(rivals[:2], key=lambda rival: float(np.mean(scores[rival][skew]))) for skew in RANGE]
    lines.append("| of Local and FedAvg the better | " + " | ".join(best) + " |")
    return "\n".join(lines)


def runs(family: Family, seed: int) -> list[pl.DataFrame]:
    """The comparisons of one seed."""
    with tempfile.TemporaryDirectory() as folder:
        asked: list[Any] = [{"name": m} if isinstance(m, str) else {"name": m[0], "settings": m[1]} for m in family.methods]
        found = [compared(folder + "/all", family, seed, asked, {}, family.baselines)]
        for title, change in family.variants.items():
            one = compared(f"{folder}/{title}", family, seed, [{"name": "fedavg"}], change, False)
            found.append(one.with_columns(pl.lit(title).alias("method")))
        return found


def compared(folder: str, family: Family, seed: int, methods: list[Any], change: dict[str, Any], baselines: bool) -> pl.DataFrame:
    content = {"data": family.data | change.get("data", {}), "methods": methods, "settings": family.settings, "seed": seed, "baselines": baselines}
    made = execute(make_plan(make_spec(content | family.how)), Path(folder))
    found = comparison(made)
    rounds = pl.read_parquet(made / "rounds.parquet")
    mb = rounds.group_by("method").agg(((pl.col("bytes_up") + pl.col("bytes_down")).sum() / 1e6 / pl.col("round").max().clip(1)).alias("mb"))
    return found.join(mb, on="method", how="left", maintain_order="left")


def percent(values: list[float]) -> str:
    if not np.isfinite(values).all():
        return f"diverged in {int((~np.isfinite(values)).sum())} of {len(values)}"
    reach = repeated(values, [0.0] * len(values), regression=False)
    return f"{100 * reach.mean:.1f} ± {100 * (reach.high - reach.mean):.1f}"


def gain(first: list[float], second: list[float]) -> str:
    if not np.isfinite([*first, *second]).all():
        return ""
    d = repeated(first, second, regression=False)
    text = f"{100 * d.mean:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
    return f"**{text}**" if d.low > 0 else text


def verdict(scores: dict[str, list[float]]) -> str:
    """In words: who beats both Local and FedAvg+FT beyond what seeds explain, and who does not."""
    helped, not_helped = [], []
    for name, values in scores.items():
        if name in ("Majority", "Local", "FedAvg", "FedAvg+FT") or not np.isfinite(values).all():
            continue
        better = all(repeated(values, scores[other], regression=False).low > 0 for other in ("Local", "FedAvg+FT") if other in scores)
        (helped if better else not_helped).append(name)
    lines = []
    both = "FedAvg+FT" in scores  # not among several architectures
    if helped:
        lines.append(f"Better than {'both Local and FedAvg+FT' if both else 'Local'}, with intervals above 0: {', '.join(helped)}.")
    if not_helped:
        lines.append(f"Not shown to be better{' than both' if both else ''}: {', '.join(not_helped)}.")
    return " ".join(lines)


# selectors: rounds and simulated time to a target

TARGET, ROUNDS = 0.8, 60
SELECTORS = {
    "uniform": "uniform",
    "TiFL": "tifl",
    "TiFL, fast tier only": "tifl:policy=fast",
    "FedSAE": "fedsae",
    "CUCB": "cucb",
    "FAVOR": "favor:target=0.8",
}
SELECTED = {"source": "digits", "skew": ["dirichlet:0.3"], "clients": 30, "public": 0.05}
DEADLINE = 4.0


def selection_about() -> str:
    return (
        "Selectors around FedAvg (5 epochs), on digits with skewed labels (dirichlet:0.3), 30 clients of which 5 are asked. Devices compute 2 to 40 MFLOP/s\n"
        f"in five groups, so that training takes some of the slowest longer than the deadline of {DEADLINE:g} s, at which FedAvg loses whom it waits for.\n"
        f"The target is {100 * TARGET:.0f} % of validation rows right with the common model, in at most {ROUNDS} rounds. Means over seeds that reach it."
    )


def selection(seeds: int) -> str:
    lines = ["| selector | rounds to target | simulated s to target | reached | MB to target | accuracy at the end, % |", "|---|---|---|---|---|---|"]
    for title, text in SELECTORS.items():
        found = [one_selection(text, seed) for seed in range(seeds)]
        hit = [f for f in found if f[0] is not None]
        means = [f"{np.mean([f[i] for f in hit]):.{digits}f}" if hit else "never" for i, digits in ((0, 0), (1, 1), (2, 1))]
        lines.append(f"| {title} | {means[0]} | {means[1]} | {len(hit)} of {seeds} | {means[2]} | {percent([f[3] for f in found])} |")
    return "\n".join(lines) + "\n"


def one_selection(text: str, seed: int) -> tuple[float | None, float, float, float]:
    """(rounds, seconds, MB) until the target, and the last test accuracy."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "devices.csv"
        speeds = np.repeat([0.04, 0.02, 0.01, 0.005, 0.002], 6)
        order = np.random.default_rng(seed).permutation(30)
        trace.write_text("client,gflops,down_mbit,up_mbit,latency\n" + "".join(f"client {i},{speeds[order[i]]},20,5,0.05\n" for i in range(30)))
        more: dict[str, Any] = {"per_round": 5, "select": text, "devices": str(trace), "deadline": DEADLINE, "eval_every": 1}
        content = {"data": SELECTED, "methods": [{"name": "fedavg"}], "settings": {"lr": 0.1, "batch": 10, "epochs": 5}, "rounds": ROUNDS, "seed": seed}
        done = Result(execute(make_plan(make_spec(content | {"baselines": False} | more)), Path(folder) / "run"))
        rows = done.clients.filter((pl.col("model") == "personal") & pl.col("seen"))
        by_round = rows.group_by("round", "split").agg((pl.col("correct").sum() / pl.col("rows").sum()).alias("accuracy")).sort("round")
        at = by_round.filter((pl.col("split") == "validation") & (pl.col("accuracy") >= TARGET))["round"]
        last = float(by_round.filter(pl.col("split") == "test")["accuracy"][-1])
        if at.is_empty():
            return None, np.nan, np.nan, last
        spent = done.rounds.filter(pl.col("round") <= at[0])
        return float(at[0]), float(spent["sim_seconds"].sum()), float((spent["bytes_up"] + spent["bytes_down"]).sum() / 1e6), last


if __name__ == "__main__":
    main()
