"""Wrapped methods in a run's specification: instances from Python come back from the file, those of one's own classes too."""

from __future__ import annotations

import dataclasses

import pytest

from atoll.core.errors import AtollError
from atoll.methods import TABLE, get, name_of, row
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedprox import FedProx
from atoll.parts.wrappers import FineTune
from atoll.study.run import changed, make_plan, path_of
from atoll.study.spec import make_spec, read_spec, to_toml
from tests.exact.test_fine_tune import Oracle

MADE = [FineTune(FedProx(mu=0.3), "head", epochs=2, rate=0.01), FineTune(FedAvg(), steps=4), FineTune(Oracle(lr=0.2)), FedProx(mu=0.2)]


def test_instances_survive_the_specification(tmp_path):
    content = {"methods": [{"name": path_of(m), "settings": changed(m)} for m in MADE], "baselines": False, "data": {"limit": 200}}
    spec = make_spec(content)
    assert [m.name for m in spec.methods] == ["fedprox+ft", "fedavg+ft", "tests.exact.test_fine_tune:Oracle+ft", "fedprox"]
    (tmp_path / "spec.toml").write_text(to_toml(spec))
    plan = make_plan(read_spec(tmp_path / "spec.toml", {}))
    assert [entry.method for entry in plan.entries] == MADE
    assert [entry.title for entry in plan.entries] == ["FedProx+FT", "FedAvg+FT", "Oracle+FT", "FedProx"]
    assert [entry.baseline for entry in plan.entries] == [False, True, False, False]


def test_settings_for_all_reach_methods_in_a_wrapper():
    spec = make_spec({"methods": ["fedprox+ft", "pfedme+ft"], "settings": {"lr": 0.3, "ft_epochs": 2}, "baselines": False, "data": {"limit": 200}})
    prox, pfedme = (entry.method for entry in make_plan(spec).entries)
    assert (prox.lr, prox.ft_epochs, prox.inner.lr, pfedme.ft_epochs, pfedme.ft_lr) == (0.3, 2, 0.3, 2, 0.05)


def test_every_method_of_the_table_is_wrapped_or_refused_with_a_reason():
    refused: dict[str, str] = {}
    for entry in TABLE:
        assert name_of(get(entry.name)) == entry.name
        try:
            kind = get(f"{entry.name}+ft")
        except AtollError as error:
            refused[entry.name] = str(error)
        else:
            assert (kind.label, row(f"{entry.name}+ft").title) == (f"{entry.title}+FT", f"{entry.title}+FT")
            assert [f.name for f in dataclasses.fields(kind)][-1].startswith("ft_")
    families = [row(name).family for name in ("fedavg+clustered", "fedavg+adam", "fedprox+clustered")]
    assert families == ["clustering", "server optimizer", "regularized loss"]
    assert all("predicts in a way of its own" in why or "fine-tunes by itself" in why for why in refused.values())
    assert {"majority", "heterofl", "aruba", "fedavg-ft"} <= set(refused)
    assert len(refused) < len(TABLE) / 2


def test_a_wrapper_that_does_not_exist():
    with pytest.raises(AtollError, match=r"Unknown wrapper 'x'. .*Known: adagrad, adam, clustered, ft"):
        get("fedavg+x")
