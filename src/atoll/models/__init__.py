"""The table of models, and how their names are read. A model's module is imported only when the model is built."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from atoll.core.errors import AtollError, unknown

if TYPE_CHECKING:
    from atoll.core.model import Model


class Row(NamedTuple):
    """One model of the table."""

    builder: str  # "module:function" under atoll.models
    positional: str | None  # the option that values without a name set, as in mlp:200,100
    about: str


TABLE: dict[str, Row] = {
    "softmax": Row("zoo:softmax", None, "softmax regression; linear regression for regression tasks. Option bias"),
    "mlp": Row("zoo:mlp", "hidden", "dense layers with ReLU: mlp:200,100. Options hidden, rate (width)"),
    "cnn": Row("zoo:cnn", None, "the CNN of McMahan et al. (2017), 1.66 million parameters for 28x28 images"),
}


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """("mlp", {"hidden": (200, 100)}) from "mlp:200,100"; named options as in "resnet:norm=batch,depth=14". Unknown names are AtollErrors."""
    name, _, rest = text.strip().partition(":")
    row = TABLE.get(name)
    if row is None:
        raise unknown("model", name, TABLE)
    options: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in rest.split(","))):
        option, equals, value = item.partition("=")
        if equals:
            if option in options:
                raise AtollError(f"Model {text!r}: the option {option!r} is given twice.")
            options[option] = _value(value)
        elif row.positional is None:
            raise AtollError(f"Model {text!r}: {item!r} is no option. Write {name}:option=value. {name} is {row.about}.")
        else:
            options[row.positional] = (*options.get(row.positional, ()), _value(item))
    return name, {option: value[0] if isinstance(value, tuple) and len(value) == 1 else value for option, value in options.items()}


def build(name: str, input_shape: Sequence[int], outputs: int, task: str = "classification", **options: Any) -> Model:
    """The model of this name for rows of `input_shape`. `name` may carry options as text ("mlp:200,100"); `options` win over those."""
    name, given = parse(name)
    module, _, function = TABLE[name].builder.partition(":")
    builder = getattr(import_module(f"atoll.models.{module}"), function)
    options = given | options
    known = [p.name for p in inspect.signature(builder).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise unknown(f"option of model {name}", option, known) if known else AtollError(f"Model {name} has no options, but {option!r} is given.")
    return builder(tuple(input_shape), outputs, task, **options)


def _value(text: str) -> Any:
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
