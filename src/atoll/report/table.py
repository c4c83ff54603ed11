"""The comparison of a run: as a frame, and for the terminal."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from atoll.report.columns import Column, best_rows, cell, columns, methods_first_row
from atoll.report.digest import Digest, digest
from atoll.report.findings import footnotes, verdict, warnings
from atoll.report.run import Run, open_run


def comparison(run_folder: Path) -> pl.DataFrame:
    """One row per method, in the order of status.json with baselines first.

    Shares are in 0..1, sizes in bytes, times in seconds; what can't be known is null, and a method that diverged has no score at all. `round` is the
    round that counts, chosen on validation rows. Columns beginning with global_, before_, unseen_, start_ and last_ are of the common model, of personal
    models before fine-tuning, of held-out clients, before training and after the last round. For regression, columns are called loss in place of accuracy.
    Costs: see atoll.metrics.costs.
    """
    return digest(open_run(Path(run_folder))).table


def print_table(run: Path | Run, console: Console) -> None:
    """Prints the comparison, then warnings and footnotes. On a narrow console costs get a table of their own; what still does not fit is in the report."""
    d = digest(run if isinstance(run, Run) else open_run(run))
    shown = [c for c in columns(d) if c.rank < 9]
    parts = [shown]
    if _width(_rich(d, shown), console) > console.width:
        parts = [[c for c in shown if c.group == "quality"], [c for c in shown if c.group == "cost"]]
    for n, part in enumerate(parts):
        if n:
            console.print()
        console.print(_fitted(d, part, console, title=escape(d.run.name) if n == 0 else None))
    console.print(f"{escape(verdict(d).line)}", highlight=False)
    for text in warnings(d):
        console.print(f"[bold yellow]! {escape(text)}[/]", highlight=False)
    for text in footnotes(d):
        console.print(f"[dim]{escape(text)}[/]", highlight=False)


def _fitted(d: Digest, shown: list[Column], console: Console, title: str | None) -> Table:
    """The table with as many columns as fit the console, those of the lowest rank first."""
    shown = list(shown)
    while _width(table := _rich(d, shown, title), console) > console.width and len(shown) > 1:
        shown.remove(max(reversed(shown), key=lambda c: c.rank))
    return table


def _rich(d: Digest, shown: list[Column], title: str | None = None) -> Table:
    """The table as rich draws it: one blank between columns, so that much fits."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    table.add_column("method\n", no_wrap=False, max_width=26, overflow="fold")
    for column in shown:
        table.add_column(column.title, justify="right", no_wrap=True)
    best = {c.key: best_rows(d, c) for c in shown}
    for row, (name, note) in enumerate(d.table.select("method", "note").iter_rows()):
        values = [_cell(column.show(cell(d, column, row)), row in best[column.key]) for column in shown]
        title = escape(name) + (f"\n[yellow]{escape(note)}[/]" if note else "")
        table.add_row(title, *values, end_section=row + 1 == methods_first_row(d))
    return table


def _width(table: Table, console: Console) -> int:
    """Characters the table would take if the console had room for anything."""
    return Measurement.get(console, console.options.update(max_width=10_000), table).maximum


def _cell(text: str, best: bool) -> str:
    return f"[bold]{text}[/]" if best else text
