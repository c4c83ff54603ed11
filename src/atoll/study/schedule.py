"""Carrying out a study: a folder that survives interruption, and processes that work through its runs."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from atoll.core.cores import cores
from atoll.core.errors import AtollError
from atoll.study.checkpoint import replace
from atoll.study.grid import Study, StudyRun, read_study, same_work, study_toml
from atoll.study.run import check_spec
from atoll.study.worker import ENDED, rounds_of_finished


class StudyWatcher(Protocol):
    """Is told how a study goes."""

    def begin(self, runs: dict[str, tuple[int, int]]) -> None: ...
    def progress(self, run: str, method: str, done: int) -> None: ...
    def end(self, run: str, state: str) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """What became of a run: state done, failed, stopped or waiting."""

    run: StudyRun
    state: str
    why: str | None = None


def open_study(folder: Path) -> Study:
    """The study in a folder. AtollError where there is none."""
    if not (folder / "study.toml").exists():
        raise AtollError(f"{folder} is no study: it has no study.toml. Give the folder that `atoll study` named.")
    return read_study(folder / "study.toml")


def run_folder(folder: Path, run: StudyRun) -> Path:
    """Where a run of the study in `folder` is kept."""
    return folder / "runs" / run.name


def is_done(folder: Path) -> bool:
    """True where all methods of a run were trained to their end, but those that can't work there."""
    if not (folder / "status.json").exists() or not (folder / "clients.parquet").exists():
        return False
    status = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    return all(entry["state"] in ENDED for entry in status.values())


