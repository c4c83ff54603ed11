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
    Row("majority", "majority:Majority", "Majority", "baseline", "-", "nothing", "nothing"),
    Row("local", "local:Local", "Local", "baseline", "-", "client: its model", "nothing"),
    Row("pooled", "pooled:Pooled", "Pooled", "baseline", "-", "one place: all rows, model", "nothing (all rows lie in one place)"),
    Row("fedavg", "fedavg:FedAvg", "FedAvg", "baseline", "McMahan et al., AISTATS 2017", "server: model", "model / model"),
    Row("fedavg-ft", "fedavg_ft:FedAvgFT", "FedAvg+FT", "baseline", "Wang et al., 2019", "server: model", "model / model"),
    Row("fedprox", "fedprox:FedProx", "FedProx", "regularized loss", "Li et al., MLSys 2020", "server: model", "model / model"),
    Row("scaffold", "scaffold:Scaffold", "SCAFFOLD", "regularized loss", "Karimireddy et al., ICML 2020", "both: control; server: model", "2 / 2 models"),
    Row("data-sharing", "data_sharing:DataSharing", "Data sharing", "data augmentation", "Zhao et al., 2018", "client: some rows", "model, once rows / model"),
    Row("fedcl", "fedcl:FedCL", "FedCL", "regularized loss", "Yao and Sun, ICIP 2020", "server: model, public rows", "2 models / model"),
    Row("moon", "moon:MOON", "MOON", "regularized loss", "Li et al., CVPR 2021", "server: model; client: its last model", "model / model"),
    Row("per-fedavg", "per_fedavg:PerFedAvg", "Per-FedAvg", "meta-learning", "Fallah et al., NeurIPS 2020", "server: model", "model / model"),
    Row("pfedme", "pfedme:PFedMe", "pFedMe", "meta-learning", "T. Dinh et al., NeurIPS 2020", "server: model; client: its model", "model / model"),
    Row("reptile", "reptile:Reptile", "Reptile", "meta-learning", "Jiang et al., 2019", "server: model, Adam's moments", "model / model"),
    Row("aruba", "aruba:ARUBA", "ARUBA", "meta-learning", "Khodak et al., NeurIPS 2019", "server: model, B, G", "2 / 2 models"),
    Row("fedper", "fedper:FedPer", "FedPer", "parameter decoupling", "Arivazhagan et al., 2019", "server: base; client: head", "base / base"),
    Row("lg-fedavg", "lg_fedavg:LGFedAvg", "LG-FedAvg", "parameter decoupling", "Liang et al., 2020", "server: head; client: base", "head / head"),
    Row("fedmd", "fedmd:FedMD", "FedMD", "knowledge distillation", "Li and Wang, 2019", "client: its model", "row numbers, scores / scores"),
    Row("fedamp", "fedamp:FedAMP", "FedAMP", "multi-task learning", "Huang et al., AAAI 2021", "server: all models; client: own", "model / model"),
    Row("heurfedamp", "fedamp:HeurFedAMP", "HeurFedAMP", "multi-task learning", "Huang et al., AAAI 2021", "server: all models; client: own", "model / model"),
    Row("apfl", "apfl:APFL", "APFL", "model interpolation", "Deng et al., 2020", "server: model; client: its model, mixing weight", "model / model"),
    Row("heterofl", "heterofl:HeteroFL", "HeteroFL", "model interpolation", "Diao et al., ICLR 2021", "server: widest model", "corner / corner"),
    Row("ifca", "ifca:IFCA", "IFCA", "clustering", "Ghosh et al., NeurIPS 2020", "server: k models", "k models / model"),
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
