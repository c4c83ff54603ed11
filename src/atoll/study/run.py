"""A run: several methods on one federation with the same seeds, client schedules and protocol, kept in a folder that survives interruption."""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

import jax
import polars as pl

from atoll import __version__
from atoll.core.errors import AtollError, unknown
from atoll.core.method import configured, hyperparameters, label
from atoll.core.model import Model
from atoll.data.federation import Federation
from atoll.data.skew import parse_all
from atoll.data.sources import SOURCES
from atoll.engine.engines import check_engine, make_engine
from atoll.methods import find, name_of
from atoll.parts.conditions import Conditions
from atoll.parts.devices import devices
from atoll.parts.selection import selector
from atoll.study import checkpoint as saved
from atoll.study.checkpoint import Checkpoint
from atoll.study.loggers import Logger, check_loggers, loggers, numbers
from atoll.study.models import choose_models
from atoll.study.named import class_of
from atoll.study.spec import MethodSpec, Spec, load_data, read_spec, to_toml
from atoll.study.training import RoundCost, Training, check_method, facts_of, forget_peak
from atoll.study.verify import COMMON, verify


class Watcher(Protocol):
    """Is told how a run goes; never changes it."""

    def begin(self, title: str, rounds: int, done: int) -> None: ...
    def progress(self, title: str, round: int, note: str) -> None: ...
    def end(self, title: str, state: str) -> None: ...


class Interrupted(Exception):  # noqa: N818 - not an error: the run is saved and can go on
    """The run was asked to stop and is saved."""


@dataclass(frozen=True)
class Entry:
    """A method of a run: what it is, what it is called in the table, and where it came from."""

    title: str
    method: Any
    spec: MethodSpec

    @property
    def baseline(self) -> bool:
        known = find(self.spec.name)
        return known is not None and known.family == "baseline"


@dataclass
class Plan:
    """Everything a run needs, made and checked before a file is written."""

    spec: Spec
    federation: Federation
    models: tuple[Model, ...]
    entries: list[Entry]
    conditions: Conditions | None
    refused: dict[str, str] = field(default_factory=dict)  # title -> why, of methods that can't work with these data or models and are left out


def make_plan(
    spec: Spec, federation: Federation | None = None, methods: list[Any] | None = None, models: tuple[Model, ...] | None = None, *, leave_out: bool = False
) -> Plan:
    """A plan from a specification. `federation`, `methods` (instances, one for each of spec.methods) and `models` take the place of what it names.

    leave_out: methods that can't work here are left out, and the plan says why, as long as some can. Else the first of them is an AtollError.
    """
    fed = federation or load_data(spec)
    built = models or choose_models(spec.model, fed)
    given = {id(asked): made for asked, made in zip(spec.methods, methods or (), strict=bool(methods))}
    pairs = _made(spec, given)
    check_engine(spec.engine)
    check_loggers(spec.log)
    facts = facts_of(fed, built, has_pool=spec.engine != "wire")
    entries, refused = _titled(pairs), {}
    if not entries:
        raise AtollError("No method is asked for, and baselines are switched off. Name a method, or leave the baselines in.")
    for entry in entries:
        try:
            check_method(entry.method, facts)
        except AtollError as error:
            refused[entry.title] = str(error)
            if not leave_out or len(refused) == len(entries):
                raise
    chosen = selector(spec.select, spec.per_round)
    if getattr(chosen, "needs_devices", False) and spec.devices is None:
        raise AtollError(f"{type(chosen).__name__} goes by the time that clients take, and here nothing takes time. Say how fast they are (--devices tiers).")
    if getattr(chosen, "needs_public", False) and facts.public is None:
        raise AtollError(f"{type(chosen).__name__} needs public rows, and the federation has none. Give some away with public=0.05 (--public 0.05).")
    if spec.per_round is not None and spec.per_round > fed.seen:
        raise AtollError(f"{spec.per_round} clients per round were asked for, and the federation has {fed.seen} seen clients. Ask for fewer.")
    return Plan(spec, fed, built, entries, _conditions(spec, fed), refused)