def carry_out(study: Study, folder: Path, processes: int = 1, watcher: StudyWatcher | None = None, command: str = "") -> list[Outcome]:
    """Runs what is not done yet of a study in `folder`, in so many processes; returns what became of every run.

    A study that is there already is continued, and may have been widened (more seeds, more cells): AtollError where it asks for something else, or where
    another process works on it. Ctrl-C saves all runs and stops; a second one stops at once.
    """
    runs = study.runs()
    for run in runs:
        check_spec(run.spec)
    if (folder / "study.toml").exists():
        _check_continues(study, open_study(folder), folder)
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    with _alone(folder) as lock:
        replace(folder / "study.toml", study_toml(study).encode())
        index = _Index(folder, runs)
        if watcher:
            watcher.begin({run.name: (rounds_of_finished(run_folder(folder, run)), run.spec.rounds * len(run.spec.all_methods())) for run in runs})
        waiting = [run for run in runs if index.state(run) != "done"]
        threads = max(1, cores() // processes) if processes > 1 else None
        team = _Team(folder, waiting, threads, command, lock)
        team.work(min(processes, len(waiting)), index, watcher)
        return [Outcome(run, index.state(run), index.why(run)) for run in runs]


def _check_continues(study: Study, there: Study, folder: Path) -> None:
    now = {run.name: run.spec for run in study.runs()}
    for run in there.runs():
        if run.name not in now or not same_work(run.spec, now[run.name]):
            raise AtollError(f"{folder} holds another study: its run {run.name} is not one of this. Choose another folder with --out, or another name.")


class _Index:
    """index.json: what is known of every run. The folders of runs have the last word on which are done."""

    def __init__(self, folder: Path, runs: list[StudyRun]):
        self._path = folder / "index.json"
        before = json.loads(self._path.read_text(encoding="utf-8"))["runs"] if self._path.exists() else {}
        self._runs: dict[str, dict[str, Any]] = {}
        for run in runs:
            state = "done" if is_done(run_folder(folder, run)) else "waiting"
            seconds = before.get(run.name, {}).get("seconds", 0.0)
            self._runs[run.name] = {"cell": run.cell.values, "seed": run.seed, "state": state, "why": None, "seconds": seconds}
        self._write()

    def state(self, run: StudyRun) -> str:
        return self._runs[run.name]["state"]

    def why(self, run: StudyRun) -> str | None:
        return self._runs[run.name]["why"]

    def note(self, run: StudyRun, state: str, why: str | None = None, seconds: float = 0.0) -> None:
        entry = self._runs[run.name]
        entry.update(state=state, why=why, seconds=round(entry["seconds"] + seconds, 1))
        self._write()

    def _write(self) -> None:
        replace(self._path, json.dumps({"runs": self._runs}, indent=1).encode())


class _Team:
    """Processes that take runs from one list. Each has a thread here that gives it runs and hears what it says."""

    def __init__(self, folder: Path, waiting: list[StudyRun], threads: int | None, command: str, lock: int | None):
        self._folder, self._threads, self._command, self._lock = folder, threads, command, lock
        self._waiting = deque(waiting)
        self._events: queue.Queue[tuple[StudyRun, dict[str, Any]] | None] = queue.Queue()
        self._processes: set[subprocess.Popen[str]] = set()
        self._guard = threading.Lock()  # of _processes and _stopping
        self._stopping = False

    def work(self, processes: int, index: _Index, watcher: StudyWatcher | None) -> None:
        """Until no run waits, or Ctrl-C."""
        crew = [threading.Thread(target=self._one, daemon=True) for _ in range(processes)]
        for thread in crew:
            thread.start()
        working = len(crew)
        while working:
            try:
                event = self._events.get()
                if event is None:
                    working -= 1
                    continue
                run, told = event
                if told["event"] == "start":
                    index.note(run, "running")
                elif told["event"] == "end":
                    index.note(run, told["state"], told.get("why"), told.get("seconds", 0.0))
                    if watcher:
                        watcher.end(run.name, told["state"])
                elif watcher:
                    watcher.progress(run.name, told["method"], told["done"])
            except KeyboardInterrupt:
                self._stop()

    def _stop(self) -> None:
        with self._guard:
            at_once, self._stopping = self._stopping, True
            self._waiting.clear()
            for process in self._processes:
                if at_once:
                    process.kill()
                elif process.stdin:
                    process.stdin.close()  # which tells it to save and stop

    def _one(self) -> None:
        process: subprocess.Popen[str] | None = None
        try:
            while run := self._next():
                process = process if process and process.poll() is None else self._start()
                self._events.put((run, {"event": "start"}))
                self._events.put((run, self._watched(process, run)))
        finally:
            if process:
                self._dismiss(process)
            self._events.put(None)

    def _next(self) -> StudyRun | None:
        with self._guard:
            return self._waiting.popleft() if self._waiting else None

    def _start(self) -> subprocess.Popen[str]:
        # In a session of its own, so that Ctrl-C comes to us alone. It keeps our lock: who dies leaves the folder to its processes until they have saved.
        kept = () if self._lock is None else (self._lock,)
        with open(self._folder / "workers.log", "a", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "atoll.study.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8",
                start_new_session=True, pass_fds=kept,
            )  # fmt: skip
        with self._guard:
            self._processes.add(process)
            if self._stopping and process.stdin:
                process.stdin.close()
        return process

    def _watched(self, process: subprocess.Popen[str], run: StudyRun) -> dict[str, Any]:
        """Gives a run to a process and passes on what it tells; returns how it ended."""
        assert process.stdin is not None
        assert process.stdout is not None
        job = {"folder": str(run_folder(self._folder, run)), "threads": self._threads, "command": self._command, "spec": run.spec.model_dump(mode="json")}
        before = time.monotonic()
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
        except (OSError, ValueError):  # it is gone, or was told to stop
            return self._lost(process, before)
        for line in process.stdout:
            told = json.loads(line)
            if told["event"] == "end":
                return told
            self._events.put((run, told))
        return self._lost(process, before)

    def _dismiss(self, process: subprocess.Popen[str]) -> int:
        """Waits for the end of a process, which comes when its input does."""
        with self._guard:
            self._processes.discard(process)
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with suppress(OSError):  # something was on its way when it died
                    pipe.close()
        return process.wait()

    def _lost(self, process: subprocess.Popen[str], before: float) -> dict[str, Any]:
        code = self._dismiss(process)
        with self._guard:
            stopped = self._stopping
        why = f"its process died (exit code {code}); see workers.log. Not enough memory? Fewer --processes may help, and going on takes up where it stopped."
        state = {"state": "stopped"} if stopped else {"state": "failed", "why": why}
        return {"event": "end", **state, "seconds": time.monotonic() - before}


@contextmanager
def _alone(folder: Path) -> Iterator[int | None]:
    """Holds the folder against other processes; yields the lock's file, which processes that are started may keep. No lock where the system has none."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield None
        return
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AtollError(f"Another process works on {folder}, or is saving what it did. Wait until it has stopped.") from None
        yield lock
    finally:
        os.close(lock)
