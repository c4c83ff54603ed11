"""Exact identities of methods: with which settings a method is another one, whatever the data, so that anybody can check them on data of his own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from atoll.core.errors import AtollError
from atoll.core.model import Model
from atoll.data.federation import Federation
from atoll.methods import row

LARGEST = 500  # rows of a client up to which one batch may hold them all; more would not fit for a large model


class Value(Enum):
    """Settings whose value depends on the model or the data."""

    BLOCKS = "all blocks"  # how many the model has
    ROWS = "all rows"  # of the client that has most: every batch then holds all rows of its client


BLOCKS, ROWS = Value.BLOCKS, Value.ROWS
Settings = dict[str, Any]


@dataclass(frozen=True)
class Identity:
    """`method` with `settings` scores as `other` with `partner` does, client by client, in every round and at every common rate, batch and number of epochs.

    model: whose scores are equal, of the "personal" models or of the "global" one. until: rounds for which it holds; 0 = all. newcomers: clients that
    are held out are scored alike, too; Local trains them, which nobody else does.
    """

    method: str
    settings: Settings
    other: str
    partner: Settings
    why: str
    model: str = "personal"
    until: int = 0
    newcomers: bool = True


ALIKE = ("fedprox", {"mu": 0.0, "weighting": "alike"})  # FedAvg with means in which every client counts alike
STEP = {"batch": 0, "epochs": 1}  # one step on all rows of a client
LONG = 1_000_000  # more rounds than anybody runs

TABLE: tuple[Identity, ...] = (
    Identity("fedavg-ft", {"ft_epochs": 0}, "fedavg", {}, "without fine-tuning it is FedAvg"),
    Identity("fedavg-ft", {}, "fedavg", {}, "the model that is fine-tuned is FedAvg's", "global"),
    Identity("fedprox", {"mu": 0.0}, "fedavg", {}, "without the proximal term it is FedAvg"),
    Identity("scaffold", {}, *ALIKE, "before there are control variates it is FedAvg with uniform means", until=1),
    Identity("astraea", {"gamma": 1, "E_m": 1, "T_a": -1e9, "T_d": 1e9}, "fedavg", {}, "a mediator per client and no resampling are FedAvg"),
    Identity("fedhome", {"mu": 0.0}, "fedavg", {}, "without reconstruction the common model is FedAvg's", "global"),
    Identity("fedhome", {"mu": 0.0, "ft_epochs": 0}, "fedavg", {}, "and without refining it predicts with it"),
    Identity("fedcl", {"lam": 0.0}, "fedavg", {}, "without the term it is FedAvg"),
    Identity("moon", {"mu": 0.0}, "fedavg", {}, "without the contrastive loss it is FedAvg"),
    Identity("moon", {}, "fedavg", {}, "nobody has a past in the first round, which is FedAvg's", until=1),
    Identity("per-fedavg", {"alpha": 0.0, "steps": 1, "batch": ROWS, "beta": 0.1}, ALIKE[0], {**ALIKE[1], **STEP, "lr": 0.1},
             "without adapting, one step on all rows is FedAvg's with uniform means"),
    Identity("pfedme", {"R": 1, "K": 1, "lam": 100.0, "eta": 0.01, "beta": 1.0, "plr": 0.1, "batch": ROWS}, ALIKE[0], {**ALIKE[1], **STEP, "lr": 0.1},
             "one step that w follows all the way (eta lam = 1) is FedAvg's with uniform means", "global"),
    Identity("reptile", {"first": LONG}, "fedavg", {}, "the first stage is FedAvg", "global"),
    Identity("reptile", {"first": LONG, "K": 10}, "fedavg+ft", {"ft_epochs": 0, "ft_steps": 10}, "without a second stage it is FedAvg, fine-tuned by K steps"),
    Identity("aruba", {"ft_epochs": 0}, "fedavg", {}, "before rates are learned it is FedAvg", until=1),
    Identity("fedper", {"personal": 0}, "fedavg", {}, "nothing personal is FedAvg"),
    Identity("fedper", {"personal": BLOCKS}, "local", {}, "everything personal is Local", newcomers=False),
    Identity("fedrep", {"personal": BLOCKS, "last": 0, "head_epochs": 1}, "local", {"epochs": 1}, "everything personal is Local", newcomers=False),
    Identity("fedbabu", {"head": 0, "ft_epochs": 0}, "fedavg", {}, "nothing held still and no fine-tuning are FedAvg"),
    Identity("lg-fedavg", {"shared": BLOCKS}, *ALIKE, "everything shared is FedAvg with uniform means"),
    Identity("lg-fedavg", {"shared": 0}, "local", {}, "nothing shared is Local", newcomers=False),
    Identity("lg-ensemble", {}, "lg-fedavg", {}, "who has trained predicts as with LG-FedAvg", newcomers=False),
    Identity("fd", {"gamma": 0.0}, "local", {}, "without the teacher everybody trains alone", newcomers=False),
    Identity("feddf", {"steps": 0}, *ALIKE, "without distillation it is FedAvg with uniform means"),
    Identity("d-distillation", {"rho": 0.0}, "local", {}, "without the pull everybody trains alone", newcomers=False),
    Identity("fedgen", {"alpha": 0.0, "steps": 1, "batch": ROWS}, "fedavg", STEP, "without made features, one step on all rows is FedAvg's"),
    Identity("fedproto", {"lam": 0.0, "inference": "head"}, "local", {}, "without the pull it is Local", newcomers=False),
    Identity("fedhealth", {}, "fedavg", {}, "the common model is FedAvg's", "global"),
    Identity("fedhealth", {"eta": 0.0, "upper": BLOCKS}, "fedavg-ft", {}, "without alignment and with all blocks trained it is FedAvg+FT"),
    Identity("fedsteg", {}, "fedhealth", {}, "it is FedHealth"),
    Identity("fedamp", {"lam": 0.0, "sigma": 1e-5}, "local", {}, "models that all are far apart, without pull, are Local", newcomers=False),
    Identity("heurfedamp", {"own": 1.0, "lam": 0.0}, "local", {}, "all weight on the own model, without pull, is Local", newcomers=False),
    Identity("fedcurv", {"lam": 0.0}, "fedavg", {}, "without the penalty it is FedAvg"),
    Identity("fedcurv", {}, "fedavg", {}, "nobody has measured anything in the first round, which is FedAvg's", until=1),
    Identity("ditto", {"lam": 0.0}, "local", {}, "personal models that nothing ties are Local's", newcomers=False),
    Identity("ditto", {}, "fedavg", {}, "the common model is FedAvg's", "global"),
    Identity("l2gd", {"lam": 0.0, "p": 1e-12, "batch": 0}, "local", STEP, "without attraction, and as good as never averaged, it is Local", newcomers=False),
    Identity("l2sgd", {"lam": 0.0, "p": 1e-12, "batch": ROWS}, "local", STEP, "without attraction, and with one block of rows, it is Local", newcomers=False),
    Identity("apfl", {"adaptive": False, "alpha": 1.0}, "local", {}, "alpha=1 trains the own model alone", newcomers=False),
    Identity("apfl", {"adaptive": False, "alpha": 0.0}, *ALIKE, "alpha=0 predicts with the common model, which is FedAvg's with uniform means"),
    Identity("apfl", {}, *ALIKE, "the common model is FedAvg's with uniform means, whatever alpha", "global"),
    Identity("fedala", {"eta": 0.0}, "fedavg", {}, "with weights that stay at 1 the common model is FedAvg's", "global"),
    Identity("knn-per", {"tuned": False, "lam": 0.0}, "fedavg", {}, "without neighbours it is FedAvg"),
    Identity("knn-per", {}, "fedavg", {}, "the common model is FedAvg's", "global"),
    Identity("heterofl", {"levels": "a", "mask": False, "momentum": 0.0, "decay": 0.0, "clip": 1e30}, *ALIKE,
             "full width, all labels and plain SGD are FedAvg with uniform means"),
    Identity("cfl", {"eps1": 0.0}, *ALIKE, "a cluster that is never split is FedAvg with uniform means"),
    Identity("fl-hc", {"n": LONG}, "fedavg", {}, "before clustering it is FedAvg"),
    Identity("fesem", {"K": 1}, *ALIKE, "one centre is FedAvg with uniform means"),
    Identity("hypcluster", {"q": 1, "candidates": 0}, "fedavg", {}, "one hypothesis is FedAvg"),
    Identity("ifca", {"k": 1}, *ALIKE, "one cluster is FedAvg with uniform means"),
    Identity("ifca", {"shared": BLOCKS}, *ALIKE, "clusters that have all blocks in common are FedAvg with uniform means"),
)  # fmt: skip

AROUND: dict[str, tuple[Settings, str]] = {  # wrapper -> with which settings it is the method inside, and why
    "ft": ({"ft_epochs": 0, "ft_steps": 0}, "without fine-tuning it is the method inside"),
    "momentum": ({"server_lr": 1.0, "server_beta1": 0.0}, "a full step without momentum is the mean"),
    "clustered": ({"cluster_k": 1}, "one cluster is the method inside"),
}


def known() -> list[str]:
    """Methods of which an identity is known, and wrappers around FedAvg in place of all that they can be around."""
    return list(dict.fromkeys([*(one.method for one in TABLE), *(f"fedavg+{wrapper}" for wrapper in AROUND)]))


def identities(name: str) -> list[Identity]:
    """The identities of a method, which may be in wrappers ("scaffold+ft") or the user's own ("module:Class"). AtollError for an unknown one."""
    base, plus, wrapper = (name if ":" in name else row(name).name).rpartition("+")
    if not plus:
        return [one for one in TABLE if one.method == wrapper]
    found = []
    if wrapper in AROUND:
        settings, why = AROUND[wrapper]
        found.append(Identity(f"{base}+{wrapper}", settings, base, {}, why))
    if (base, wrapper) == ("fedavg", "ft"):
        found.append(Identity("fedavg+ft", {}, "fedavg-ft", {}, "around FedAvg it is FedAvg+FT"))
    return found


def is_partner(name: str) -> bool:
    """Whether others are this method at some setting."""
    return name.lower() in {one.other for one in TABLE}


def filled(settings: Settings, federation: Federation, models: tuple[Model, ...]) -> Settings:
    """Settings with the numbers that stand for all blocks and all rows. AtollError where there is no such number, or it is too large."""
    return {name: _number(value, federation, models) if isinstance(value, Value) else value for name, value in settings.items()}


def _number(value: Value, federation: Federation, models: tuple[Model, ...]) -> int:
    if value is BLOCKS:
        counts = {len(model.firsts or model.blocks) for model in models}
        if len(counts) > 1:
            raise AtollError("How many blocks are all of them differs from model to model. Give one model.")
        return counts.pop()
    most = int(federation.count["train"].max())
    if most > LARGEST:
        raise AtollError(f"It takes a batch of all rows of a client, here {most:,}, and {LARGEST} are thought to be the most that fit. Use fewer rows (limit).")
    return most
