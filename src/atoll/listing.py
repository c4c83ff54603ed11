"""What there is: methods, models and sources of data, as tables."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from atoll.methods import TABLE, WRAPPERS, get, row
from atoll.parts.selection import TABLE as SELECTORS
from atoll.parts.selection import kind_of


def print_methods() -> None:
    """All methods: family, paper, what is kept where, traffic per round and client; and what can be put around them."""
    table = Table(title="Methods", caption="traffic per round and client, down / up; atoll methods NAME explains one")
    for column in ("name", "method", "family", "paper", "kept", "traffic"):
        table.add_column(column, overflow="fold")
    for entry in TABLE:
        table.add_row(f"[bold]{entry.name}[/bold]", *map(escape, (entry.title, entry.family, entry.paper, entry.kept, entry.traffic)))
    console = Console()
    console.print(table)
    for around in WRAPPERS:
        console.print(f"[bold]NAME+{around.name}[/bold]: {escape(around.about)}", highlight=False)
    console.print("\nWhom a round asks, for any method (--select NAME, with settings --select NAME:setting=value):")
    for one in SELECTORS:
        console.print(f"  [bold]{one.name}[/bold]: {escape(one.about)} ({escape(one.paper)})", highlight=False)


def print_method(name: str) -> None:
    """One method or selector: its docstring and its hyperparameters with defaults and ranges."""
    chosen = next((one for one in SELECTORS if one.name == name), None)
    if chosen is not None:
        cls, heading = kind_of(chosen), f"[bold]{chosen.name}[/bold]  (--select {chosen.name})"
    else:
        entry, cls = row(name), get(name)
        heading = f"[bold]{entry.title}[/bold]  ({entry.name}; {entry.family})"
    console = Console()
    console.print(heading + "\n")
    console.print(escape(_flowing(inspect.getdoc(cls) or "")), highlight=False)
    table = Table(title="Hyperparameters", title_justify="left")
    for column in ("name", "default", "range"):
        table.add_column(column)
    for f in dataclasses.fields(cls):
        table.add_row(f.name, repr(f.default), _range(f.metadata))
    if dataclasses.fields(cls):
        console.print()
        console.print(table)


SECTIONS = ("Kept:", "Traffic per round and client:", "Identity:", "Departures from the paper:")


def _flowing(text: str) -> str:
    """A docstring with the line breaks inside its paragraphs taken out, for the terminal to set; the sections it ends with stay apart."""
    lines: list[str] = []
    for line in text.splitlines():
        if lines and lines[-1] and line.strip() and not line.startswith(SECTIONS):
            lines[-1] += " " + line.strip()
        else:
            lines.append(line.strip())
    return "\n".join(lines)


def print_models() -> None:
    """All models and their options."""
    from atoll.models import TABLE as MODELS

    table = Table(title="Models")
    table.add_column("name")
    table.add_column("what it is", overflow="fold")
    for name, entry in MODELS.items():
        table.add_row(f"[bold]{name}[/bold]", escape(entry.about))
    Console().print(table)


def print_sources() -> None:
    """All sources of data, and all skews."""
    from atoll.data import SOURCES
    from atoll.data.skew import TABLE as SKEWS

    console = Console()
    wide = max(map(len, SOURCES))
    for kind in dict.fromkeys(source.kind for source in SOURCES.values()):
        console.print(f"\n[bold]{kind[0].upper()}{kind[1:]}[/bold]")
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=wide, no_wrap=True)
        table.add_column(overflow="fold")
        for source in SOURCES.values():
            if source.kind == kind:
                about = f"{escape(source.what)}\n[dim]from: {escape(source.where)}\nlicence: {escape(source.licence)}[/dim]"
                table.add_row(f"[bold]{source.name}[/bold]", about)
        console.print(table)
    console.print("\nHow clients differ (--skew, several compose):")
    for entry in SKEWS.values():
        console.print(f"  [bold]{escape(entry.example)}[/bold]: {escape(entry.about)}", highlight=False)


def _range(found: Mapping[str, Any]) -> str:
    if found.get("blocks"):
        return "number of blocks, or block names"
    if found.get("choices"):
        return " | ".join(map(str, found["choices"]))
    signs = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
    return ", ".join(f"{sign} {found[name]:g}" for name, sign in signs if found.get(name) is not None)
