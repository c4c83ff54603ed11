"""The table of methods: name, class, survey family and facts. Names are known without importing a method; `get` imports one."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

from atoll.core.errors import unknown


class Row(NamedTuple):
    """One method, as `atoll methods` lists it."""

    name: str  # on the command line
    target: str  # "module:Class" under atoll.methods
    title: str  # in tables
    family: str  # of the survey, or "baseline"
    paper: str
    kept: str  # what is kept where
    traffic: str  # per round and client: down / up


TABLE: tuple[Row, ...] = (
    Row("local", "local:Local", "Local", "baseline", "-", "client: its model", "nothing"),
    Row("fedavg", "fedavg:FedAvg", "FedAvg", "baseline", "McMahan et al., AISTATS 2017", "server: model", "model / model"),
    Row("scaffold", "scaffold:Scaffold", "SCAFFOLD", "regularized loss", "Karimireddy et al., ICML 2020", "server: model, control; client: control", "2 models / 2 models"),
    Row("fedmd", "fedmd:FedMD", "FedMD", "knowledge distillation", "Li and Wang, NeurIPS workshop 2019", "client: its model", "row numbers, scores / scores"),
    Row("heterofl", "heterofl:HeteroFL", "HeteroFL", "model interpolation", "Diao et al., ICLR 2021", "server: widest model", "corner / corner"),
)

BY_NAME = {row.name: row for row in TABLE}


def row(name: str) -> Row:
    """The table's row of a method; unknown names suggest the nearest."""
    if name.lower() not in BY_NAME:
        raise unknown("method", name, BY_NAME)
    return BY_NAME[name.lower()]


def get(name: str) -> type[Any]:
    """The class of a method."""
    module, _, kind = row(name).target.partition(":")
    return getattr(importlib.import_module(f"atoll.methods.{module}"), kind)
