"""Prints what noised counts say of how clients differ, and what was spent for it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from atoll.study.private import Private


def print_private(found: Private, console: Console) -> None:
    """The estimates beside those with access to rows, the noise, and how epsilon was spent."""
    console.print("[bold]how clients differ, from noised counts alone[/bold] (train rows of seen clients)")
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for column in ("private", "by chance", "from rows", "error", "what"):
        table.add_column(column, justify="left" if column == "what" else "right", no_wrap=True)
    for one in found.estimates:
        table.add_row(f"{one.value:.3f}", f"{one.noise:.3f}", f"{one.exact:.3f}", f"{one.error:+.3f}", one.name)
    console.print(table)
    spent = ", ".join(f"{epsilon:.3g} for {name} (noise of scale {scale:.3g} rows)" for name, epsilon, scale in _spent(found))
    console.print(
        f"Epsilon {found.budget.total:.3g} per row in all, added up over {spent}. Protected is whether any one row is there; asking again spends again. "
        f"Clients replied {found.bytes_up:,} bytes together, nothing but these counts.",
        highlight=False,
    )
    console.print("By chance: the mean estimate where clients differ by chance alone, the noise included. From rows: of the same values.", highlight=False)


def _spent(found: Private) -> list[tuple[str, float, float]]:
    return [(name, epsilon, scale) for name, epsilon, scale in zip(found.budget._fields, found.budget, found.scales, strict=True) if epsilon > 0]
