"""Live progress of a run in the terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars


class Progress:
    """A bar per method with the latest validation accuracy, and one for the whole run with the time left."""

    def __init__(self, console: Console, methods: int):
        self._bars = Bars(
            TextColumn("{task.description:<18}"), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[note]:<24}"), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), console=console, transient=not console.is_terminal,
        )  # fmt: skip
        self._methods = methods
        self._all = self._bars.add_task("all methods", total=None, note="")
        self._now = self._all
        self._before = 0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def begin(self, title: str, rounds: int, done: int) -> None:
        """A method starts, or goes on after `done` rounds."""
        self._bars.update(self._all, total=rounds * self._methods)
        self._bars.advance(self._all, done)
        self._before = done
        self._now = self._bars.add_task(title, total=rounds, completed=done, note="compiling")

    def progress(self, title: str, round: int, note: str) -> None:
        """A round is done."""
        if note:
            self._bars.update(self._now, note=note)
        self._bars.advance(self._all, round - self._before)
        self._before = round
        self._bars.update(self._now, completed=round)

    def end(self, title: str, state: str) -> None:
        """A method is done."""
        if state == "diverged":
            self._bars.update(self._now, note="[red]diverged")
