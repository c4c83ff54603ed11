"""The comparison of runs and studies, in the terminal and as a page."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from atoll.report import repeats
from atoll.report.html import shell, write_page
from atoll.report.markup import Html, e
from atoll.report.sections import run_section, warning_box
from atoll.report.side_by_side import Column, differences, methods_of

MOST = 6  # runs that are shown in full below the table
SAYS = (
    "Test score of personal models, seen clients, every row alike: accuracy in per cent, or mean loss; where a column has several seeds, mean ± half of "
    "the 95 % interval (Student's, over seeds). Bold: the best mean validation score among the methods of its column."
)


def print_comparison(columns: list[Column], console: Console) -> None:
    """A row per method, a column per run or cell, in as many tables as the width takes; then what makes them hard to compare."""
    methods = methods_of(columns)
    at_once = max(1, (console.width - max(len(name) for name in methods)) // 17)
    for first in range(0, len(columns), at_once):
        part = columns[first : first + at_once]
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        table.add_column("method")
        for column in part:
            table.add_column(escape(column.title), justify="right", max_width=16, overflow="fold")
        best = [column.best() for column in part]
        for name in methods:
            texts = [column.show(name) for column in part]
            table.add_row(escape(name), *(f"[bold]{text}[/]" if name == top else text for text, top in zip(texts, best, strict=True)))
        console.print(table)
    for text in _over_seeds(columns):
        console.print(escape(text), highlight=False)
    for text in differences(columns):
        console.print(f"[bold yellow]! {escape(text)}[/]", highlight=False)
    console.print(f"[dim]{SAYS}[/]", highlight=False)


def write_comparison(columns: list[Column], out: Path) -> Path:
    """The same as one HTML file, with every run in full below it where they are few; returns its path."""
    digests = [d for column in columns for d in column.digests]
    title = f"{len(columns)} columns side by side"
    names = [column.title for column in columns for _ in column.digests]
    shown = list(enumerate(zip(digests, names, strict=True), 1)) if len(digests) <= MOST else []
    sections = [run_section(d, f"run{n}", name, 2) for n, (d, name) in shown]
    links = [("#scores", "Scores"), *((f"#run{n}", name) for n, (_, name) in shown)]
    return write_page(shell(title, links, [e("h1", title), _told(columns), warning_box(differences(columns), 2), _scores(columns), *sections]), out)


def _over_seeds(columns: list[Column]) -> list[str]:
    """What holds over seeds, where the columns are one run with several."""
    digests = [d for column in columns for d in column.digests]
    return repeats.summary(digests) if repeats.are_repeats(digests) else []


def _told(columns: list[Column]) -> Html | None:
    found = _over_seeds(columns)
    return e("ul", *(e("li", text) for text in found)) if found else None


def _scores(columns: list[Column]) -> Html:
    heads = e("tr", e("th", "method", scope="col"), *(e("th", column.title, scope="col") for column in columns))
    best = [column.best() for column in columns]
    rows = []
    for name in methods_of(columns):
        texts = [column.show(name) for column in columns]
        cells = [e("td", e("strong", text) if name == top else text) for text, top in zip(texts, best, strict=True)]
        rows.append(e("tr", e("th", name, scope="row"), *cells))
    frame = e("div", e("table", e("thead", heads), e("tbody", *rows)), class_="scroll", role="region", tabindex=0, aria_label="Scores of all columns")
    return e("section", e("h2", "Scores"), e("p", SAYS), frame, id="scores")
