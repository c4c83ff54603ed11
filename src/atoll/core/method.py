"""What a method is: a frozen dataclass with server code and client programs, and hyperparameters with declared ranges.

Server code:     init(fed) -> server;  round(server, fed) -> server;  share(server) -> what clients may see (default: the server state)
Client programs: join(k, shared) -> private state, at first contact;  program(k, shared[, mine]) -> reply, or (reply, private state) where `join` exists
                 welcome(shared) -> what of it is sent to a client that joins and is given to `join`; most methods have none: all of it
Evaluation:      personalize(k, shared) -> what client k predicts with;  global_model(k, shared) -> the common model's;  predict(k, w, x) -> outputs
                 before(k, shared) -> what k would predict with before its last adaptation, where that is not the common model's; most methods have none
                 cluster(k, shared) -> int32, the cluster whose model k predicts with, where a method finds clusters of clients; -1: in none yet
Checks:          check(), when the method is made: raises AtollError where hyperparameters, each in its range, do not go together; most methods have none
                 check_model(model), before anything is trained: raises AtollError for models that the method can't work with; most methods have none
Architectures:   architectures(model) -> the models that clients take in turn, made of the run's only one (widths); most methods have none
A method defines `personalize`, `global_model` or both; with only one of them it stands for both rows of the table that make sense.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

from atoll.core.errors import AtollError, unknown

T = TypeVar("T")


def hyper(
    default: Any, *, ge: float | None = None, gt: float | None = None, le: float | None = None, lt: float | None = None, choices: tuple[Any, ...] = (),
    search: tuple[Any, ...] | list[Any] | None = None,
) -> Any:  # fmt: skip
    """A hyperparameter: its default and its range (`ge` >=, `gt` >, `le` <=, `lt` <) or its `choices`.

    search: where tuning looks for its value: (low, high), (low, high, "log") or a list of values. Without it, it is not tuned, unless it is called lr.
    """
    return dataclasses.field(default=default, metadata={"ge": ge, "gt": gt, "le": le, "lt": lt, "choices": choices, "search": search})


def blocks(default: int | tuple[str, ...]) -> Any:
    """A hyperparameter that says where a model is cut: a number of blocks, or their names (on the command line "2" or "fc1,head")."""
    return dataclasses.field(default=default, metadata={"blocks": True})


@dataclass_transform(frozen_default=True, field_specifiers=(hyper, blocks))
def method(cls: type[T]) -> type[T]:
    """Makes a class a method: a frozen dataclass whose hyperparameters are checked when it is made."""
    made = checked(cls)
    missing = [name for name in ("init", "round") if not callable(getattr(made, name, None))]
    if missing or not (hasattr(made, "personalize") or hasattr(made, "global_model")):
        raise AtollError(f"{cls.__name__} is not a method yet: it needs init, round and personalize or global_model.")
    return made


@dataclass_transform(frozen_default=True, field_specifiers=(hyper, blocks))
def checked(cls: type[T]) -> type[T]:
    """Makes a class a frozen dataclass whose values are checked against their ranges, and by its own `check(self)`, when it is made."""
    cls.__post_init__ = _check  # type: ignore[attr-defined]
    return dataclasses.dataclass(frozen=True)(cls)


def hyperparameters(made: Any) -> dict[str, Any]:
    """Name -> value of a method's hyperparameters."""
    return {f.name: getattr(made, f.name) for f in dataclasses.fields(made)}


RATES = (1e-3, 1.0, "log")  # where tuning looks for a learning rate


def search_space(cls: type[Any]) -> dict[str, tuple[Any, ...] | list[Any]]:
    """Hyperparameter -> where tuning looks for its value; empty where a method has nothing to tune."""
    found = {f.name: f.metadata.get("search") or (RATES if f.name == "lr" else None) for f in dataclasses.fields(cls)}
    return {name: where for name, where in found.items() if where is not None}


def configured(cls: type[T], values: dict[str, Any]) -> T:
    """A method from named values as they come from a file or a command line; text is read as the field's type."""
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    read = {}
    for name, value in values.items():
        if name not in fields:
            raise unknown(f"hyperparameter of {cls.__name__}", name, fields)
        if fields[name].metadata.get("blocks"):
            read[name] = _read_blocks(value)
        else:
            read[name] = _read(cls.__name__, name, value, fields[name].default)
    return cls(**read)


