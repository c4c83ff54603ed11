"""A run as it goes, for the tools in which people watch their experiments: TensorBoard and MLflow. Both are extras."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from atoll.core.errors import AtollError, unknown
from atoll.study.checkpoint import replace
from atoll.study.training import RoundCost

COSTS = ("bytes_down", "bytes_up", "flops", "steps", "seconds", "cpu_seconds", "sim_seconds", "private_bytes", "peak_memory", "answered")


class Logger(Protocol):
    """Is told the numbers of every round, by name. A method that is resumed is begun again, with the rounds that are done."""

    def begin(self, title: str, done: int, settings: dict[str, Any]) -> None: ...
    def log(self, round: int, values: dict[str, float]) -> None: ...
    def end(self, state: str) -> None: ...


def loggers(names: tuple[str, ...], folder: Path) -> list[Logger]:
    """The loggers asked for, for the run in `folder`. AtollError for an unknown one, and where its library is missing."""
    return [LOGGERS[name](folder) for name in names]


def check_loggers(names: tuple[str, ...]) -> None:
    """AtollError for an unknown logger, before anything is trained."""
    for name in names:
        if name not in LOGGERS:
            raise unknown("logger", name, LOGGERS)


def numbers(cost: RoundCost, scored: pl.DataFrame | None) -> dict[str, float]:
    """What a round cost, and where clients were scored the sample-weighted accuracy and loss of seen clients: "validation/personal/accuracy" and so on."""
    values = {f"cost/{name}": float(value) for name, value in asdict(cost).items() if name in COSTS}
    if scored is not None:
        sums = scored.filter("seen").group_by("split", "model", maintain_order=True).agg(pl.col("rows", "correct", "loss").sum())
        for split, model, rows, correct, loss in sums.iter_rows():
            if rows:
                values |= {f"{split}/{model}/accuracy": correct / rows, f"{split}/{model}/loss": loss / rows}
    return {name: value for name, value in values.items() if value == value}  # regression has no accuracy


class TensorBoard:
    """Event files in <run>/tensorboard/<method>: tensorboard --logdir <run>/tensorboard."""

    def __init__(self, folder: Path):
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise AtollError("Logging to TensorBoard needs the library tensorboardX: pip install 'atoll[log]'.") from None
        self._folder, self._open = folder / "tensorboard", SummaryWriter
        self._writer: Any = None

    def begin(self, title: str, done: int, settings: dict[str, Any]) -> None:
        self._writer = self._open(str(self._folder / _plain(title)), purge_step=done + 1 if done else None)
        self._writer.add_text("settings", json.dumps(settings, default=str), done)

    def log(self, round: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, round)
        self._writer.flush()

    def end(self, state: str) -> None:
        self._writer.close()


class MLflow:
    """A run of the experiment "atoll" for each method, where MLFLOW_TRACKING_URI says; a method that is resumed goes on in its run."""

    def __init__(self, folder: Path):
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise AtollError("Logging to MLflow needs the library mlflow-skinny (or mlflow): pip install 'atoll[log]'.") from None
        self._client, self._folder = MlflowClient(), folder
        found = self._client.get_experiment_by_name("atoll")
        self._experiment = found.experiment_id if found else self._client.create_experiment("atoll")
        self._known = folder / "mlflow.json"  # title -> id of its run
        self._run = ""

    def begin(self, title: str, done: int, settings: dict[str, Any]) -> None:
        ids = json.loads(self._known.read_text()) if self._known.exists() else {}
        if not done or title not in ids:
            tags = {"atoll.run": str(self._folder), "atoll.method": title}
            made = self._client.create_run(self._experiment, run_name=f"{self._folder.name} {title}", tags=tags)
            ids[title] = made.info.run_id
            replace(self._known, json.dumps(ids).encode())
            for name, value in settings.items():
                self._client.log_param(ids[title], name, value)
        self._run = ids[title]

    def log(self, round: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=round)

    def end(self, state: str) -> None:
        self._client.set_terminated(self._run, "FINISHED" if state == "done" else "FAILED" if state == "diverged" else "KILLED")


LOGGERS: dict[str, Callable[[Path], Logger]] = {"tensorboard": TensorBoard, "mlflow": MLflow}


def _plain(title: str) -> str:
    return "".join(c if c.isalnum() or c in "+-=. " else "-" for c in title)
