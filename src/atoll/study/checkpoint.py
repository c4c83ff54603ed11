"""Checkpoints of one method: whatever happens to the process, at most the round in progress is lost.

A checkpoint is a set of new files and then, in one atomic step, a manifest that names them. Private states are kept as a log: each checkpoint adds one
file with the states that changed, and a file all of whose states have newer versions is dropped. So what is written goes with the cohort, not with the
number of clients. Eight files of one level are merged into one of the next, so few are open. Files that no manifest names are removed afterwards.
"""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from atoll.core.errors import AtollError
from atoll.engine.codec import decode, encode
from atoll.study.training import ROW_TYPES, RoundCost, Training

FORMAT = 5
MERGED = 8  # files of one level that are merged into one of the next


class Checkpoint:
    """The checkpoints of one method in `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._manifest: dict[str, Any] = {
            "format": FORMAT,
            "round": -1,
            "state": "waiting",
            "why": None,
            "server": None,
            "private": [],
            "costs": [],
            "rows": [],
        }
        self._holder: dict[int, str] = {}  # client -> the file with the newest version of its state
        path = folder / "manifest.json"
        if path.exists():
            self._manifest = json.loads(path.read_text())
            if self._manifest["format"] != FORMAT:
                raise AtollError(f"The checkpoint in {folder} has format {self._manifest['format']}, and this version of Atoll reads {FORMAT}.")

    @property
    def round(self) -> int:
        """The last round saved; -1 where nothing is."""
        return self._manifest["round"]

    @property
    def state(self) -> str:
        """waiting, running, done or diverged."""
        return self._manifest["state"]

    @property
    def why(self) -> str | None:
        return self._manifest["why"]

    def save(self, training: Training, changed: set[int], costs: list[RoundCost], rows: list[pl.DataFrame], state: str, why: str | None = None) -> None:
        """Saves the state after `training.round`. changed: clients whose private state is newer than the last checkpoint; costs, rows: new since then."""
        self.folder.mkdir(parents=True, exist_ok=True)
        at = f"{training.round:06d}"
        new = dict(self._manifest, round=training.round, state=state, why=why)
        new["server"] = self._write(f"server-{at}", encode((training.server, training.fed.selection)))
        new["private"] = self._log(training, sorted(changed), at)
        if costs:
            new["costs"] = [*self._manifest["costs"], self._write(f"costs-{at}", json.dumps([asdict(cost) for cost in costs]).encode())]
        if rows:
            content = io.BytesIO()
            pl.concat(rows).write_parquet(content)
            new["rows"] = [*self._manifest["rows"], self._write(f"rows-{at}", content.getvalue())]
        replace(self.folder / "manifest.json", json.dumps(new).encode())
        self._manifest = new
        self._clean()

    def restore(self, training: Training) -> None:
        """Puts a training where the last checkpoint left it."""
        states: dict[int, Any] = {}
        for name, _ in self._manifest["private"]:  # oldest first: newer versions win
            for i, state in decode((self.folder / name).read_bytes()).items():
                states[int(i)], self._holder[int(i)] = state, name
        server, selection = decode((self.folder / self._manifest["server"]).read_bytes())
        training.restore(self.round, server, states, selection)

    def _log(self, training: Training, changed: list[int], at: str) -> list[list[Any]]:
        """[file, level] of all files with private states, oldest first, after the states of `changed` were added."""
        files = [*self._manifest["private"]]

        def add(ids: list[int], level: int) -> None:
            states = training.engine.executor.dump_states(ids)
            if states:
                name = self._write(f"private-{at}-{level}", encode({str(i): state for i, state in states.items()}))
                self._holder |= dict.fromkeys(states, name)
                files.append([name, level])

        add(changed, 0)
        for level in range(64):
            held = Counter(self._holder.values())
            files = [entry for entry in files if held[entry[0]]]
            full = [name for name, its in files if its == level]
            if len(full) < MERGED:
                break
            add(sorted(i for i, name in self._holder.items() if name in full), level + 1)
        return files

    def records(self) -> tuple[list[dict[str, Any]], list[pl.DataFrame]]:
        """(rows of rounds.parquet, parts of clients.parquet) saved so far."""
        costs = [cost for name in self._manifest["costs"] for cost in json.loads((self.folder / name).read_bytes())]
        return costs, [pl.read_parquet(self.folder / name) for name in self._manifest["rows"]]

    def _write(self, name: str, content: bytes) -> str:
        with open(self.folder / name, "wb") as file:
            file.write(content)
        return name

    def _clean(self) -> None:
        named = {"manifest.json", self._manifest["server"], *(name for name, _ in self._manifest["private"])}
        named |= {*self._manifest["costs"], *self._manifest["rows"]}
        for entry in os.scandir(self.folder):
            if entry.name not in named:
                os.unlink(entry.path)


def replace(path: Path, content: bytes) -> None:
    """Writes a file so that, whenever the process dies, the path holds the old content or the new, never a part."""
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


COST_TYPES = {
    "method": pl.String, "round": pl.Int32, "cohort": pl.Int32, "answered": pl.Int32, "bytes_down": pl.Int64, "bytes_up": pl.Int64, "flops": pl.Float64,
    "steps": pl.Int64, "seconds": pl.Float64, "cpu_seconds": pl.Float64, "eval_seconds": pl.Float64, "sim_seconds": pl.Float64,
    "private_bytes": pl.Int64, "peak_memory": pl.Int64,
}  # fmt: skip


def write_tables(folder: Path, checkpoints: list[Checkpoint]) -> None:
    """rounds.parquet and clients.parquet of a run from its methods' checkpoints."""
    costs: list[dict[str, Any]] = []
    rows: list[pl.DataFrame] = [pl.DataFrame(schema=ROW_TYPES)]
    for checkpoint in checkpoints:
        more_costs, more_rows = checkpoint.records()
        costs += more_costs
        rows += more_rows
    for name, content in (("rounds", pl.DataFrame(costs, schema=COST_TYPES, orient="row")), ("clients", pl.concat(rows, how="diagonal"))):
        part = folder / f"{name}.parquet.part"
        content.write_parquet(part)
        os.replace(part, folder / f"{name}.parquet")