@functools.lru_cache(maxsize=256)
def the_same(made: T) -> T:
    """The first of all equal methods of this process: programs are compared by the object that they are bound to, and what is compiled once serves all."""
    return made


def rate_of(made: Any) -> float | None:
    """The learning rate of a method whose client programs may be compiled for any rate; None of others.

    Those are the methods of Atoll: programs of one's own may look at the rate, and what is around a method makes its inner one of numbers.
    """
    own = type(made).__module__.startswith("atoll.methods.") and not hasattr(made, "around") and not getattr(made, "reads_rate", False)
    rate = getattr(made, "lr", None)
    return rate if own and isinstance(rate, float) else None


def at_rate(made: T, rate: Any) -> T:
    """The method with another learning rate, which may be traced and is not checked."""
    other = copy.copy(made)
    object.__setattr__(other, "lr", rate)
    return other


def label(made: Any) -> str:
    """The name a method goes by in tables: its class's `label`, else the class's name."""
    return getattr(made, "label", type(made).__name__)


def stateless(program: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a program that neither reads nor writes the private state: it returns its reply alone, and may be asked in `init`."""
    program.atoll_stateless = True  # type: ignore[attr-defined]
    return program


def on_host(program: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a program that runs as plain Python on NumPy rows (k.x, k.y): slower, but anything goes."""
    program.atoll_on_host = True  # type: ignore[attr-defined]
    return program


def shown(made: Any, server: Any) -> Any:
    """What a method in the state `server` shows its clients: `share(server)`, by default all of it."""
    return made.share(server) if hasattr(made, "share") else server


def welcome(made: Any, shared: Any) -> Any:
    """What of `shared` a client joins from: the method's `welcome(shared)`, by default all of it."""
    return made.welcome(shared) if hasattr(made, "welcome") else shared


def is_stateless(program: Callable[..., Any]) -> bool:
    return getattr(program, "atoll_stateless", False)


def is_on_host(program: Callable[..., Any]) -> bool:
    return getattr(program, "atoll_on_host", False)


def _check(self: Any) -> None:
    for f in dataclasses.fields(self):
        value, rule = getattr(self, f.name), f.metadata
        where = f"{type(self).__name__}({f.name}={value!r})"
        if rule.get("blocks"):
            named = isinstance(value, tuple) and all(isinstance(v, str) for v in value)
            if not named and not (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
                raise AtollError(f"{where}: {f.name} is a number of blocks (0 or more) or a tuple of block names.")
            continue
        if rule.get("choices"):
            if value not in rule["choices"]:
                raise AtollError(f"{where}: {f.name} is one of {', '.join(map(repr, rule['choices']))}.")
            continue
        if isinstance(f.default, bool) or not isinstance(f.default, int | float):
            continue
        if value is None or isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise AtollError(f"{where}: {f.name} is a number.")
        if isinstance(f.default, int) and not isinstance(value, int):
            raise AtollError(f"{where}: {f.name} is a whole number.")
        broken = [f"{sign} {bound:g}" for sign, bound, ok in _bounds(rule, value) if not ok]
        if broken:
            raise AtollError(f"{where}: {f.name} must be {' and '.join(broken)}.")
    if hasattr(self, "check"):
        self.check()


def _bounds(rule: Any, value: float) -> list[tuple[str, float, bool]]:
    tests = (("ge", ">=", lambda a, b: a >= b), ("gt", ">", lambda a, b: a > b), ("le", "<=", lambda a, b: a <= b), ("lt", "<", lambda a, b: a < b))
    return [(sign, rule[name], test(value, rule[name])) for name, sign, test in tests if rule.get(name) is not None]


def _read(owner: str, name: str, value: Any, default: Any) -> Any:
    if not isinstance(value, str) or isinstance(default, str):
        return float(value) if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool) else value
    text = value.strip()
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}[text.lower()]
        if isinstance(default, int):
            return int(text)
        if isinstance(default, float):
            return float(text)
    except (ValueError, KeyError):
        kind = "true or false" if isinstance(default, bool) else "a whole number" if isinstance(default, int) else "a number"
        raise AtollError(f"{owner}: {name}={value!r} cannot be read as {kind}.") from None
    return value


def _read_blocks(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str):
        return int(value) if value.strip().isdigit() else tuple(part.strip() for part in value.split(",") if part.strip())
    return value
