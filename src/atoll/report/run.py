"""A run folder, read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from atoll.core.errors import AtollError
from atoll.data.drift import Drift

CLIENT_COLUMNS = ("method", "round", "client", "seen", "joined", "split", "model", "rows", "correct", "loss", "cluster")
SINCE = ("balanced", "auc")  # columns of clients.parquet that older runs lack; nothing is known of them there
ROUND_COLUMNS = (
    "method", "round", "cohort", "answered", "bytes_down", "bytes_up", "flops", "steps",
    "seconds", "cpu_seconds", "eval_seconds", "sim_seconds", "private_bytes", "peak_memory",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Run:
    """What a run left. `status` is in the order of the table: baselines first, then methods, each as they were run."""

    folder: Path
    status: dict[str, dict[str, Any]]
    data: dict[str, Any]  # the data sheet
    environment: dict[str, Any]
    spec: str  # TOML
    clients: pl.DataFrame
    rounds: pl.DataFrame

    @property
    def name(self) -> str:
        """Of the data."""
        return str(self.data.get("name", self.folder.name))

    @property
    def regression(self) -> bool:
        """True where there is a loss and no accuracy."""
        if "labels" in self.data:
            return not self.data["labels"]
        return not self.clients["correct"].is_finite().any()

    @property
    def seen(self) -> int:
        """Number of clients that take part in training."""
        return int(self.data.get("seen", self.clients.filter("seen")["client"].n_unique()))

    @property
    def attackers(self) -> list[int]:
        """Clients that take part and are known to attack."""
        return [i for i, one in enumerate((self.data.get("attackers") or [])[: self.seen]) if one]

    @property
    def refused(self) -> dict[str, str]:
        """Methods that were left out because they can't work with the data or the model -> why."""
        return {name: str(entry["why"]) for name, entry in self.status.items() if entry["state"] == "refused"}

    @property
    def diverged(self) -> list[str]:
        return [name for name, entry in self.status.items() if entry["state"] == "diverged"]

    @property
    def drift(self) -> Drift | None:
        """When data that change do so, and what their phases are (without their rows); None where they don't."""
        told = self.data.get("drift")
        return Drift(told["every"], (), tuple(told["order"]), told["again"], tuple(told["about"])) if told else None

    @property
    def changes(self) -> list[int]:
        """Rounds, of those run, that are the first in a new phase of data that change; empty where they don't."""
        return self.drift.changes(int(self.clients["round"].max() or 0)) if self.drift else []  # type: ignore[arg-type]

    @property
    def settled(self) -> int:
        """The first round from which on clients have the rows that they have at the end."""
        return self.changes[-1] if self.changes else 0

    def reference(self, title: str) -> str | None:
        """The label of a baseline, by its title ("Local"); where it was run with several settings, the first of them."""
        if title in self.status:
            return title
        return next((name for name, entry in self.status.items() if entry["baseline"] and name.startswith(f"{title} (")), None)

    def sizes(self, split: str) -> list[int]:
        """Rows per client, from the data sheet; empty where it does not say."""
        return list(self.data.get("sizes", {}).get(split, []))

    def client_name(self, client: int) -> str:
        names = self.data.get("names", [])
        return str(names[client]) if client < len(names) else f"client {client}"


def open_run(folder: Path) -> Run:
    """Reads a run folder. AtollError where it is none, or where a file of it can't be read."""
    if not (folder / "status.json").exists():
        raise AtollError(f"{folder} is no run: it has no status.json. Give the folder that `atoll run` named.")
    status = _json(folder / "status.json")
    ordered = dict(sorted(status.items(), key=lambda item: not item[1]["baseline"]))
    clients, rounds = _table(folder / "clients.parquet", CLIENT_COLUMNS), _table(folder / "rounds.parquet", ROUND_COLUMNS)
    spec = folder / "spec.toml"
    text = spec.read_text(encoding="utf-8") if spec.exists() else ""
    return Run(folder, ordered, _json(folder / "data.json"), _json(folder / "environment.json"), text, clients, rounds)


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AtollError(
            f"{path.parent} is not complete: {path.name} is missing. Start the run again, or continue it with `atoll resume {path.parent}`."
        ) from None
    except json.JSONDecodeError as error:
        raise AtollError(f"{path} can't be read as JSON: {error}. Start the run again.") from None


def _table(path: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    if not path.exists():
        raise AtollError(f"{path.parent} has no {path.name} yet: no method has been trained. Continue it with `atoll resume {path.parent}`.")
    try:
        found = pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise AtollError(f"{path} can't be read as Parquet: {error}. Continue the run with `atoll resume {path.parent}`, which writes it anew.") from None
    missing = [name for name in columns if name not in found.columns]
    if missing:
        raise AtollError(
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}. It was written by another version of Atoll; run again."
        )
    newer = [pl.col(name) if name in found.columns else pl.lit(None, pl.Float64).alias(name) for name in SINCE if "client" in columns]
    return found.select(*columns, *newer)
