"""Runs and studies side by side: the same methods in columns, and what makes the columns hard to compare."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atoll.core.errors import AtollError
from atoll.metrics import repeated
from atoll.report import several, words
from atoll.report.digest import Digest, digest
from atoll.report.run import open_run
from atoll.report.study_results import open_results

ASIDE = ("seed", "data.seed", "methods", "threads", "lanes", "together", "private_states", "checkpoint_every")  # told apart elsewhere, or no difference
UNEQUAL = 1.05  # from this ratio on, costs are called different


@dataclass(frozen=True, eq=False)
class Column:
    """One run, or one cell of a study with a run per seed."""

    title: str
    digests: list[Digest]

    def scores(self, method: str, column: str | None = None) -> np.ndarray:
        """float [runs]; NaN where a run has none."""
        return several.scores(self.digests, method, column)

    def show(self, method: str) -> str:
        """Its score; of several runs mean and half of the 95 % interval."""
        values = self.scores(method)
        number = words.loss if self.digests[0].regression else words.percent
        if len(values) == 1 or not np.isfinite(values).all():
            return number(float(values.mean()))
        d = repeated(values.tolist(), [0.0] * len(values), regression=False)
        return f"{number(d.mean)} ± {number(d.high - d.mean)}"

    def best(self) -> str | None:
        """The method, not a baseline, with the best mean validation score."""
        table = self.digests[0].table
        return several.best(self.digests, table.filter(~table["baseline"])["method"].to_list())


def side_by_side(folders: list[Path]) -> list[Column]:
    """A column per run, and per cell of a study. AtollError where a folder is neither, or where runs have different tasks."""
    columns: list[Column] = []
    for folder in dict.fromkeys(folders):
        if (folder / "study.toml").exists():
            results = open_results(folder)
            columns += [Column(f"{results.study.name}: {cell.cell.title}", list(cell.digests.values())) for cell in results.cells]
        elif (folder / "status.json").exists():
            columns.append(Column(folder.name, [digest(open_run(folder))]))
        else:
            raise AtollError(f"{folder} is neither a run nor a study. Give folders that `atoll run` or `atoll study` named.")
    numbered = [Column(f"{n}. {column.title}", column.digests) for n, column in enumerate(columns, 1)]
    _check_tasks(numbered)
    return numbered


def methods_of(columns: list[Column]) -> list[str]:
    """All methods, baselines first."""
    return several.methods(d for column in columns for d in column.digests)


def differences(columns: list[Column]) -> list[str]:
    """What a reader must know before he compares the columns, a sentence each; none where only methods differ."""
    return [*_splits(columns), *_specifications(columns), *_budgets(columns), *_lone(columns)]


def _check_tasks(columns: list[Column]) -> None:
    first = columns[0]
    for column in columns[1:]:
        a, b = first.digests[0], column.digests[0]
        if a.regression != b.regression:
            raise AtollError(f"{first.title} and {column.title}: one predicts a label and the other a number. Such scores can't be compared.")
        if len(a.run.data.get("labels", [])) != len(b.run.data.get("labels", [])):
            counts = " and ".join(str(len(d.run.data.get("labels", []))) for d in (a, b))
            raise AtollError(f"{first.title} and {column.title} have different tasks: {counts} labels. Their accuracies can't be compared.")


def _splits(columns: list[Column]) -> Iterator[str]:
    of = [{_seed(d): str(d.run.data.get("split_hash")) for d in column.digests} for column in columns]
    if len({tuple(sorted(one)) for one in of}) > 1:
        yield f"Seeds differ: {_told(columns, [words.some([str(seed) for seed in sorted(one)]) for one in of])}. Differences are not paired."
    common = set.intersection(*(set(one) for one in of))
    if common and any(len({one[seed] for one in of}) > 1 for seed in common):
        yield f"Clients have different rows, though seeds are the same: {_told(columns, ['split ' + one[min(common)][:8] for one in of])}."
    elif not common and len({value for one in of for value in one.values()}) > 1:
        yield "Clients have different rows: no two of the splits come from the same seed."


def _specifications(columns: list[Column]) -> Iterator[str]:
    flat = [dict(_flat(_spec(column.digests[0]))) for column in columns]
    for key in dict.fromkeys(key for one in flat for key in one):
        values = [one.get(key) for one in flat]
        if key.split(".")[0] not in ASIDE and key not in ASIDE and any(value != values[0] for value in values[1:]):
            yield f"{key} differs: {_told(columns, [_plain(value) for value in values])}."
    yield from _settings(columns)


def _settings(columns: list[Column]) -> Iterator[str]:
    """Hyperparameters of methods that several columns ask for."""
    asked = [_asked(column.digests[0]) for column in columns]
    for name in dict.fromkeys(name for one in asked for name in one):
        if len({one[name] for one in asked if name in one}) > 1:
            yield f"Settings of {name} differ: {_told(columns, [one.get(name, 'not asked for') for one in asked])}."


def _asked(d: Digest) -> dict[str, str]:
    """Method -> its own hyperparameters, as a specification gives them; of one that is there twice, both."""
    found: dict[str, list[str]] = {}
    for made in _spec(d).get("methods", []):
        given = made.get("settings", {})
        found.setdefault(made["name"], []).append(" ".join(f"{key}={given[key]}" for key in sorted(given)) or "defaults")
    return {name: ", ".join(sorted(texts)) for name, texts in found.items()}


def _budgets(columns: list[Column]) -> Iterator[str]:
    """Of methods that are in several columns: the one whose costs differ most."""
    for key, what in (("flops_client", "FLOPs per client"), ("bytes_client", "traffic per client")):
        worst: tuple[float, str, list[float]] = (UNEQUAL, "", [])
        for name in methods_of(columns):
            costs = [float(np.nanmean(v)) if np.isfinite(v := column.scores(name, key)).any() else 0.0 for column in columns]
            known = [cost for cost in costs if cost > 0]
            if len(known) > 1 and max(known) / min(known) > worst[0]:
                worst = max(known) / min(known), name, costs
        if worst[1]:
            show = words.work if key == "flops_client" else words.size
            shares = [show(cost) if cost else words.DASH for cost in worst[2]]
            yield f"Budgets are unequal: {worst[1]} has {worst[0]:.1f} times the {what} in one column as in another ({_told(columns, shares)})."


def _lone(columns: list[Column]) -> Iterator[str]:
    lone = [name for name in methods_of(columns) if sum(np.isfinite(column.scores(name)).any() for column in columns) < len(columns)]
    if lone and len(columns) > 1:
        yield f"Not in every column: {words.some(lone)}."


def _seed(d: Digest) -> int:
    return int(_spec(d).get("seed", 0))


def _spec(d: Digest) -> dict[str, Any]:
    return tomllib.loads(d.run.spec)


def _flat(table: dict[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value


def _plain(value: Any) -> str:
    if value is None:
        return "default"
    return " + ".join(_plain(part) for part in value) or "none" if isinstance(value, list) else str(value)


def _told(columns: list[Column], values: list[str]) -> str:
    """Values with the numbers of the columns that have them."""
    groups: dict[str, list[str]] = {}
    for n, value in enumerate(values, 1):
        groups.setdefault(value, []).append(str(n))
    return "; ".join(f"{value} in {words.some(numbers, 12)}" for value, numbers in groups.items())
