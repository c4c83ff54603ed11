"""The table of models, and how their names are read. A model's module is imported only when the model is built."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from atoll.core.errors import AtollError, unknown

if TYPE_CHECKING:
    from atoll.core.model import Model

__all__ = ["TABLE", "build", "own", "parse"]


class Row(NamedTuple):
    """One model of the table."""

    builder: str  # "module:function" under atoll.models
    positional: str | None  # the option set by values without a name, as in mlp:200,100
    about: str


TABLE: dict[str, Row] = {
    "softmax": Row("zoo:softmax", None, "softmax regression, linear regression for regression tasks; option bias"),
    "mlp": Row("zoo:mlp", "hidden", "dense layers with ReLU, as in mlp:200,100; options hidden, rate (width), norm (none or batch)"),
    "lenet": Row("images:lenet", None, "a small CNN after LeNet-5, 61,706 parameters for 28x28 images"),
    "cnn": Row("images:cnn", None, "the CNN of McMahan et al. (2017), 1,663,370 parameters for 28x28 images"),
    "resnet": Row("images:resnet", None, "a small ResNet for 8x8 to 32x32 images; options norm (group or batch), depth (8, 14, 20), width"),
    "heterofl": Row("images:heterofl", "rate", "the MNIST CNN of HeteroFL at a width rate, as in heterofl:0.5; option rate"),
    "steganalyser": Row(
        "steganalyser:steganalyser", "width", "a small CNN on fixed high-pass residuals, for steganalysis; options width, hidden, threshold, levels"
    ),
    "gru": Row("recurrent:gru", "hidden", "character model with GRU layers; options hidden, layers, embedding, vocabulary"),
    "bilstm": Row("recurrent:bilstm", "hidden", "texts: LSTM layers in both directions; options hidden, layers, embedding, vocabulary"),
    "lstm": Row("recurrent:lstm", "hidden", "character model with LSTM layers; options hidden, layers, embedding, vocabulary"),
}


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """("mlp", {"hidden": (200, 100)}) from "mlp:200,100"; named options as in "resnet:norm=batch,depth=14".

    AtollError for an unknown model or option, an option given twice, or a value without a name where the model takes none.
    """
    name, _, rest = (part.strip() for part in text.partition(":"))
    row = _row(name)
    options: dict[str, Any] = {}
    unnamed = []
    for item in filter(None, (part.strip() for part in rest.split(","))):
        option, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            unnamed.append(_value(item))
        elif option in options:
            raise AtollError(f"Model {text!r}: the option {option!r} is given twice.")
        else:
            options[option] = _value(value)
    if unnamed and row.positional is None:
        raise AtollError(f"Model {text!r}: {unnamed[0]!r} has no name; write {name}:option=value. {name} is {row.about}.")
    if unnamed:
        if row.positional in options:
            raise AtollError(f"Model {text!r}: the option {row.positional!r} is given twice.")
        options[str(row.positional)] = unnamed[0] if len(unnamed) == 1 else tuple(unnamed)
    _check_options(name, options)
    return name, options


def build(name: str, input_shape: Sequence[int], outputs: int, task: str = "classification", **options: Any) -> Model:
    """The model `name` for rows of `input_shape`. The name may carry options ("mlp:200,100"); those given here win over them."""
    name, written = parse(name)
    options = written | options
    _check_options(name, options)
    if not (isinstance(outputs, int) and outputs > 0):
        raise AtollError(f"Model {name}: the number of outputs is a positive whole number, not {outputs!r}.")
    fixed = sorted((key, tuple(value) if isinstance(value, list) else value) for key, value in options.items())
    return _built(name, tuple(input_shape), outputs, task, tuple(fixed))


@functools.lru_cache(maxsize=64)
def _built(name: str, shape: tuple[int, ...], outputs: int, task: str, options: tuple[tuple[str, Any], ...]) -> Model:
    """One model for all who ask for the same: programs that were compiled for it are found again."""
    return _builder(name)(shape, outputs, task, **dict(options))


def own(module: Any, input_shape: Sequence[int], outputs: int, task: str = "classification", name: str | None = None) -> Model:
    """A model made of the user's own module.

    module: a flax.nnx module, its class or a function `rngs -> module`; a flax.linen module; or a pair of functions (init, apply). See
    `atoll.models.adapt` for what each needs. AtollError if it cannot be run on rows of `input_shape` or gives other outputs than said.
    """
    from atoll.models import adapt

    return adapt.own(module, input_shape, outputs, task, name)


def _row(name: str) -> Row:
    if name not in TABLE:
        raise unknown("model", name, TABLE)
    return TABLE[name]


def _builder(name: str) -> Callable[..., Model]:
    module, _, function = _row(name).builder.partition(":")
    return getattr(import_module(f"atoll.models.{module}"), function)


def _check_options(name: str, options: dict[str, Any]) -> None:
    known = [p.name for p in inspect.signature(_builder(name)).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known and not known:
            raise AtollError(f"Model {name} has no options, but {option!r} is given.")
        if option not in known:
            raise unknown(f"option of model {name}", option, known)


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
