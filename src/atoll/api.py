"""The same as the command line, from Python."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from atoll.core.errors import AtollError
from atoll.core.model import Model
from atoll.data.federation import Federation
from atoll.study.run import Plan, Watcher, changed, execute, make_plan, open_plan, path_of
from atoll.study.schedule import StudyWatcher
from atoll.study.spec import Spec, make_spec
from atoll.study.verified import Verification
from atoll.study.verify import asked_alike
from atoll.study.verify import verify as check


class Result:
    """A finished run. `folder` holds everything; the tables are read from there."""

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def clients(self) -> pl.DataFrame:
        """One row per (method, round, client, split, model)."""
        return pl.read_parquet(self.folder / "clients.parquet")

    @property
    def rounds(self) -> pl.DataFrame:
        """One row per (method, round) with what it cost."""
        return pl.read_parquet(self.folder / "rounds.parquet")

    @property
    def table(self) -> pl.DataFrame:
        """The comparison, one row per method."""
        from atoll.report.table import comparison

        return comparison(self.folder)

    def show(self) -> None:
        """Prints the comparison."""
        from rich.console import Console

        from atoll.report.table import print_table

        print_table(self.folder, Console())

    def report(self, out: str | Path | None = None) -> Path:
        """Writes the report as one HTML file (default: report.html in the run's folder) and returns its path."""
        from atoll.report.html import write_report

        return write_report([self.folder], None if out is None else Path(out))


def run(
    data: str | Federation = "digits",
    methods: Sequence[Any] = (),
    *,
    model: str | Model | Sequence[str | Model] = (),
    skew: str | Sequence[str] = (),
    clients: int | None = None,
    rounds: int = 50,
    per_round: int | None = None,
    seed: int = 0,
    baselines: bool = True,
    out: str | Path | None = None,
    watcher: Watcher | None = None,
    **settings: Any,
) -> Result:
    """Compares methods on a federation and returns the result.

    data: a source's name (see atoll.data.load) or a Federation. methods: names ("fedprox") or instances (FedProx(mu=0.1)), not mixed; with none,
    a choice of families. model: a name ("mlp:64"), a Model, or several for clients of different architectures. settings: any other key of the
    specification (eval_every, dropout, engine, ...). out: the run's folder (default: runs/<time>-<data>). AtollError for anything that can't be.
    """
    models = (model,) if isinstance(model, str | Model) else tuple(model)
    named = [m for m in methods if isinstance(m, str)]
    if named and len(named) != len(methods):
        raise AtollError("Give methods as names or as instances, not both in one run.")
    content = {
        **_named(data, models, skew, clients, settings),
        "methods": named or [{"name": path_of(m), "settings": changed(m)} for m in methods],
        "rounds": rounds,
        "per_round": per_round,
        "seed": seed,
        "baselines": baselines,
    }
    federation = data if isinstance(data, Federation) else None
    plan = make_plan(make_spec(content), federation, None if named or not methods else list(methods), _given(models))
    return Result(execute(plan, new_folder(plan.spec, out), watcher, command="atoll.run(...)"))


def _named(data: Any, models: tuple[str | Model, ...], skew: str | Sequence[str], clients: int | None, settings: dict[str, Any]) -> dict[str, Any]:
    """Data and models as a specification can hold them, with the settings beside them."""
    source = "(given)" if isinstance(data, Federation) else data
    names = [m if isinstance(m, str) else f"(given) {m.name}" for m in models]
    return {**settings, "data": {"source": source, "skew": skew, "clients": clients}, "model": names}


def _given(models: tuple[str | Model, ...]) -> tuple[Model, ...] | None:
    """The models that were given as such; None where all were named."""
    return tuple(m for m in models if isinstance(m, Model)) or None


def verify(
    data: str | Federation = "digits",
    methods: Sequence[Any] = (),
    *,
    model: str | Model | None = None,
    skew: str | Sequence[str] = (),
    clients: int | None = None,
    rounds: int = 2,
    seed: int = 0,
    watcher: Callable[[int, int, str], None] | None = None,
    **settings: Any,
) -> Verification:
    """Checks exact identities of methods ("FedProx with mu=0 is FedAvg") on a federation: both sides are trained with the same seed for so many rounds, all
    clients asked in each, and every client's scores are compared after every round.

    data, model, skew, clients: as in `run`. methods: names ("fedprox", "scaffold+ft"); with none, all of which an identity is known. settings: other keys of
    the specification; `settings={"lr": 0.01}` sets the rate, batch or epochs of both sides. watcher(checked, of, method) is told how it goes. The result has
    `checked` (one entry per identity: its state, the largest difference, why it can't be checked), `failed`, `table`, `show()` and `json()`. An identity that
    fails or can't be checked is a result; AtollError for what can't be at all.
    """
    models = () if model is None else (model,)
    spec = make_spec({**_named(data, models, skew, clients, settings), "seed": seed})
    federation = data if isinstance(data, Federation) else None
    return check(spec, asked_alike(spec, list(methods) or None), rounds, federation=federation, models=_given(models), told=watcher)


class StudyResult:
    """A study as far as it is finished. `folder` holds everything; tables are read from there."""

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def table(self) -> pl.DataFrame:
        """One row per cell, seed and method: what is varied, then all columns of the comparison."""
        from atoll.report.study_export import table_of_all
        from atoll.report.study_results import open_results

        return table_of_all(open_results(self.folder))

    def show(self) -> None:
        """Prints scores by method and cell, what they say, and warnings."""
        from rich.console import Console

        from atoll.report.study_results import open_results
        from atoll.report.study_table import print_study

        print_study(open_results(self.folder), Console())

    def report(self, out: str | Path | None = None) -> Path:
        """Writes the report as one HTML file (default: report.html in the study's folder), beside it CSV, JSON and LaTeX; returns its path."""
        from atoll.report.study_page import write_study_report
        from atoll.report.study_results import open_results

        return write_study_report(open_results(self.folder), None if out is None else Path(out))


def run_study(
    what: str | Path | dict[str, Any], *, processes: int = 1, out: str | Path | None = None, watcher: StudyWatcher | None = None
) -> StudyResult:
    """Carries out a study, or goes on with one, and returns what came of it.

    what: a TOML file, the name of a ready-made study, the folder of a study, or what such a file says as nested values ({"base": ..., "grid": ...}). processes:
    runs at a time, each in a process of its own; so a method of your own must be importable ("module:Class"). out: its folder (default: studies/<name>).
    AtollError for anything that can't be, and, after all other runs, for runs that failed: what is finished stays, and the same call tries these again.
    """
    from atoll.study.find import find
    from atoll.study.grid import make_study
    from atoll.study.schedule import carry_out

    target = None if out is None else Path(out)
    if isinstance(what, dict):
        made = make_study(what, "study")
        folder = target or Path("studies") / made.name
    else:
        made, folder = find(what, target)
    outcomes = carry_out(made, folder, processes, watcher, command="atoll.run_study(...)")
    failed = [f"{one.run.cell.title}, seed {one.run.seed}: {one.why}" for one in outcomes if one.state == "failed"]
    if failed:
        raise AtollError(f"{len(failed)} of {len(outcomes)} runs of {folder} failed; the others are there. First: {failed[0]}")
    if any(one.state != "done" for one in outcomes):
        raise KeyboardInterrupt
    return StudyResult(folder)


def resume(folder: str | Path, data: Federation | None = None, watcher: Watcher | None = None) -> Result:
    """Continues a run that was stopped; `data` where it was started with a Federation of your own."""
    plan: Plan = open_plan(Path(folder), data)
    return Result(execute(plan, Path(folder), watcher))


def new_folder(spec: Spec, out: str | Path | None) -> Path:
    """Where a new run goes. AtollError where a run is there already."""
    if out is not None:
        folder = Path(out)
        if (folder / "spec.toml").exists():
            raise AtollError(f"{folder} holds a run already. Continue it with `atoll resume {folder}`, or choose another folder.")
        return folder
    name = "".join(c if c.isalnum() else "-" for c in spec.data.source.strip("()"))[-40:]
    base = Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    folder, n = base, 1
    while folder.exists():
        n += 1
        folder = base.with_name(f"{base.name}-{n}")
    return folder
