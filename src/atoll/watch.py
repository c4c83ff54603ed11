"""Live progress of a run, or of the runs of a study, in the terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars


class Live:
    """Bars that are shown as long as the context is open."""

    def __init__(self, bars: Bars):
        self._bars = bars

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()


def by_method(console: Console) -> Bars:
    """Bars for methods: how many rounds or trials of each are done, and a note."""
    return Bars(
        TextColumn("{task.description:<18}"), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[note]:<24}"), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), console=console, transient=not console.is_terminal,
    )  # fmt: skip


class Progress(Live):
    """A bar per method with the latest validation accuracy, and one for the whole run with the time left."""

    def __init__(self, console: Console, methods: int):
        super().__init__(by_method(console))
        self._methods = methods
        self._all = self._bars.add_task("all methods", total=None, note="")
        self._now = self._all
        self._before = 0

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


class Checking(Live):
    """A bar for identities that are checked, with the time left."""

    def __init__(self, console: Console):
        super().__init__(by_method(console))
        self._all = self._bars.add_task("identities", total=None, note="")

    def told(self, checked: int, of: int, title: str) -> None:
        """So many are checked, and the next is one of the method of this title."""
        self._bars.update(self._all, completed=checked, total=of, note=title)


class StudyProgress(Live):
    """A bar for the whole study with the time left, and one for each run that is under way."""

    def __init__(self, console: Console):
        bars = Bars(
            TextColumn("{task.description:<36}"), BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.fields[note]:<16}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=False), console=console, transient=not console.is_terminal,
            speed_estimate_period=3600,
        )  # fmt: skip
        super().__init__(bars)
        self._all = self._bars.add_task("all runs", total=None, note="")
        self._tasks: dict[str, TaskID] = {}
        self._rounds: dict[str, tuple[int, int]] = {}  # of a run: done, in all
        self._ended = 0

    def begin(self, runs: dict[str, tuple[int, int]]) -> None:
        """The study starts, or goes on. runs: rounds done and rounds in all of each, over its methods."""
        self._rounds = dict(runs)
        self._ended = sum(done >= of for done, of in runs.values())
        self._sum_up()

    def progress(self, run: str, method: str, done: int) -> None:
        """A round of a run is done; `done` are those of all its methods."""
        _, of = self._rounds[run]
        if run not in self._tasks:
            self._tasks[run] = self._bars.add_task(run[-36:], total=of, note=method)
        self._rounds[run] = done, of
        self._bars.update(self._tasks[run], completed=done, note=method[:16])
        self._sum_up()

    def end(self, run: str, state: str) -> None:
        """A run is done, failed or stopped."""
        if run in self._tasks:
            self._bars.remove_task(self._tasks.pop(run))
        _, of = self._rounds[run]
        if state != "stopped":
            self._rounds[run] = of, of
            self._ended += 1
        if state == "failed":
            self._bars.console.print(f"[red]{run} failed[/]")
        self._sum_up()

    def _sum_up(self) -> None:
        done, of = (sum(part) for part in zip(*self._rounds.values(), strict=True))
        self._bars.update(self._all, completed=done, total=of, note=f"{self._ended} of {len(self._rounds)}")


class TuningProgress(Live):
    """A bar per method with its best score so far."""

    def __init__(self, console: Console, trials: int):
        super().__init__(by_method(console))
        self._trials = trials
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, title: str, done: int, best: float | None) -> None:
        """A trial has ended."""
        if title not in self._tasks:
            self._tasks[title] = self._bars.add_task(title, total=self._trials, note="")
        self._bars.update(self._tasks[title], completed=done, note="" if best is None else f"best {best:.4g}")
