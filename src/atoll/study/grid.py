"""A study: one specification of a run, varied over a grid. Every point of the grid is a cell, and every cell is run once per seed with all methods."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.core.errors import AtollError, unknown
from atoll.study.spec import Spec, make_spec, merged, read_toml, to_toml, toml_lines, toml_value

KEYS = ("name", "about", "from", "base", "grid", "cells")
MACHINE = ("threads", "lanes")  # follow from where a study runs, and change no result but last bits


@dataclass(frozen=True)
class Cell:
    """One point of the grid: what is varied ("data.skew" -> value), as it stands in the study and as it is shown."""

    values: dict[str, Any]

    @property
    def title(self) -> str:
        return ", ".join(shown(value) for value in self.values.values()) or "all"


@dataclass(frozen=True)
class StudyRun:
    """One run of a study."""

    name: str  # of its folder
    cell: Cell
    seed: int
    spec: Spec


@dataclass(frozen=True)
class Study:
    """What is run. axes: key of a run's specification (with dots) -> values, in the order in which they vary; "cells" is an axis of whole tables."""

    name: str
    about: str
    base: Spec
    axes: dict[str, tuple[Any, ...]]
    cells: tuple[dict[str, Any], ...]  # tables of [[cells]], each with a name
    seeds: tuple[int, ...]

    def runs(self) -> list[StudyRun]:
        """All runs, cell by cell. AtollError where one has no valid specification, or two are the same."""
        made = [StudyRun(_name(cell, seed), cell, seed, self._spec(changes, seed)) for cell, changes in self._points() for seed in self.seeds]
        seen: dict[str, StudyRun] = {}
        for run in made:
            if run.name in seen:
                raise AtollError(f"Study {self.name}: {run.cell.title} with seed {run.seed} is asked for twice. Drop one.")
            seen[run.name] = run
        return made

    def _points(self) -> Iterator[tuple[Cell, dict[str, Any]]]:
        given: list[dict[str, Any] | None] = list(self.cells) or [None]
        for table, *values in itertools.product(given, *self.axes.values()):
            named = {} if table is None else {"cell": table["name"]}
            changes = {} if table is None else {key: value for key, value in table.items() if key != "name"}
            for key, value in zip(self.axes, values, strict=True):
                changes = merged(changes, _nested(key, value))
            yield Cell(named | dict(zip(self.axes, values, strict=True))), changes

    def _spec(self, changes: dict[str, Any], seed: int) -> Spec:
        base = self.base.model_dump(mode="json", exclude_none=True)
        return make_spec(merged(merged(base, changes), {"seed": seed}))


def read_study(path: Path) -> Study:
    """The study in a TOML file; `from` in it names a run's specification (as tuning leaves one) on which its [base] is put.

    AtollError, one line, for what can't be read, and for unknown keys (with the nearest known one).
    """
    content = read_toml(path)
    start = content.pop("from", None)
    if start is None:
        return make_study(content, path.stem)
    if not isinstance(start, str):
        raise AtollError(f'from = {start!r}: it is the path of a run\'s specification, for instance from = "tuned/tuned.toml".')
    base = read_toml(path.parent / start)
    if "seeds" in _table(content, "grid"):
        base.pop("seed", None)
    if "methods" in _table(content, "grid"):
        base.pop("methods", None)
    return make_study({**content, "base": merged(base, _table(content, "base"))}, path.stem)


def make_study(content: dict[str, Any], name: str) -> Study:
    """A study from nested values; `name` where they give none. Every run's specification is checked here."""
    for key in content:
        if key not in KEYS:
            raise unknown("key of the study", key, KEYS)
    grid = dict(_flat(_table(content, "grid"), "grid"))
    base = dict(_table(content, "base"))
    if "seed" in base and "seeds" in grid:
        raise AtollError("Seeds stand in [base] (seed) and in [grid] (seeds). Keep the latter.")
    seeds = grid.pop("seeds", (base.get("seed", 0),))
    if any(isinstance(seed, bool) or not isinstance(seed, int) or seed < 0 for seed in seeds):
        raise AtollError(f"grid.seeds = {list(seeds)}: seeds are whole numbers, 0 or more.")
    if "methods" in grid:
        if base.get("methods"):
            raise AtollError("Methods stand in [base] and in [grid]. Keep one of the two; either way every run has all of them.")
        base["methods"] = list(grid.pop("methods"))
    if "seed" in grid:
        raise unknown("key of [grid]", "seed", ("seeds",))
    cells = content.get("cells", [])
    if not isinstance(cells, list) or not all(isinstance(cell, dict) and isinstance(cell.get("name"), str) for cell in cells):
        raise AtollError('[[cells]] are tables of a run\'s specification, each with a name, for instance [[cells]] name = "vowel", data.source = "vowel".')
    made = Study(str(content.get("name", name)), str(content.get("about", "")), make_spec({**base, "seed": seeds[0]}), grid, tuple(cells), seeds)
    made.runs()
    return made


def tuning_beside(path: Path) -> Path | None:
    """The account of the tuning that the study in a TOML file starts from; None where it starts from none."""
    start = read_toml(path).get("from")
    found = None if start is None else (path.parent / start).with_name("tuning.json")
    return found if found is not None and found.exists() else None


def study_toml(study: Study) -> str:
    """The study as TOML with every default written out; reading it gives the same study."""
    lines = toml_lines({"name": study.name, "about": study.about})
    base = to_toml(study.base.model_copy(update={"seed": 0}), "base").replace("\nseed = 0\n", "\n", 1)
    lines += ["", base.rstrip(), "", "[grid]", f"seeds = {toml_value(study.seeds)}"]
    lines += [f"{json.dumps(key)} = {toml_value(values)}" for key, values in study.axes.items()]
    for cell in study.cells:
        lines += ["", "[[cells]]", *toml_lines(cell)]
    return "\n".join(lines) + "\n"


def same_work(first: Spec, second: Spec) -> bool:
    """True where two specifications ask for the same, on whatever machine."""
    return all(getattr(first, name) == getattr(second, name) for name in Spec.model_fields if name not in MACHINE)


def shown(value: Any) -> str:
    """A value of the grid in titles."""
    if isinstance(value, list | tuple):
        return " + ".join(shown(part) for part in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key}={shown(part)}" for key, part in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(content: dict[str, Any], key: str) -> dict[str, Any]:
    table = content.get(key, {})
    if not isinstance(table, dict):
        raise AtollError(f"{key} = {table!r}: [{key}] is a table.")
    return table


def _flat(table: dict[str, Any], at: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Lists of a nested table by their keys with dots."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{rest}", values) for rest, values in _flat(value, f"{at}.{key}"))
        elif isinstance(value, list) and value:
            yield key, tuple(value)
        else:
            raise AtollError(f"{at}.{key} = {value!r}: the grid has lists of values, as in seeds = [0, 1, 2].")


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _name(cell: Cell, seed: int) -> str:
    """Says what is varied, and does not depend on what else is in the grid, so that a study can be widened."""
    text = "-".join(shown(value) for value in cell.values.values())
    slug = "".join(c if c.isalnum() or c in ".=" else "-" for c in text.lower()).strip("-")
    if not slug:
        return f"seed{seed}"
    mark = hashlib.sha256(json.dumps(cell.values, sort_keys=True).encode()).hexdigest()[:6]
    return f"{slug[:48].rstrip('-')}-{mark}-seed{seed}"