def check_spec(spec: Spec) -> None:
    """Checks what can be checked without data: names of methods, sources, skews and engines, and hyperparameters. AtollError says what is wrong."""
    _titled(_made(spec, {}))
    check_engine(spec.engine)
    parse_all(spec.data.skew)
    if spec.data.source not in SOURCES:
        raise unknown("data source", spec.data.source, SOURCES)


def _made(spec: Spec, given: dict[int, Any]) -> list[tuple[MethodSpec, Any]]:
    """The methods of a specification; `given` are those that are made already, by the identity of their specification."""
    pairs = [(asked, given.get(id(asked)) or _method(asked, spec.settings)) for asked in spec.all_methods()]
    _check_common_settings(spec.settings, [made for _, made in pairs])
    return pairs


def _conditions(spec: Spec, fed: Federation) -> Conditions | None:
    """What goes wrong under a specification; None where nothing does and nothing takes time."""
    profiles = None if spec.devices is None else devices(spec.devices, fed.names, spec.seed)
    made = Conditions(spec.dropout, spec.stragglers, profiles, spec.deadline)
    return made if spec.dropout or spec.stragglers or profiles else None


def execute(plan: Plan, folder: Path, watcher: Watcher | None = None, command: str = "") -> Path:
    """Runs a plan in `folder`, from the start or from where it stopped; returns the folder. Raises Interrupted (saved) at Ctrl-C."""
    from atoll.data.sheet import sheet

    if not (folder / "spec.toml").exists():
        folder.mkdir(parents=True, exist_ok=True)
        saved.replace(folder / "data.json", json.dumps(sheet(plan.federation)).encode())
        saved.replace(folder / "environment.json", json.dumps(environment(command, plan.models), indent=1).encode())
        saved.replace(folder / "spec.toml", to_toml(plan.spec).encode())
    checkpoints = [Checkpoint(folder / "checkpoints" / f"{n:02d}-{_slug(entry.title)}") for n, entry in enumerate(plan.entries)]
    _write_status(folder, plan, checkpoints)
    told = loggers(plan.spec.log, folder)
    with _stop_signal() as stop:
        for entry, checkpoint in zip(plan.entries, checkpoints, strict=True):
            if entry.title not in plan.refused and checkpoint.state not in ("done", "diverged"):
                try:
                    _train(plan, entry, checkpoint, folder, watcher, told, stop)
                finally:
                    _write_status(folder, plan, checkpoints)
                    saved.write_tables(folder, checkpoints)
        if plan.spec.verify and not (folder / "identities.json").exists():
            _check_identities(plan, folder, watcher, stop)
    saved.write_tables(folder, checkpoints)
    return folder


def open_plan(folder: Path, federation: Federation | None = None, *, leave_out: bool = False) -> Plan:
    """The plan of an existing run folder, for resuming it; methods that were left out stay so. AtollError where the data have changed since."""
    from atoll.data.sheet import split_hash

    if not (folder / "spec.toml").exists():
        raise AtollError(f"{folder} is no run: it has no spec.toml. Give the folder that `atoll run` named.")
    spec = read_spec(folder / "spec.toml", {})
    if spec.data.source == "(given)" and federation is None:
        raise AtollError(f"The run in {folder} was started from Python with data of its own. Resume it from Python: atoll.resume(folder, data=...).")
    status = json.loads((folder / "status.json").read_text()) if (folder / "status.json").exists() else {}
    plan = make_plan(spec, federation, leave_out=leave_out or any(entry["state"] == "refused" for entry in status.values()))
    before, now = split_of(folder), split_hash(plan.federation)
    if before != now:
        raise AtollError(f"The data of {folder} have changed since it started (split {before[:12]} then, {now[:12]} now), so it can't go on. Start a new run.")
    return plan


