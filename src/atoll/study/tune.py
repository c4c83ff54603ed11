"""Tuning: as many trials for one method as for another, judged by validation rows alone. The federation that is tuned on has no test rows at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from atoll.core.errors import AtollError
from atoll.core.method import search_space
from atoll.data.untested import without_test_rows
from atoll.report.digest import digest
from atoll.report.run import open_run
from atoll.study.checkpoint import replace
from atoll.study.run import Entry, Plan, changed, execute, make_plan
from atoll.study.spec import MethodSpec, Spec, load_data, make_spec, read_spec, to_toml


@dataclass(frozen=True)
class Tuned:
    """What tuning found for one method."""

    method: str
    name: str  # in a specification
    space: dict[str, Any]  # hyperparameter -> where it was looked for; empty: nothing to tune
    trials: int  # carried out, those that failed among them
    failed: int  # diverged, or with hyperparameters that do not go together
    best: float | None  # validation score; None where there is none
    median: float | None  # of the trials that did not fail
    flops: float  # per client, over all trials
    seconds: float
    values: dict[str, Any] = field(default_factory=dict)  # chosen


Watch = Callable[[str, int, float | None], None]  # a method's trial has ended: its title, how many are done, the best score so far


def tune(spec: Spec, folder: Path, trials: int, watch: Watch | None = None) -> list[Tuned]:
    """Tunes every method of a specification in `folder`, with so many trials each, and writes tuned.toml and tuning.json there.

    What is in the folder already is continued: trials are kept in SQLite. The first trial of each method are the hyperparameters of the specification
    where these lie in the space that is searched. AtollError where another specification was tuned there, or a method can't run at all.
    """
    _library()
    _open(spec, folder)
    full = load_data(spec)
    if not full.count["validation"].any():
        raise AtollError(f"{full.name} has no validation rows, and tuning goes by nothing else. Give it some with data.split = [0.6, 0.2, 0.2].")
    federation = without_test_rows(full)
    entries = make_plan(spec, federation).entries
    found = [_tune_one(spec, entry, federation, folder, trials, watch) for entry in entries]
    unit = "accuracy" if full.labels else "loss"
    replace(folder / "tuned.toml", to_toml(_with(spec, found)).encode())
    replace(folder / "tuning.json", json.dumps({"unit": unit, "trials": trials, "methods": [asdict(one) for one in found]}, indent=1).encode())
    return found


def _library() -> Any:
    try:
        import optuna
    except ImportError:
        raise AtollError("Tuning needs the library Optuna, which is not installed: pip install 'atoll[tune]'.") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _open(spec: Spec, folder: Path) -> None:
    """The folder holds the tuning of this specification, or of none."""
    path = folder / "spec.toml"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        replace(path, to_toml(spec).encode())
    elif (folder / "status.json").exists():
        raise AtollError(f"{folder} holds a run. Choose another folder with --out.")
    elif read_spec(path, {}) != spec:
        raise AtollError(f"{folder} holds the tuning of another specification. Choose another folder with --out.")


def _tune_one(spec: Spec, entry: Entry, federation: Any, folder: Path, trials: int, watch: Watch | None) -> Tuned:
    optuna = _library()
    space = search_space(type(entry.method))
    if not space:
        return Tuned(entry.title, entry.spec.name, {}, 0, 0, None, None, 0.0, 0.0)
    regression = not federation.labels
    storage = f"sqlite:///{(folder / 'tuning.db').resolve()}"
    study = optuna.create_study(storage=storage, study_name=entry.title, load_if_exists=True, direction="minimize" if regression else "maximize")
    state = optuna.trial.TrialState
    for left in study.get_trials(deepcopy=False, states=(state.RUNNING,)):  # interrupted: it will be tried again
        study.tell(left.number, state=state.PRUNED)
    while (n := len(_ended(study))) < trials:
        # A sampler of its own for each trial: tuning that was interrupted goes on as if it had not been.
        study.sampler = optuna.samplers.TPESampler(seed=spec.seed * 100_003 + n)
        first = _given(entry.method, space)
        if n == 0 and first and not study.get_trials(deepcopy=False, states=(state.WAITING,)):
            study.enqueue_trial(first)
        trial = study.ask()
        values = {name: _suggested(trial, name, where, type(getattr(entry.method, name))) for name, where in space.items()}
        score, spent = _tried(spec, entry, values, federation)
        for key, value in spent.items():
            trial.set_user_attr(key, value)
        study.tell(trial, score, state=state.FAIL if score is None else state.COMPLETE)
        if watch:
            watch(entry.title, n + 1, _best(study, regression))
    return _summary(_ended(study)[:trials], entry, space, regression)


def _ended(study: Any) -> list[Any]:
    """Trials that were carried out, in their order."""
    state = _library().trial.TrialState
    return study.get_trials(deepcopy=False, states=(state.COMPLETE, state.FAIL))


def _given(method: Any, space: dict[str, Any]) -> dict[str, Any] | None:
    """The hyperparameters as they are, if all of them lie where it is searched."""
    values = {name: getattr(method, name) for name in space}
    inside = all(values[name] in where if isinstance(where, list) else where[0] <= values[name] <= where[1] for name, where in space.items())
    return values if inside else None


def _suggested(trial: Any, name: str, where: tuple[Any, ...] | list[Any], kind: type) -> Any:
    if isinstance(where, list):
        return trial.suggest_categorical(name, where)
    low, high, *log = where
    if kind is int:
        return trial.suggest_int(name, low, high, log=bool(log))
    return trial.suggest_float(name, low, high, log=bool(log))


def _tried(spec: Spec, entry: Entry, values: dict[str, Any], federation: Any) -> tuple[float | None, dict[str, Any]]:
    """(validation score, what it took); no score where the trial failed."""
    asked = MethodSpec(name=entry.spec.name, settings={**changed(entry.method), **values})
    alone = spec.model_copy(update={"methods": (asked,), "baselines": False, "settings": {}})
    with tempfile.TemporaryDirectory(prefix="atoll-trial-") as place:
        try:
            plan: Plan = make_plan(alone, federation)
        except AtollError as error:  # values that do not go together
            return None, {"why": str(error), "flops": 0.0, "seconds": 0.0}
        d = digest(open_run(execute(plan, Path(place) / "run")))
        title = plan.entries[0].title
        spent = {"flops": float(d.run.rounds["flops"].sum()) / max(1, d.run.seen), "seconds": float(d.run.rounds["seconds"].sum())}
        if title in d.run.diverged:
            return None, {**spent, "why": "diverged"}
        return d.value(title, f"validation_{d.unit}"), spent


def _best(study: Any, regression: bool) -> float | None:
    scores = [trial.value for trial in _ended(study) if trial.value is not None]
    return None if not scores else (min if regression else max)(scores)


def _summary(trials: list[Any], entry: Entry, space: dict[str, Any], regression: bool) -> Tuned:
    good = [trial for trial in trials if trial.value is not None]
    best = (min if regression else max)(good, key=lambda trial: trial.value) if good else None
    spent = {key: sum(trial.user_attrs.get(key, 0.0) for trial in trials) for key in ("flops", "seconds")}
    middle = median(trial.value for trial in good) if good else None
    chosen = {name: best.params[name] for name in space} if best else {}
    return Tuned(entry.title, entry.spec.name, space, len(trials), len(trials) - len(good), best.value if best else None, middle, **spent, values=chosen)


def _with(spec: Spec, found: list[Tuned]) -> Spec:
    """The specification with what was chosen, as settings of each method; baselines are named, for they have settings now."""
    asked = spec.all_methods()
    methods = [{"name": one.name, "settings": {**one.settings, **tuned.values}} for one, tuned in zip(asked, found, strict=True)]
    return make_spec({**spec.model_dump(mode="json", exclude_none=True), "methods": methods})
