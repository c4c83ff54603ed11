"""Writes study folders with exactly the numbers a test needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atoll.study.grid import make_study, study_toml
from atoll.study.schedule import run_folder
from atoll.study.spec import to_toml
from tests.report.exact_run import Given, exact_run


def exact_study(folder: Path, axis: str, cells: dict[Any, list[dict[str, Given]]], *, regression: bool = False) -> Path:
    """A study that varies one key: for each of its values, the methods of each seed. A seed without methods was not run."""
    seeds = len(next(iter(cells.values())))
    study = make_study({"base": {"rounds": 1, "methods": ["fedper"]}, "grid": {axis: list(cells), "seeds": list(range(seeds))}}, "made up")
    folder.mkdir(parents=True)
    (folder / "study.toml").write_text(study_toml(study))
    given = [methods for runs in cells.values() for methods in runs]
    for run, methods in zip(study.runs(), given, strict=True):
        if methods:
            exact_run(run_folder(folder, run), methods, spec=to_toml(run.spec), regression=regression)
    return folder