def split_of(folder: Path) -> str:
    """The hash of the split on which the run in this folder was begun."""
    return json.loads((folder / "data.json").read_text(encoding="utf-8"))["split_hash"]


def _train(plan: Plan, entry: Entry, checkpoint: Checkpoint, folder: Path, watcher: Watcher | None, told: list[Logger], stop: list[bool]) -> None:
    spec = plan.spec
    facts = facts_of(plan.federation, plan.models, entry.method, has_pool=spec.engine != "wire")
    states = folder / "private" if spec.private_states == "disk" else None
    how = {"threads": spec.threads, "lanes": spec.lanes, "together": spec.together, "state_folder": states, "mix": spec.mix, "auc": spec.auc}
    forget_peak()
    engine = make_engine(spec.engine, plan.federation, facts, spec.seed, **how)
    choosing: Any = {"selector": selector(spec.select, spec.per_round), "conditions": plan.conditions, "rounds": spec.rounds}
    training = Training(entry.method, plan.federation, facts, engine, seed=spec.seed, **choosing)
    training.label = entry.title
    for logger in told:
        logger.begin(entry.title, max(0, checkpoint.round), hyperparameters(entry.method))
    try:
        _rounds(plan, training, checkpoint, watcher, told, stop)
    finally:
        for logger in told:
            logger.end(checkpoint.state)
        engine.executor.close()


def _rounds(plan: Plan, training: Training, checkpoint: Checkpoint, watcher: Watcher | None, told: list[Logger], stop: list[bool]) -> None:
    spec, title = plan.spec, training.label
    costs: list[RoundCost] = []
    rows: list[pl.DataFrame] = []
    changed: set[int] = set()
    if watcher:
        watcher.begin(title, spec.rounds, max(0, checkpoint.round))
    if checkpoint.round >= 0:
        checkpoint.restore(training)
    else:
        opening = training.start()
        checkpoint.save(training, set(), [opening] if opening.cohort else [], [training.evaluate()], "running")
    while training.round < spec.rounds:
        cost = training.step()
        changed |= training.fed.traffic.answered
        why, scored = None, None
        if training.round in spec.evaluation_rounds:
            before = time.perf_counter()
            scored = training.evaluate()
            cost = replace(cost, eval_seconds=time.perf_counter() - before)
            rows.append(scored)
            why = _blown_up(training, scored)
        values = numbers(cost, scored)
        costs.append(cost)
        for logger in told:
            logger.log(training.round, values)
        last = training.round == spec.rounds or why is not None
        state = "diverged" if why else "done" if last else "running"
        if last or stop[0] or training.round % spec.checkpoint_every == 0:
            checkpoint.save(training, changed, costs, rows, state, why)
            costs, rows, changed = [], [], set()
        if watcher:
            watcher.progress(title, training.round, _note(values))
        if why:
            break
        if stop[0] and not last:
            raise Interrupted
    if watcher:
        watcher.end(title, checkpoint.state)
    if stop[0]:
        raise Interrupted


def _check_identities(plan: Plan, folder: Path, watcher: Watcher | None, stop: list[bool]) -> None:
    """Checks the identities of the run's methods, at their rates, batches and epochs, and leaves identities.json. What is stopped begins anew."""
    asked = [(entry.spec.name, {name: getattr(entry.method, name) for name in COMMON if hasattr(entry.method, name)}) for entry in plan.entries]

    def told(checked: int, of: int, what: str) -> None:
        if stop[0]:
            raise Interrupted
        if watcher and not checked:
            watcher.begin("identities", of, 0)
        elif watcher:
            watcher.progress("identities", checked, what)

    found = verify(plan.spec, asked, federation=plan.federation, models=plan.models, told=told)
    saved.replace(folder / "identities.json", found.json().encode())
    if watcher:
        watcher.end("identities", "done")


