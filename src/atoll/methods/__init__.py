"""The table of methods: name, class, survey family and facts; and of what can be put around one. Names are known without importing; `get` imports."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
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


class Wrapper(NamedTuple):
    """What can be put around a method: "fedprox+ft" is FedProx with fine-tuning."""

    name: str  # on the command line, behind a method's name and "+"
    target: str  # "module:function", which makes a method's class of a method's class
    title: str  # in tables, behind a method's title and "+"
    family: str  # of a baseline in it; any other method stays in its family
    about: str
    paper: str


TABLE: tuple[Row, ...] = (
    Row("majority", "majority:Majority", "Majority", "baseline", "-", "nothing", "nothing"),
    Row("local", "local:Local", "Local", "baseline", "-", "client: its model", "nothing"),
    Row("pooled", "pooled:Pooled", "Pooled", "baseline", "-", "one place: all rows, model", "nothing (all rows lie in one place)"),
    Row("fedavg", "fedavg:FedAvg", "FedAvg", "baseline", "McMahan et al., AISTATS 2017", "server: model", "model / model"),
    Row("split-learning", "split_learning:SplitLearning", "Split learning", "baseline", "Gupta and Raskar, 2018", "both: a part", "d / d, label per row"),
    Row("fedavg-ft", "fedavg_ft:FedAvgFT", "FedAvg+FT", "baseline", "Wang et al., 2019", "server: model", "model / model"),
    Row("fedprox", "fedprox:FedProx", "FedProx", "regularized loss", "Li et al., MLSys 2020", "server: model", "model / model"),
    Row("scaffold", "scaffold:Scaffold", "SCAFFOLD", "regularized loss", "Karimireddy et al., ICML 2020", "both: control; server: model", "2 / 2 models"),
    Row("data-sharing", "data_sharing:DataSharing", "Data sharing", "data augmentation", "Zhao et al., 2018", "client: some rows", "model, once rows / model"),
    Row("astraea", "astraea:Astraea", "Astraea", "data augmentation", "Duan et al., ICCD 2019", "server: model, label counts", "model, L ratios / model"),
    Row("faug", "faug:FAug", "FAug", "data augmentation", "Jeong et al., 2018", "both: generator; server: model", "model, once generator / model, once rows"),
    Row("fedhome", "fedhome:FedHome", "FedHome", "data augmentation", "Wu et al., IEEE TMC 2022", "server: autoencoder, head", "model, decoder / both"),
    Row("fedcl", "fedcl:FedCL", "FedCL", "regularized loss", "Yao and Sun, ICIP 2020", "server: model, public rows", "2 models / model"),
    Row("moon", "moon:MOON", "MOON", "regularized loss", "Li et al., CVPR 2021", "server: model; client: its last model", "model / model"),
    Row("per-fedavg", "per_fedavg:PerFedAvg", "Per-FedAvg", "meta-learning", "Fallah et al., NeurIPS 2020", "server: model", "model / model"),
    Row("pfedme", "pfedme:PFedMe", "pFedMe", "meta-learning", "T. Dinh et al., NeurIPS 2020", "server: model; client: its model", "model / model"),
    Row("reptile", "reptile:Reptile", "Reptile", "meta-learning", "Jiang et al., 2019", "server: model, Adam's moments", "model / model"),
    Row("aruba", "aruba:ARUBA", "ARUBA", "meta-learning", "Khodak et al., NeurIPS 2019", "server: model, B, G", "2 / 2 models"),
    Row("fedper", "fedper:FedPer", "FedPer", "parameter decoupling", "Arivazhagan et al., 2019", "server: base; client: head", "base / base"),
    Row("fedrep", "fedrep:FedRep", "FedRep", "parameter decoupling", "Collins et al., ICML 2021", "server: base; client: head", "base / base"),
    Row("fedbabu", "fedbabu:FedBABU", "FedBABU", "parameter decoupling", "Oh et al., ICLR 2022", "server: base", "base / base"),
    Row("fedbn", "fedbn:FedBN", "FedBN", "parameter decoupling", "Li et al., ICLR 2021", "server: the rest; client: BatchNorm", "the rest / the rest"),
    Row("fedrod", "fedrod:FedRoD", "FedRoD", "parameter decoupling", "Chen and Chao, ICLR 2022", "server: model; client: a second head", "model / model"),
    Row("fedpac", "fedpac:FedPAC", "FedPAC", "parameter decoupling", "Xu et al., ICLR 2023", "server: base, means; client: head", "model, means / the same"),
    Row("lg-fedavg", "lg_fedavg:LGFedAvg", "LG-FedAvg", "parameter decoupling", "Liang et al., 2020", "server: head; client: base", "head / head"),
    Row("lg-ensemble", "lg_ensemble:LGEnsemble", "LG-FedAvg ensemble", "parameter decoupling", "Liang et al., 2020", "base; server: head", "head / model"),
    Row("lg-fair", "lg_fair:LGFair", "LG-FedAvg fair", "parameter decoupling", "Liang et al., 2020", "server: head; client: base, adversary", "head / head"),
    Row("furl", "furl:FURL", "FURL", "parameter decoupling", "Bui et al., 2019", "server: the rest; client: its vector", "the rest / the rest"),
    Row("fedmd", "fedmd:FedMD", "FedMD", "knowledge distillation", "Li and Wang, 2019", "client: its model", "row numbers, scores / scores"),
    Row("fd", "fd:FD", "FD", "knowledge distillation", "Jeong et al., 2018", "server: tables; client: its model", "L x L table / L x L table"),
    Row("feddf", "feddf:FedDF", "FedDF", "knowledge distillation", "Lin et al., NeurIPS 2020", "server: model per architecture", "model / model"),
    Row(
        "d-distillation", "d_distillation:DDistillation", "D-Distillation", "knowledge distillation", "Bistritz et al., NeurIPS 2020",
        "client: its model, opinions", "to each neighbour opinions of rows",
    ),
    Row("fedgen", "fedgen:FedGen", "FedGen", "knowledge distillation", "Zhu et al., ICML 2021", "server: model, generator", "model, generator / model"),
    Row("fedgkt", "fedgkt:FedGKT", "FedGKT", "knowledge distillation", "He et al., NeurIPS 2020", "both: their blocks", "rows x L / rows x (d + L + 1)"),
    Row("fedproto", "fedproto:FedProto", "FedProto", "knowledge distillation", "Tan et al., AAAI 2022", "server: means; client: its model", "L x d / L x d"),
    Row("fedhealth", "fedhealth:FedHealth", "FedHealth", "transfer learning", "Chen et al., IEEE Intell. Syst. 2020", "server: model", "2 models / model, d^2"),
    Row("fedsteg", "fedhealth:FedSteg", "FedSteg", "transfer learning", "Yang et al., IEEE TNSE 2020", "server: model", "2 models / model, d^2"),
    Row("fedamp", "fedamp:FedAMP", "FedAMP", "multi-task learning", "Huang et al., AAAI 2021", "server: all models; client: own", "model / model"),
    Row("heurfedamp", "heurfedamp:HeurFedAMP", "HeurFedAMP", "multi-task learning", "Huang et al., AAAI 2021", "server: models; client: own", "model / model"),
    Row("mocha", "mocha:MOCHA", "MOCHA", "multi-task learning", "Smith et al., NeurIPS 2017", "server: all models, relations; client: duals", "model / model"),
    Row("virtual", "virtual:VIRTUAL", "VIRTUAL", "multi-task learning", "Corinzia et al., 2019", "server: posterior; client: factor, head", "2 / 2 bases"),
    Row("fedcurv", "fedcurv:FedCurv", "FedCurv", "multi-task learning", "Shoham et al., 2019", "server: model, 2 sums; client: importance", "3 / 3 models"),
    Row("fedfomo", "fedfomo:FedFomo", "FedFomo", "multi-task learning", "Zhang et al., ICLR 2021", "server: affinities; client: its model", "M models / model"),
    Row("pfedgraph", "pfedgraph:PFedGraph", "pFedGraph", "multi-task learning", "Ye et al., ICML 2023", "server: all models; client: own", "2 models / model"),
    Row("pfedhn", "pfedhn:PFedHN", "pFedHN", "multi-task learning", "Shamsian et al., ICML 2021", "server: hypernetwork", "model / model"),
    Row("ditto", "ditto:Ditto", "Ditto", "multi-task learning", "Li et al., ICML 2021", "server: model; client: its model", "model / model"),
    Row("l2gd", "l2gd:L2GD", "L2GD", "model interpolation", "Hanzely and Richtarik, 2020", "server: mean; client: model, mean", "model / model at times"),
    Row("l2sgd", "l2sgd:L2SGD", "L2SGD+", "model interpolation", "Hanzely and Richtarik, 2020", "client: model, gradients", "model / model at times"),
    Row("apfl", "apfl:APFL", "APFL", "model interpolation", "Deng et al., 2020", "server: model; client: its model, mixing weight", "model / model"),
    Row("fedala", "fedala:FedALA", "FedALA", "model interpolation", "Zhang et al., AAAI 2023", "server: model; client: its model, weights", "model / model"),
    Row("knn-per", "knn_per:KNNPer", "kNN-Per", "model interpolation", "Marfoq et al., ICML 2022", "server: model", "model / model"),
    Row("mapper", "mapper:MAPPER", "MAPPER", "model interpolation", "Mansour et al., 2020", "server: model", "model / model"),
    Row("dapper", "dapper:DAPPER", "DAPPER", "model interpolation", "Mansour et al., 2020", "server: model, rows; client: model", "once model, rows / nothing"),
    Row("heterofl", "heterofl:HeteroFL", "HeteroFL", "model interpolation", "Diao et al., ICLR 2021", "server: widest model", "corner / corner"),
    Row("cfl", "cfl:CFL", "CFL", "clustering", "Sattler et al., TNNLS 2020", "server: tree of models, updates of splits", "model / model"),
    Row("fl-hc", "fl_hc:FLHC", "FL+HC", "clustering", "Briggs et al., IJCNN 2020", "server: model per cluster", "model / model"),
    Row("cbfl", "cbfl:CBFL", "CBFL", "clustering", "Huang et al., J. Biomed. Inform. 2019", "server: encoder, K models; client: encoder", "K / K models"),
    Row("fedgroup", "fedgroup:FedGroup", "FedGroup", "clustering", "Duan et al., ISPA 2021", "server: model, direction per group", "model / model"),
    Row("fesem", "fesem:FeSEM", "FeSEM", "clustering", "Xie et al., 2020", "server: K centres, all models", "model / model"),
    Row("hypcluster", "hypcluster:HypCluster", "HypCluster", "clustering", "Mansour et al., 2020", "server: q models", "q models / model"),
    Row("ifca", "ifca:IFCA", "IFCA", "clustering", "Ghosh et al., NeurIPS 2020", "server: k models", "k models / model"),
)

WRAPPERS: tuple[Wrapper, ...] = (
    Wrapper("momentum", "atoll.parts.server_optimizer:momentum", "M", "server optimizer", "the server steps with momentum", "Hsu et al., 2019"),
    Wrapper("adagrad", "atoll.parts.server_optimizer:adagrad", "Adagrad", "server optimizer", "the server steps with Adagrad", "Reddi et al., ICLR 2021"),
    Wrapper("adam", "atoll.parts.server_optimizer:adam", "Adam", "server optimizer", "the server steps with Adam", "Reddi et al., ICLR 2021"),
    Wrapper("yogi", "atoll.parts.server_optimizer:yogi", "Yogi", "server optimizer", "the server steps with Yogi", "Reddi et al., ICLR 2021"),
    Wrapper("clustered", "atoll.parts.clustered:clustered", "clusters", "clustering", "clients that learn alike are put together and train apart", "ours"),
    Wrapper("ft", "atoll.parts.wrappers:fine_tuned", "FT", "baseline", "any method with fine-tuning: clients train on before predicting", "Wang et al., 2019"),
)

BY_NAME = {row.name: row for row in TABLE}


def row(name: str) -> Row:
    """The table's row of a method, also of one in wrappers ("fedprox+ft", "fedavg+adam+ft"); unknown names suggest the nearest."""
    base, *wrappers = name.lower().split("+")
    if base not in BY_NAME:
        raise unknown("method", name, BY_NAME)
    found = BY_NAME[base]
    for around in map(_wrapper, wrappers):
        family = around.family if found.family == "baseline" else found.family
        found = found._replace(name=f"{found.name}+{around.name}", title=f"{found.title}+{around.title}", family=family)
    return found


def find(name: str) -> Row | None:
    """The row of a method of the table, None for one of the user's own ("module:Class")."""
    return None if ":" in name else row(name)


def get(name: str) -> type[Any]:
    """The class of a method, also of one in wrappers."""
    base, *wrappers = name.split("+")
    _ = row(name)
    return wrap(_load(f"atoll.methods.{BY_NAME[base.lower()].target}"), wrappers)


def wrap(kind: type[Any], wrappers: Sequence[str]) -> type[Any]:
    """A method's class in the wrappers of these names, from the inside out."""
    for name in wrappers:
        kind = _load(_wrapper(name).target)(kind)
    return kind


def name_of(kind: type[Any]) -> str | None:
    """The name on the command line of a method's class; None where the table does not have it."""
    names = [row.name for row in TABLE if f"atoll.methods.{row.target}" == f"{kind.__module__}:{kind.__qualname__}"]
    return names[0] if names else None


def _wrapper(name: str) -> Wrapper:
    known = {one.name: one for one in WRAPPERS}
    if name.lower() not in known:
        raise unknown("wrapper", name, known)
    return known[name.lower()]


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
