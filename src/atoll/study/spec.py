"""The specification of a run: what `atoll run` reads from a TOML file and from its options, checked in full before anything starts."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from atoll.core.cores import default_lanes
from atoll.core.errors import AtollError, unknown
from atoll.methods import TABLE

if TYPE_CHECKING:
    from atoll.data.federation import Federation

BASELINES = ("majority", "local", "fedavg", "fedavg-ft")
DEFAULT_METHODS = ({"name": "fedper"}, {"name": "scaffold"}, {"name": "apfl"}, {"name": "per-fedavg", "alpha": 0.1, "beta": 0.1}, {"name": "ifca"})
DEFAULT_SETTINGS = {"lr": 0.1, "batch": 10}  # where no method is asked for: about the same work for all, chosen once and never tuned on test rows


class Section(BaseModel):
    """A part of the specification: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSpec(Section):
    """Which rows, and who owns them."""

    source: str = "digits"
    skew: tuple[str, ...] = ()
    clients: int | None = Field(None, ge=1)
    unseen: float = Field(0.0, ge=0, lt=1)  # share of clients held out
    split: tuple[float, float, float] = (0.6, 0.2, 0.2)  # train, validation, test
    public: float = Field(0, ge=0)  # share (below 1) or number of rows given away as public data
    limit: int | None = Field(None, ge=1)  # rows used at most
    resample: str | None = None  # smote, adasyn or tomek: every client evens out its own train rows
    seed: int | None = Field(None, ge=0)  # of the split; default: the run's
    split_seed: int | None = Field(None, ge=0)  # draws rows of the same clients anew into train, validation and test; default: as seed
    options: dict[str, Any] = Field(default_factory=dict)  # of the source (path, client, label, ...)


class MethodSpec(Section):
    """A method by name (or "module:Class") and its hyperparameters."""

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)