def _note(values: dict[str, float]) -> str:
    """Validation accuracy (or mean loss) of the personal models of seen clients, for the progress line; "" in rounds without scores."""
    share, loss = (values.get(f"validation/personal/{name}") for name in ("accuracy", "loss"))
    if share is not None:
        return f"validation {100 * share:.1f} %"
    return "" if loss is None else f"validation loss {loss:.4g}"


def _blown_up(training: Training, scored: pl.DataFrame) -> str | None:
    return f"the loss stopped being a finite number by round {training.round}" if training.diverged(scored) else None


def environment(command: str, models: tuple[Model, ...]) -> dict[str, Any]:
    """Where and how a run was made, and with which models (where these were chosen for the data) of how many parameters."""
    return {
        "models": [model.name for model in models],
        "parameters": [model.size(jax.eval_shape(model.init, jax.random.key(0))) for model in models],
        "atoll": __version__,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": command,
    }


def _write_status(folder: Path, plan: Plan, checkpoints: list[Checkpoint]) -> None:
    status = {}
    for entry, checkpoint in zip(plan.entries, checkpoints, strict=True):
        known, refused = find(entry.spec.name), plan.refused.get(entry.title)
        status[entry.title] = {
            "state": "refused" if refused else checkpoint.state,
            "round": max(0, checkpoint.round),
            "rounds": plan.spec.rounds,
            "why": refused or checkpoint.why,
            "family": known.family if known else "own",
            "paper": known.paper if known else "",
            "baseline": entry.baseline,
        }
    saved.replace(folder / "status.json", json.dumps(status, indent=1).encode())


def _method(asked: MethodSpec, common: dict[str, Any]) -> Any:
    cls = class_of(asked.name)
    names = {f.name for f in fields(cls)}
    return configured(cls, {**{key: value for key, value in common.items() if key in names}, **asked.settings})


def _check_common_settings(settings: dict[str, Any], methods: list[Any]) -> None:
    known = {f.name for made in methods for f in fields(made)}
    for name in settings:
        if name not in known:
            raise unknown("hyperparameter of the chosen methods", name, known)


def _titled(pairs: list[tuple[MethodSpec, Any]]) -> list[Entry]:
    """Entries with titles that differ: methods asked for twice show the hyperparameters in which they differ."""
    titles = [label(made) for _, made in pairs]
    entries = []
    for (spec, made), title in zip(pairs, titles, strict=True):
        if titles.count(title) > 1 and spec.settings:
            title += " (" + ", ".join(f"{key}={value}" for key, value in spec.settings.items()) + ")"
        entries.append(Entry(title, made, spec))
    seen: set[str] = set()
    for entry in entries:
        if entry.title in seen:
            raise AtollError(f"{entry.title} is asked for twice with the same hyperparameters. Drop one, or set them apart.")
        seen.add(entry.title)
    return entries


def path_of(made: Any) -> str:
    """The name by which a specification can hold an instance: that of the table, or "module:Class"; behind it what is around it."""
    kind, behind = type(made), ""
    while around := getattr(kind, "around", None):
        kind, behind = around.kind, f"+{around.wrapper}{behind}"
    module = kind.__module__
    if module == "__main__":  # a script: by the name under which resuming can import it
        module = Path(getattr(sys.modules["__main__"], "__file__", None) or module).stem
    return (name_of(kind) or f"{module}:{kind.__qualname__}") + behind


def changed(made: Any) -> dict[str, Any]:
    """Hyperparameters of an instance that differ from the defaults, as a file can hold them."""
    return {f.name: getattr(made, f.name) for f in fields(made) if getattr(made, f.name) != f.default}


def _slug(title: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in title.lower()).strip("-")


@contextmanager
def _stop_signal() -> Iterator[list[bool]]:
    """A flag that Ctrl-C sets; the run stops after the round in progress. A second Ctrl-C stops at once."""
    stop = [False]

    def ask(number: int, frame: Any) -> None:
        if stop[0]:
            raise KeyboardInterrupt
        stop[0] = True

    try:
        before = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not in the main thread, where signals can't be caught
        yield stop
        return
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
