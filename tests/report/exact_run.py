"""Writes run folders with exactly the numbers a test needs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from tests.report.make_run import CLIENT_TYPES, ROUND_TYPES, SPEC

ROWS = 10  # test rows, and validation rows, of every client


@dataclass(frozen=True)
class Given:
    """A method: for each round the number right of each client on test rows, and of all clients alike on validation rows."""

    test: dict[int, list[float]]
    validation: dict[int, float]
    baseline: bool = False
    unseen: list[float] = field(default_factory=list)  # the same of clients held out, at every round
    state: str = "done"
    why: str | None = None
    bytes: int = 100  # each way, per client and round
    joined: int | None = None  # clients that had trained; None: all
    loss: float | None = None  # of every client's rows; None: 10 less the number right


def flat(*right: float, validation: float | None = None, **more: Any) -> Given:
    """A method that has these numbers right after round 1, and nothing before."""
    mean = sum(right) / len(right) if validation is None else validation
    return Given({0: [0.0] * len(right), 1: list(right)}, {0: 0.0, 1: mean}, **more)


def base(*right: float, **more: Any) -> Given:
    return flat(*right, baseline=True, **more)


def exact_run(folder: Path, methods: dict[str, Given], *, regression: bool = False, names: list[str] | None = None, spec: str = SPEC) -> Path:
    """A run of these methods; of a regression, where "numbers right" are summed losses instead."""
    folder.mkdir(parents=True)
    rows, costs, status = [], [], {}
    seen = max(len(right) for given in methods.values() for right in given.test.values())
    unseen = max(len(given.unseen) for given in methods.values())
    for name, given in methods.items():
        for r, right in given.test.items():
            scored = [(i, True, "test", value) for i, value in enumerate(right)]
            scored += [(i, True, "validation", given.validation[r]) for i in range(len(right))]
            scored += [(seen + i, False, "test", value) for i, value in enumerate(given.unseen)]
            for client, inside, split, value in scored:
                joined = inside and (given.joined is None or client < given.joined)
                loss = value if regression else ROWS - value if given.loss is None else given.loss
                known = {"method": name, "round": r, "client": client, "seen": inside, "joined": joined, "split": split, "model": "personal", "rows": ROWS}
                rows.append({**known, "correct": float("nan") if regression else value, "loss": loss})
            if r:
                zeros = {key: 0 for key in ROUND_TYPES if key != "method"}
                spent = {"round": r, "cohort": seen, "answered": seen, "bytes_down": given.bytes * seen, "bytes_up": given.bytes * seen}
                costs.append({**zeros, "method": name, **spent, "seconds": 1.0})
        last = max(given.test)
        status[name] = {"state": given.state, "round": last, "rounds": last, "why": given.why, "family": "own", "paper": "", "baseline": given.baseline}
    pl.DataFrame(rows, schema=CLIENT_TYPES, orient="row").write_parquet(folder / "clients.parquet")
    pl.DataFrame(costs, schema=ROUND_TYPES, orient="row").write_parquet(folder / "rounds.parquet")
    (folder / "status.json").write_text(json.dumps(status))
    (folder / "environment.json").write_text(json.dumps({"atoll": "0.1.0", "started": "2026-01-02 03:04:05", "command": "atoll run"}))
    (folder / "spec.toml").write_text(spec)
    total = seen + unseen
    sheet = {
        "name": "made up",
        "history": ["made up"],
        "seen": seen,
        "unseen": unseen,
        "labels": [] if regression else ["no", "yes"],
        "sizes": {split: [ROWS] * total for split in ("train", "validation", "test")},
        "names": names or [f"site {i}" for i in range(total)],
        "label_table": [] if regression else [[5, 5]] * total,
        "majority_accuracy": None if regression else 0.5,
        "split_hash": "0" * 64,
        "groups": None,
    }
    (folder / "data.json").write_text(json.dumps(sheet))
    return folder
