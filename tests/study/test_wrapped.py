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
from tests.harness import assert_same, small_digits, train

MADE = [
    FineTune(FedProx(mu=0.3), "head", epochs=2, rate=0.01), FineTune(FedAvg(), steps=4), FineTune(Oracle(lr=0.2)), FedProx(mu=0.2),
    FineTune(get("fedavg+adam")(server_lr=0.2), epochs=1),
]  # fmt: skip


def test_instances_survive_the_specification(tmp_path):
    content = {"methods": [{"name": path_of(m), "settings": changed(m)} for m in MADE], "baselines": False, "data": {"limit": 200}}
    spec = make_spec(content)
    assert [m.name for m in spec.methods] == ["fedprox+ft", "fedavg+ft", "tests.exact.test_fine_tune:Oracle+ft", "fedprox", "fedavg+adam+ft"]
    (tmp_path / "spec.toml").write_text(to_toml(spec))
    plan = make_plan(read_spec(tmp_path / "spec.toml", {}))
    assert [entry.method for entry in plan.entries] == MADE
    assert [entry.title for entry in plan.entries] == ["FedProx+FT", "FedAvg+FT", "Oracle+FT", "FedProx", "FedAvg+Adam+FT"]
    assert [entry.baseline for entry in plan.entries] == [False, True, False, False, False]


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


def test_wrappers_around_wrappers_train_as_the_inner_one_does():
    """Adam at the server and fine-tuning at the clients: the state is that of Adam alone, and without epochs so are the scores; with them they are not."""
    fed = small_digits()
    inner, none, some = get("fedavg+adam")(batch=4), get("fedavg+adam+ft")(batch=4, ft_epochs=0), get("fedavg+adam+ft")(batch=4)
    alone, idle, tuned = (train(made, fed, 2, models=("softmax",)) for made in (inner, none, some))
    assert_same(alone.server, tuned.server)
    scores = [[row["loss"] for row in one.training.evaluate().to_dicts() if row["model"] == "personal"] for one in (alone, idle, tuned)]
    assert scores[0] == scores[1] != scores[2]
    assert (row("fedprox+clustered+ft").title, row("fedprox+clustered+ft").family) == ("FedProx+clusters+FT", "regularized loss")
    assert get("fedprox+clustered+ft")(cluster_k=2, ft_epochs=1).inner.inner.mu == FedProx().mu


@pytest.mark.parametrize(("name", "why"), [("fedavg+ft+ft", "fine-tunes by itself"), ("fedavg+adam+yogi", "a server rate of its own"),
                                           ("fedavg+clustered+clustered", "finds clusters by itself"), ("fedavg+adam+x", "Unknown wrapper 'x'")])  # fmt: skip
def test_wrappers_that_do_not_go_together_are_refused(name, why):
    with pytest.raises(AtollError, match=why):
        get(name)


def test_a_wrapper_that_does_not_exist():
    with pytest.raises(AtollError, match=r"Unknown wrapper 'x'. .*Known: adagrad, adam, clustered, ft"):
        get("fedavg+x")
