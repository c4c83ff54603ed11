"""Writes small run folders with made-up numbers, in the form every run leaves."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

CLIENT_TYPES = {
    "method": pl.String, "round": pl.Int32, "client": pl.Int32, "seen": pl.Boolean, "joined": pl.Boolean, "split": pl.String, "model": pl.String,
    "rows": pl.Int32, "correct": pl.Float64, "loss": pl.Float64, "cluster": pl.Int32,
}  # fmt: skip
ROUND_TYPES = {
    "method": pl.String, "round": pl.Int32, "cohort": pl.Int32, "answered": pl.Int32, "bytes_down": pl.Int64, "bytes_up": pl.Int64, "flops": pl.Float64,
    "steps": pl.Int64, "seconds": pl.Float64, "cpu_seconds": pl.Float64, "eval_seconds": pl.Float64, "sim_seconds": pl.Float64,
    "private_bytes": pl.Int64, "peak_memory": pl.Int64,
}  # fmt: skip
SPEC = 'model = ["mlp:64"]\nrounds = 10\nseed = 0\n\n[data]\nsource = "digits"\nskew = ["dirichlet:0.3"]\n\n[[methods]]\nname = "scaffold"\nsettings = {}\n'
LABELS = ("zero", "one", "two", "three")


@dataclass(frozen=True)
class Sort:
    """A made-up method: how good it gets, how fast, and what it costs."""

    label: str
    start: float
    end: float  # expected accuracy after many rounds
    pace: float = 0.4
    common: float | None = None  # the same of its common model
    sent: int = 0  # bytes each way per client and round
    state: int = 0  # bytes per client
    baseline: bool = False
    family: str = "own"


SORTS = (
    Sort("Majority", 0.45, 0.45, baseline=True, family="baseline"),
    Sort("Local", 0.25, 0.78, state=20_000, baseline=True, family="baseline"),
    Sort("FedAvg", 0.25, 0.72, common=0.72, sent=20_000, baseline=True, family="baseline"),
    Sort("FedAvg+FT", 0.4, 0.82, common=0.72, sent=20_000, baseline=True, family="baseline"),
    Sort("SCAFFOLD", 0.25, 0.74, common=0.74, sent=40_000, state=20_000, family="regularized loss"),
    Sort("FedPer", 0.3, 0.87, sent=16_000, state=4_000, family="parameter decoupling"),
    Sort("APFL", 0.3, 0.84, common=0.7, sent=20_000, state=40_000, family="model interpolation"),
    Sort("Blowup", 0.25, 0.6, sent=20_000, family="own"),
)


def make_run(
    folder: Path,
    *,
    clients: int = 12,
    unseen: int = 0,
    rounds: int = 10,
    regression: bool = False,
    diverging: str | None = "Blowup",
    sorts: tuple[Sort, ...] = SORTS,
    seed: int = 0,
    names: list[str] | None = None,
    late: int = 0,
) -> Path:
    """A run of `sorts` on `clients` clients, the last `unseen` of them held out, `late` of the others never trained.

    `diverging` stops after half the rounds.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    sizes = {"train": rng.integers(20, 200, clients), "validation": rng.integers(8, 30, clients), "test": rng.integers(10, 40, clients)}
    charm = rng.normal(0, 0.08, clients)
    rows: list[dict[str, Any]] = []
    costs: list[dict[str, Any]] = []
    for sort in sorts:
        stop = rounds // 2 if sort.label == diverging else rounds
        for r in range(stop + 1):
            bad = sort.label == diverging and r == stop
            rows += _scores(rng, sort, r, clients - unseen, sizes, charm, regression, bad, late)
            if r:
                costs.append(_cost(sort, r, clients - unseen, clients - unseen - late))
    pl.DataFrame(rows, schema=CLIENT_TYPES, orient="row").write_parquet(folder / "clients.parquet")
    pl.DataFrame(costs, schema=ROUND_TYPES, orient="row").write_parquet(folder / "rounds.parquet")
    (folder / "data.json").write_text(json.dumps(_sheet(rng, sizes, clients, unseen, regression, names)))
    (folder / "status.json").write_text(json.dumps(_status(sorts, rounds, diverging)))
    environment = {"atoll": "0.1.0", "python": "3.11.7", "jax": "0.10.2", "platform": "Linux", "cpus": 2, "models": ["mlp:64"], "parameters": [4810]}
    environment |= {"started": "2026-01-02 03:04:05", "command": "atoll run"}
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "spec.toml").write_text(SPEC.replace("seed = 0", f"seed = {seed}"))
    return folder


