"""Selectors: whom a round asks. The table of them, and how their names are read."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

from atoll.core.errors import AtollError, unknown
from atoll.core.federation import Selector
from atoll.core.method import configured
from atoll.parts.selection.uniform import Uniform

__all__ = ["TABLE", "Uniform", "kind_of", "selector"]


class Row(NamedTuple):
    """One selector, as `atoll methods` lists it."""

    name: str
    target: str  # "module:Class" under atoll.parts.selection
    about: str
    paper: str


TABLE: tuple[Row, ...] = (
    Row("uniform", "uniform:Uniform", "so many clients, all alike", "McMahan et al., AISTATS 2017"),
    Row("weighted", "weighted:Weighted", "those with many rows more often; replies then weigh alike", "Li et al., MLSys 2020"),
    Row("tifl", "tifl:TiFL", "from one tier of equally fast clients at a time", "Chai et al., HPDC 2020"),
    Row("fedsae", "fedsae:FedSAE", "clients with large losses, each with the work it can be expected to manage", "Li et al., IJCNN 2021"),
    Row("cucb", "cucb:CUCB", "clients whose labels, guessed from gradients, together are even", "Yang et al., EUSIPCO 2021"),
    Row("favor", "favor:FAVOR", "clients that a double deep Q-network expects to help most", "Wang et al., INFOCOM 2020"),
)


def selector(text: str, per_round: int | None) -> Selector:
    """A selector from "name" or "name:setting=value,setting=value". AtollError for an unknown name, setting or value."""
    name, _, rest = (part.strip() for part in text.partition(":"))
    rows = {row.name: row for row in TABLE}
    if name not in rows:
        raise unknown("selector", name, rows)
    settings: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise AtollError(f"Selector {text!r}: {item!r} has no value; write {name}:setting=value.")
        settings[key] = value
    if "per_round" in settings:
        raise AtollError(f"Selector {text!r}: how many clients a round asks is said with per_round (--per-round).")
    return configured(kind_of(rows[name]), {**settings, "per_round": per_round})


def kind_of(row: Row) -> type[Any]:
    """The class of a selector of the table."""
    module, _, kind = row.target.partition(":")
    return getattr(importlib.import_module(f"atoll.parts.selection.{module}"), kind)
