"""The outcome of a study in the terminal: methods by cells."""

from __future__ import annotations

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from atoll.metrics import repeated
from atoll.report import words
from atoll.report.study_findings import verdict, warnings
from atoll.report.study_results import CellResult, StudyResults


def print_study(results: StudyResults, console: Console) -> None:
    """Mean test scores over seeds with half the width of their 95 % interval, a column per cell; as many tables as the console's width takes.

    Then what they say, and warnings.
    """
    methods, wide = results.methods, max(len(name) for name in results.methods)
    at_once = max(1, (console.width - wide) // 17)
    baselines = len(results.baselines)
    for first in range(0, len(results.cells), at_once):
        part, chosen = results.cells[first : first + at_once], results.picked[first : first + at_once]
        table = Table(title=escape(results.study.name) if not first else None, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        table.add_column("method")
        for cell in part:
            table.add_column(escape(cell.cell.title), justify="right", max_width=16, overflow="fold")
        for row, method in enumerate(methods):
            texts = [score(results, cell, method) for cell in part]
            cells = [f"[bold]{text}[/]" if method == best else text for text, best in zip(texts, chosen, strict=True)]
            table.add_row(escape(method), *cells, end_section=row + 1 == baselines)
        console.print(table)
    console.print(f"[dim]{says(results)}[/]", highlight=False)
    for text in verdict(results):
        console.print(escape(text), highlight=False)
    for text in warnings(results):
        console.print(f"[bold yellow]! {escape(text)}[/]", highlight=False)


def says(results: StudyResults) -> str:
    """How to read a table of methods by cells."""
    what = "mean loss" if results.regression else "accuracy in per cent"
    seeds = len(results.study.seeds)
    spread = f" Mean over {seeds} seeds ± half of the 95 % interval (Student's, over seeds)." if seeds > 1 else " One seed: nothing is known of others."
    return f"Test {what} of personal models, seen clients, every row alike.{spread} Bold: the best mean validation score of a cell, baselines aside."


def score(results: StudyResults, cell: CellResult, method: str) -> str:
    """Mean and interval of a method in a cell."""
    values = cell.scores(method)
    show = words.loss if results.regression else words.percent
    bad = int(np.isnan(values).sum())
    if bad:
        if any(method in d.run.refused for d in cell.digests.values()):
            return "left out"
        there = method in {name for d in cell.digests.values() for name in d.table["method"]}
        return f"diverged {bad}/{len(values)}" if there else words.DASH
    if len(values) == 1:
        return show(float(values[0]))
    d = repeated(values.tolist(), [0.0] * len(values), regression=False)
    return f"{show(d.mean)} ± {show(d.high - d.mean)}"
