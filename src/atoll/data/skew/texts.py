"""Options of a skew from text: "0.2", "alpha=0.1,least=3", "share=0.2,kind=random". What may stand there is what the skew's fields are."""

from __future__ import annotations

import types
from dataclasses import MISSING, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from atoll.core.errors import AtollError, unknown


def options(kind: type[Any], name: str, rest: str, text: str, example: str) -> dict[str, Any]:
    """Values of the fields of dataclass `kind` from `rest`, what stands behind "name:" in `text`.

    A field is int, float, str or a Literal of texts, each possibly `| None`. One that has no default must be given, and the first such needs no name.
    AtollError, one line, for options that there are not, values of another type and what is missing.
    """
    types_ = get_type_hints(kind)
    known = {f.name: _plain(types_[f.name]) for f in fields(kind)}
    needed = [f.name for f in fields(kind) if f.default is MISSING]
    unnamed = next(iter(known)) if needed else None
    values: dict[str, Any] = {}
    for n, item in enumerate(part.strip() for part in rest.split(",") if rest):
        option, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            if n or unnamed is None:
                raise AtollError(f"Skew {text!r}: {item!r} can't be read. Write it as in {example}.")
            option, value = unnamed, item
        if option not in known:
            raise unknown(f"option of skew {name}", option, known) if known else AtollError(f"Skew {text!r}: {name} has no options.")
        if option in values:
            raise AtollError(f"Skew {text!r}: {option} is given twice. Keep one.")
        values[option] = _value(known[option], value, f"{option} of skew {name}", text, example)
    if any(option not in values for option in needed):
        raise AtollError(f"Skew {text!r} needs a value, as in {example}.")
    return values


def _plain(kind: Any) -> Any:
    """The type without `| None`."""
    return next(one for one in get_args(kind) if one is not types.NoneType) if get_origin(kind) in (Union, types.UnionType) else kind


def _value(kind: Any, value: str, what: str, text: str, example: str) -> Any:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise unknown(what, value, get_args(kind))
        return value
    try:
        return kind(value)
    except ValueError:
        noun = "whole number" if kind is int else "number"
        raise AtollError(f"Skew {text!r}: {value!r} is not a {noun}. Write it as in {example}.") from None
