"""The commands for several runs: atoll study, atoll compare, atoll tune."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from atoll.core.errors import AtollError

Processes = Annotated[int, typer.Option("--processes", min=1, help="Runs at a time, each in a process of its own.")]


def study(
    what: Annotated[str | None, typer.Argument(help="A TOML file, the name of a ready-made study (--list), or the folder of a study to continue.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the ready-made studies.")] = False,
    processes: Processes = 1,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the study; default studies/<name>.")] = None,
) -> None:
    """Run methods over a grid of data and seeds, and say what holds over all of them.

    Ctrl-C saves all runs and stops; the same command, or atoll study FOLDER, goes on.
    """
    from rich.console import Console
    from rich.markup import escape

    from atoll.report import words
    from atoll.study.find import find
    from atoll.study.grid import tuning_beside
    from atoll.study.schedule import carry_out
    from atoll.watch import StudyProgress

    console = Console()
    if list_:
        _print_ready(console)
        return
    if what is None:
        raise AtollError("Which study? Give a TOML file, a ready-made study (`atoll study --list`) or the folder of a study.")
    made, folder = find(what, out)
    runs, seeds = len(made.runs()), len(made.seeds)
    counts = ", ".join([words.number(runs // seeds, "cell"), words.number(seeds, "seed"), words.number(runs, "run")])
    console.print(f"[bold]{escape(made.name)}[/bold]: {counts}, folder {folder}", soft_wrap=True)
    with StudyProgress(console) as progress:
        outcomes = carry_out(made, folder, processes, progress, command=" ".join(["atoll", *sys.argv[1:]]))
    told = tuning_beside(Path(what)) if Path(what).is_file() else None
    if told is not None:
        (folder / "tuning.json").write_bytes(told.read_bytes())
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    stopped = any(outcome.state in ("stopped", "waiting", "running") for outcome in outcomes)
    if any(outcome.state == "done" for outcome in outcomes):
        show(folder, console)
    for outcome in failed:
        console.print(f"[bold yellow]! {outcome.run.cell.title}, seed {outcome.run.seed} failed: {outcome.why}[/]", highlight=False, soft_wrap=True)
    if stopped:
        console.print(f"Stopped, and saved. Continue with: [bold]atoll study {folder}[/bold]")
        raise typer.Exit(130)
    if failed:
        raise typer.Exit(1)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs and studies.")],
    out: Annotated[Path | None, typer.Option("--out", help="Also write an HTML file.")] = None,
) -> None:
    """Print the same methods of several runs or studies side by side, and say where splits, seeds, settings or budgets differ."""
    from rich.console import Console

    from atoll.report.compare import print_comparison, write_comparison
    from atoll.report.side_by_side import side_by_side

    columns, console = side_by_side(runs), Console()
    print_comparison(columns, console)
    if out is not None:
        console.print(f"Comparison: {write_comparison(columns, out)}", soft_wrap=True)


def tune(
    spec: Annotated[Path | None, typer.Argument(help="A TOML specification of a run; options win over it.")] = None,
    method: Annotated[list[str] | None, typer.Option("--method", "-m", help="A method (atoll methods); several allowed.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="A source (atoll data list).")] = None,
    skew: Annotated[list[str] | None, typer.Option("--skew", help="How clients differ (atoll data list); several compose.")] = None,
    rounds: Annotated[int | None, typer.Option("--rounds", help="Rounds of every trial.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the runs and of the search.")] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Trials for each method.")] = 20,
    out: Annotated[Path, typer.Option("--out", help="Folder; what is there already is continued.")] = Path("tuned"),
) -> None:
    """Look for good hyperparameters: as many trials for each method, judged by validation rows alone.

    Writes tuned.toml, which `atoll run` takes, and a study by from = "tuned/tuned.toml"; what was tried goes into its report.
    """
    from rich.console import Console

    from atoll.report.tuning import print_tuning, read_tuning
    from atoll.study.run import Interrupted
    from atoll.study.spec import read_spec
    from atoll.study.tune import tune as carry_out
    from atoll.watch import TuningProgress

    changes: dict[str, Any] = {key: value for key, value in (("rounds", rounds), ("seed", seed)) if value is not None}
    given = {key: value for key, value in (("source", data), ("skew", skew)) if value}
    changes |= {"data": given} if given else {}
    changes |= {"methods": [{"name": name} for name in method]} if method else {}
    console = Console()
    try:
        with TuningProgress(console, trials) as progress:
            carry_out(read_spec(spec, changes), out, trials, progress)
    except Interrupted:
        console.print(f"Stopped, and saved up to the last whole trial. The same command, with --out {out}, goes on.")
        raise typer.Exit(130) from None
    found = read_tuning(out)
    if found is not None:
        print_tuning(found, console)
    console.print(f"Written: {out / 'tuned.toml'}; run it with: [bold]atoll run {out / 'tuned.toml'}[/bold]", soft_wrap=True)


def _print_ready(console: Any) -> None:
    from rich.table import Table

    from atoll.study.ready import READY, ready

    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for name in READY:
        made = ready(name)
        table.add_row(f"[bold]{name}[/]", f"{made.about} [dim]{len(made.runs())} runs.[/]")
    console.print(table)


def show(folder: Path, console: Any, out: Path | None = None) -> None:
    """Prints the outcome of a study and writes its report."""
    from atoll.report.study_page import write_study_report
    from atoll.report.study_results import open_results
    from atoll.report.study_table import print_study

    results = open_results(folder)
    print_study(results, console)
    console.print(f"Report: {write_study_report(results, out)}", soft_wrap=True)