def _scores(
    rng: np.random.Generator, sort: Sort, r: int, seen: int, sizes: dict[str, np.ndarray], charm: np.ndarray, regression: bool, bad: bool, late: int
) -> list[dict[str, Any]]:
    made = []
    for model, end in (("personal", sort.end), ("global", sort.common)):
        if end is None:
            continue
        for i in range(len(charm)):
            p = float(np.clip(end + (sort.start - end) * np.exp(-sort.pace * r) + charm[i] + rng.normal(0, 0.02), 0.02, 0.98))
            for split in ("validation", "test"):
                n = int(sizes[split][i])
                correct = float(rng.binomial(n, p))
                loss = n * (1.2 - p) * (1 + rng.normal(0, 0.02))
                joined = i < seen - late and (r > 0 or not sort.state)
                known = {"method": sort.label, "round": r, "client": i, "seen": i < seen, "joined": joined, "split": split, "model": model}
                made.append({**known, "rows": n, "correct": np.nan if regression or bad else correct, "loss": np.nan if bad else loss})
    if sort.common == sort.end:  # the personal model is the common one
        personal = [row for row in made if row["model"] == "personal"]
        return personal + [{**row, "model": "global"} for row in personal]
    return made


def _cost(sort: Sort, r: int, seen: int, joined: int) -> dict[str, Any]:
    answered = seen - r % 2
    known: dict[str, Any] = {"method": sort.label, "round": r, "cohort": seen, "answered": answered}
    known |= {"bytes_down": sort.sent * answered, "bytes_up": sort.sent * answered, "flops": 2.5e7 * answered, "steps": 10 * answered}
    known["sim_seconds"] = 0.0
    return {**known, "seconds": 0.125, "cpu_seconds": 0.25, "eval_seconds": 0.5, "private_bytes": sort.state * joined, "peak_memory": 300_000_000}


def _status(sorts: tuple[Sort, ...], rounds: int, diverging: str | None) -> dict[str, Any]:
    status = {}
    for sort in sorts:
        bad = sort.label == diverging
        why = "the loss stopped being a finite number" if bad else None
        known = {"state": "diverged" if bad else "done", "round": rounds // 2 if bad else rounds, "rounds": rounds, "why": why}
        status[sort.label] = {**known, "family": sort.family, "paper": "A. Author, 2020", "baseline": sort.baseline}
    return status


def _sheet(rng: np.random.Generator, sizes: dict[str, np.ndarray], clients: int, unseen: int, regression: bool, names: list[str] | None) -> dict[str, Any]:
    shares = rng.dirichlet(np.full(len(LABELS), 0.4), clients)
    return {
        "name": "prices by town" if regression else "digits by writing form",
        "history": ["source: made up for a test", "skew: dirichlet 0.3", "split: 60 / 20 / 20 %"],
        "clients": clients,
        "seen": clients - unseen,
        "unseen": unseen,
        "labels": [] if regression else list(LABELS),
        "sizes": {split: n.tolist() for split, n in sizes.items()},
        "names": names or [f"form {i + 1}" for i in range(clients)],
        "label_table": [] if regression else [rng.multinomial(n, p).tolist() for n, p in zip(sizes["train"], shares, strict=True)],
        "majority_accuracy": float("nan") if regression else 0.452,
        "split_hash": hashlib.sha256(sizes["train"].tobytes()).hexdigest(),
        "groups": None,
    }
