"""The command atoll verify."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Set = Annotated[list[str] | None, typer.Option("--set", help="lr, batch or epochs of both sides, as in lr=0.01; several allowed.")]
Json = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]


def carry_out(spec: Any, methods: list[str] | None, rounds: int, *, json: bool) -> None:
    """Checks identities with a progress bar, and prints the table, or all of it as JSON and nothing else. Exit code 1 where one fails."""
    from rich.console import Console

    from atoll.report.identities import print_identities
    from atoll.study.verify import asked_alike, verify
    from atoll.watch import Checking

    console = Console(stderr=json)
    asked = asked_alike(spec, methods)
    with Checking(console) as bar:
        found = verify(spec, asked, rounds, told=bar.told)
    if json:
        print(found.json())
    else:
        print_identities(found, console)
    if found.failed:
        raise typer.Exit(1)