class Spec(Section):
    """A run. Every field has a default."""

    data: DataSpec = Field(default_factory=lambda: DataSpec.model_validate({}))
    model: tuple[str, ...] = ()  # empty: chosen for the data
    methods: tuple[MethodSpec, ...] = ()
    settings: dict[str, Any] = Field(default_factory=dict)  # hyperparameters for every method that has them
    baselines: bool = True  # add Majority, Local, FedAvg and FedAvg+FT
    rounds: int = Field(50, ge=1)
    per_round: int | None = Field(None, ge=1)  # clients asked per round; default: all
    select: str = "uniform"  # who is asked: a selector, with its settings as in "tifl:tiers=3,policy=fast"
    seed: int = Field(0, ge=0)
    eval_every: int | None = Field(None, ge=1)  # rounds; default: about 25 evaluations a run
    mix: int = Field(0, ge=0)  # test rows of all clients on which every client's model is scored too; 0: none
    auc: bool = False  # areas under the ROC curve also where there are more than two labels, each against the others
    checkpoint_every: int = Field(1, ge=1)  # rounds
    dropout: float = Field(0.0, ge=0, le=1)
    stragglers: float = Field(0.0, ge=0, le=1)
    devices: str | None = None  # how fast clients are: same, tiers, lognormal, varying, or a CSV trace
    deadline: float | None = Field(None, gt=0)  # simulated seconds for which the server waits for answers to one ask
    engine: str = "simulate"
    threads: int | None = Field(None, ge=1)
    lanes: int = Field(default_factory=default_lanes, ge=1)  # parts of a cohort that can run at once
    together: int | None = Field(None, ge=1)  # clients vectorised in one step; default: more than one for tiny models only
    log: tuple[str, ...] = ()  # also to these, as it goes: tensorboard, mlflow
    verify: bool = False  # also check the identities of the run's methods on its data
    private_states: str = "memory"  # or "disk": memory-mapped files in the run's folder

    @field_validator("private_states")
    @classmethod
    def _place(cls, value: str) -> str:
        if value not in ("memory", "disk"):
            raise ValueError('private_states is "memory" or "disk"')
        return value

    @property
    def evaluation_rounds(self) -> list[int]:
        """Rounds after which clients are scored: 0 (before training), every so many, and the last."""
        every = self.eval_every or max(1, self.rounds // 25)
        return sorted({0, self.rounds, *range(every, self.rounds + 1, every)})

    def all_methods(self) -> tuple[MethodSpec, ...]:
        """Baselines first (unless told not to), then the methods asked for, each name and setting once."""
        named = {m.name for m in self.methods}
        first = [MethodSpec(name=name) for name in BASELINES if name not in named] if self.baselines else []
        order = {name: n for n, name in enumerate(BASELINES)}
        return tuple(sorted([*first, *self.methods], key=lambda m: order.get(m.name, len(order)) if self.baselines else 0))


def read_spec(path: Path | None, changes: dict[str, Any]) -> Spec:
    """The specification in a TOML file (None: all defaults) with `changes` (nested like the file) put on top.

    AtollError, one line, for a missing file, bad TOML, an unknown key (with the nearest known one) or a value out of range.
    """
    return make_spec(merged({} if path is None else read_toml(path), changes))


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says. AtollError where there is none, where it says nothing, or where it can't be read."""
    if path.suffix.lower() in (".csv", ".parquet"):
        raise AtollError(f"{path} holds data, not a specification. Give it as --data {path}, with --client and --label.")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        if not content:
            raise AtollError(f"{path} is an empty specification. Without one, options alone say what is run.")
        return content
    except FileNotFoundError:
        raise AtollError(f"There is no specification {path}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise AtollError(f"{path} can't be read as TOML: {error}.") from None


def make_spec(content: dict[str, Any]) -> Spec:
    """A Spec from nested values, with Atoll's errors. Without methods it gets a choice of families."""
    content = dict(content)
    if not content.get("methods"):
        content["methods"] = DEFAULT_METHODS
        content["settings"] = {**DEFAULT_SETTINGS, **content.get("settings", {})}
    content["methods"] = tuple(_method(m) for m in _each(content["methods"]))
    for name in ("model", "log"):
        if isinstance(content.get(name), str):
            content[name] = (content[name],)
    if isinstance(content.get("data"), dict) and isinstance(content["data"].get("skew"), str):
        content["data"] = {**content["data"], "skew": (content["data"]["skew"],)}
    try:
        return Spec.model_validate(content)
    except ValidationError as error:
        raise _explained(error) from None


def load_data(spec: Spec) -> Federation:
    """The federation that a specification names."""
    from atoll.data import load

    return load(**data_arguments(spec))


def data_arguments(spec: Spec) -> dict[str, Any]:
    """The arguments of `atoll.data.load` that a specification stands for."""
    d = spec.data
    how = {"clients": d.clients, "unseen": d.unseen, "split": list(d.split), "split_seed": d.split_seed, "public": d.public, "limit": d.limit}
    how["resample"] = d.resample
    return {"data": d.source, "skew": list(d.skew), "seed": spec.seed if d.seed is None else d.seed, **how, **d.options}


def _each(given: Any) -> list[Any]:
    """The methods asked for; "all" stands for every method of the table that is not asked for itself."""
    asked = list(given)
    named = {m if isinstance(m, str) else m.get("name") for m in asked if isinstance(m, str | dict)}
    return [m for one in asked for m in ([row.name for row in TABLE if row.name not in named] if one in ("all", {"name": "all"}) else [one])]


def _method(given: Any) -> Any:
    """[[methods]] tables may hold hyperparameters beside the name: name = "fedprox", mu = 0.1."""
    if isinstance(given, str):
        return {"name": given}
    if isinstance(given, dict) and "name" in given:
        extra = {key: value for key, value in given.items() if key not in ("name", "settings")}
        return {"name": given["name"], "settings": {**given.get("settings", {}), **extra}}
    return given


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Nested values with `changes` put on top, section by section."""
    made = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(made.get(key), dict)
        made[key] = merged(made[key], value) if both else value
    return made


def _explained(error: ValidationError) -> AtollError:
    first = error.errors()[0]
    at = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        section = {"data": DataSpec, "methods": MethodSpec}.get(at[0], Spec)
        return unknown("key of the specification" if len(at) == 1 else f"key of [{at[0]}]", at[-1], section.model_fields)
    message = first["msg"].removeprefix("Value error, ")
    return AtollError(f"{'.'.join(at)} = {first['input']!r}: {message[:1].lower()}{message[1:]}.")


def to_toml(spec: Spec, under: str = "") -> str:
    """The specification as TOML with every default filled in; None is left out. under: the table that its parts stand under, in a larger file."""
    content = spec.model_dump(mode="json")
    methods, data = content.pop("methods"), content.pop("data")
    inside = f"{under}." if under else ""
    lines = [f"[{under}]"] if under else []
    lines += toml_lines(content)
    lines += ["", f"[{inside}data]", *toml_lines(data)]
    for made in methods:
        lines += ["", f"[[{inside}methods]]", *toml_lines(made)]
    return "\n".join(lines) + "\n"


def toml_lines(values: dict[str, Any]) -> list[str]:
    """One line per value; None is left out."""
    return [f"{key} = {toml_value(value)}" for key, value in values.items() if value is not None]


def toml_value(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {toml_value(part)}" for key, part in value.items() if part is not None) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(part) for part in value) + "]"
    return json.dumps(value, ensure_ascii=False)
