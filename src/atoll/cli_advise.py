"""The command atoll advise."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from atoll.core.errors import AtollError


def carry_out(
    spec: Any, *, private: float | None, minutes: float, splits: int | None, worth: float | None, rates: str | None, out: Path | None, json: bool
) -> None:
    """Runs the pilots of a specification with progress bars, and prints the answer, or all of it as JSON and nothing else."""
    from contextlib import ExitStack

    from rich.console import Console
    from rich.markup import escape

    from atoll.advice.advise import advise_on
    from atoll.advice.candidates import RATES
    from atoll.advice.text import print_advice
    from atoll.api import new_folder
    from atoll.study.run import Interrupted
    from atoll.watch import Progress

    console, folder = Console(stderr=json), new_folder(spec, out)
    with ExitStack() as bars:

        def watcher(methods: int) -> Progress:
            bars.close()
            return bars.enter_context(Progress(console, methods))

        asked: dict[str, Any] = {"private": private, "minutes": minutes, "splits": splits, "worth": worth, "out": folder, "watcher": watcher}
        try:
            made = advise_on(spec, rates=RATES if rates is None else _rates(rates), command=" ".join(["atoll", *sys.argv[1:]]), **asked)
        except Interrupted:
            bars.close()
            console.print(f"Stopped, and saved. The same command with [bold]--out {escape(str(folder))}[/bold] goes on.", highlight=False, soft_wrap=True)
            raise typer.Exit(130) from None
    if json:
        print(made.json())
    else:
        print_advice(made, console)


def _rates(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise AtollError(f"--rates {text!r} must be learning rates with commas between them, for instance --rates 0.03,0.1.") from None


Private = Annotated[float | None, typer.Option("--private", help="Measure how clients differ from noised counts alone, with this epsilon.")]
Minutes = Annotated[float, typer.Option("--minutes", help="No further split is begun when they would be over.")]
Splits = Annotated[int | None, typer.Option("--splits", help="Look at so many splits, whatever time it takes; default 2 to 5, as the minutes allow.")]
Worth = Annotated[float | None, typer.Option("--worth", help="The smallest gain that counts, as a share: 0.01 is a point of accuracy, or 1 % of the loss.")]
Rates = Annotated[str | None, typer.Option("--rates", help="Learning rates tried for every method; default 0.05,0.2.")]
Json = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]
