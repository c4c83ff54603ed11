"""What tuning took and found, for the terminal and the page: nobody should have to guess how much each method was helped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from atoll.report import words
from atoll.report.markup import Html, e

HEADS = ("method", "trials", "failed", "best", "median", "best - median", "FLOPs /client", "chosen")


def read_tuning(folder: Path) -> dict[str, Any] | None:
    """What `tuning.json` in a folder says; None where there is none."""
    path = folder / "tuning.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def print_tuning(found: dict[str, Any], console: Console) -> None:
    """The disclosure table."""
    table = Table(title="Tuning", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for head in HEADS:
        table.add_column(head, justify="left" if head in ("method", "chosen") else "right", overflow="fold")
    for row in rows(found):
        table.add_row(*(escape(text) for text in row))
    console.print(table)
    console.print(f"[dim]{says(found)}[/]", highlight=False)


def tuning_table(found: dict[str, Any]) -> Html:
    """The same on the page."""
    heads = e("tr", *(e("th", head, scope="col") for head in HEADS))
    body = [e("tr", e("th", first, scope="row"), *(e("td", text) for text in rest)) for first, *rest in rows(found)]
    frame = e("div", e("table", e("thead", heads), e("tbody", *body), class_="tuning"), class_="scroll", role="region", tabindex=0, aria_label="Tuning")
    return e("div", e("p", says(found)), frame)


def rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """The table as texts."""
    show = words.loss if found["unit"] == "loss" else words.percent
    made = []
    for one in found["methods"]:
        if not one["space"]:
            made.append((one["method"], "0", words.DASH, words.DASH, words.DASH, words.DASH, words.DASH, "nothing to tune"))
            continue
        gap = None if one["best"] is None else abs(one["best"] - one["median"])
        chosen = ", ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in one["values"].items())
        counts = str(one["trials"]), str(one["failed"])
        made.append((one["method"], *counts, show(one["best"]), show(one["median"]), show(gap), words.work(one["flops"]), chosen or "none: all failed"))
    return made


def says(found: dict[str, Any]) -> str:
    """How to read the table, and whether budgets were equal."""
    what = "mean loss" if found["unit"] == "loss" else "accuracy in per cent"
    trials = {one["trials"] for one in found["methods"] if one["space"]}
    equal = f"Every method that has anything to tune had {words.number(max(trials, default=0), 'trial')}."
    told = equal if len(trials) <= 1 else "Trials were not equal in number."
    return f"{told} Scores: validation {what}, on data without test rows. Failed: diverged, or values that do not go together. FLOPs: of all trials."
