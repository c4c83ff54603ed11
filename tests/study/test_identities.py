"""Identities of methods: true ones hold, a false one fails, what can't be checked says why, and runs and commands tell of all of it."""

from __future__ import annotations

import dataclasses
import json

import polars as pl
import pytest

import atoll
from atoll.core.errors import AtollError
from atoll.core.method import configured, label
from atoll.models import build
from atoll.report.html import write_report
from atoll.report.identities import reasons, summary, warnings_of
from atoll.study import identities, verify
from atoll.study.identities import ROWS, TABLE, Identity, Value, filled
from atoll.study.named import class_of
from atoll.study.run import execute, make_plan
from atoll.study.spec import make_spec
from atoll.study.verified import compared, read_verification
from tests.cli.test_cli import atoll as command  # noqa: F401 - a fixture
from tests.harness import small_digits

ALL = [*TABLE, *(one for name in identities.known() if "+" in name for one in identities.identities(name))]


@pytest.mark.parametrize("one", ALL, ids=lambda one: f"{one.method}-{one.other}-{one.model}")
def test_a_row_names_what_there_is(one):
    """Methods and hyperparameters that exist, in their ranges, with scores of the model that is said; and whatever is not the same on both sides is set."""
    fed = small_digits()
    models = (build("mlp:6", (8, 8), 10, "classification"),)
    for name, settings in ((one.method, one.settings), (one.other, one.partner)):
        cls = class_of(name)
        made = configured(cls, filled(settings, fed, models))
        assert hasattr(made, "global_model") or (one.model == "personal" and hasattr(made, "personalize"))
        for work in verify.COMMON:
            other = class_of(one.other if name == one.method else one.method)
            both = all(work in {f.name for f in dataclasses.fields(kind)} for kind in (cls, other))
            set_ = work in settings
            assert both or set_ or work not in {f.name for f in dataclasses.fields(cls)}, f"{label(made)} has {work}, and the other has not"
    assert one.why[0].islower()
    assert (one.method, one.settings) != (one.other, one.partner)


def test_no_identity_is_there_twice():
    assert len({repr(one) for one in TABLE}) == len(TABLE) >= 20


def checked(one: Identity, rounds: int = 1, **changes):
    spec = make_spec({"model": "softmax", "threads": 1, **changes})
    fed = small_digits(3)
    return verify.Sides(spec, fed, verify.choose_models(spec.model, fed), rounds).check(one, {"lr": 0.1, "batch": 5, "epochs": 1})


def test_true_ones_hold_and_false_ones_fail(monkeypatch):
    """mu=1 shows from the second step on."""
    false = Identity("fedprox", {"mu": 1.0}, "fedavg", {}, "it is not")
    true, impossible = Identity("fedprox", {"mu": 0.0}, "fedavg", {}, "it is"), Identity("fedper", {"personal": 9}, "local", {}, "")
    monkeypatch.setattr(identities, "TABLE", (true, false, impossible))
    fed = small_digits(3)
    told = []
    found = atoll.verify(
        fed, ["fedprox", "fedper", "majority", "local"], model="softmax", rounds=1, settings={"batch": 5}, watcher=lambda *what: told.append(what)
    )
    assert [one.state for one in found.checked] == ["holds", "fails", "can't be checked"]
    assert (found.checked[0].difference, found.checked[0].rows_apart) == (pytest.approx(0, abs=1e-5), 0)
    assert found.checked[1].share > 10 * found.tolerance
    assert "9 of them cannot be personal" in found.checked[2].reason
    assert (found.without, found.partners) == (("Majority",), ("Local",))
    assert found.failed == [found.checked[1]]
    assert "FedProx (mu=1) should score as FedAvg does" in warnings_of(found)[0]
    assert len(reasons(found)) == 3
    assert summary(found).startswith("1 of 3 identities holds")
    assert "1 fails; 1 can't be checked here." in summary(found)
    assert told == [(0, 3, "FedProx"), (1, 3, "FedProx"), (2, 3, "FedPer"), (3, 3, "")]
    assert read_verification(found.json()) == found
    assert found.table["state"].to_list() == [one.state for one in found.checked]


def scores(**columns):
    """Two clients, before and after a round."""
    given = {"round": [0, 0, 1, 1], "rows": [10, 20, 10, 20], "correct": [1.0, 2.0, 6.0, 9.0], "loss": [23.0, 46.0, 10.0, 30.0], **columns}
    return pl.DataFrame(given)


def test_what_is_compared():
    same = compared(scores(), scores())
    assert (same["state"], same["bits"], same["difference"]) == ("holds", True, 0)
    near = compared(scores(loss=[23.0, 46.0, 10.0, 30.0001]), scores())
    assert (near["state"], near["bits"], near["difference"]) == ("holds", False, pytest.approx(5e-6))
    assert compared(scores(loss=[23.0, 46.0, 10.0, 30.02]), scores())["state"] == "fails"
    assert compared(scores(correct=[1.0, 2.0, 6.0, 11.0]), scores())["state"] == "fails"
    assert compared(scores(loss=[23.0, 46.0, 23.0, 46.0]), scores(loss=[23.0, 46.0, 23.0, 46.0]))["state"] == "nothing was learned"
    tiny = compared(scores(loss=[23.0, 46.0, 1e-6, 1e-6]), scores(loss=[23.0, 46.0, 2e-6, 1e-6]))
    assert tiny["state"] == "holds"  # twice nothing is nothing
    numbers = {"correct": [float("nan")] * 4}
    assert compared(scores(**numbers), scores(**numbers))["state"] == "holds"
    with pytest.raises(AtollError, match="smaller lr"):
        compared(scores(loss=[23.0, 46.0, float("nan"), 1.0]), scores())
    with pytest.raises(AtollError, match="no scores"):
        compared(scores().clear(), scores().clear())


def test_where_the_least_change_grows_large_nothing_can_be_told(monkeypatch):
    """Whatever fails is then put down to rounding; here a nudge of the rate is as good as another rate."""
    monkeypatch.setattr(verify, "NUDGE", 1.0)
    found = checked(Identity("fedprox", {"mu": 1.0}, "fedavg", {}, "it is not"))
    assert found.state == "can't be checked"
    assert "another FedAvg with a rate that differs" in found.reason


def test_what_can_not_be_checked_says_why(monkeypatch):
    assert "needs public data" in checked(Identity("fedcl", {"lam": 0.0}, "fedavg", {}, "")).reason
    models = (build("mlp:6", (8, 8), 10, "classification"), build("mlp:6,6", (8, 8), 10, "classification"))
    with pytest.raises(AtollError, match="from model to model"):
        filled({"personal": Value.BLOCKS}, small_digits(), models)
    fed = small_digits()
    assert filled({"batch": ROWS, "personal": Value.BLOCKS}, fed, models[:1]) == {"batch": 24, "personal": 2}
    monkeypatch.setattr(identities, "LARGEST", 23)
    with pytest.raises(AtollError, match="here 24"):
        filled({"batch": ROWS}, fed, models)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(AtollError, match=r"Unknown method 'fedpox'. Did you mean fedprox"):
        atoll.verify(small_digits(), ["fedpox"])
    with pytest.raises(AtollError, match="both sides"):
        atoll.verify(small_digits(), ["fedprox"], settings={"mu": 0.1})
    with pytest.raises(AtollError, match="lr must be > 0"):
        atoll.verify(small_digits(), ["fedprox"], settings={"lr": -1.0})
    with pytest.raises(AtollError, match="0 rounds"):
        atoll.verify(small_digits(), ["fedprox"], rounds=0)


def test_wrappers_are_the_method_inside():
    (one,) = identities.identities("scaffold+ft")
    assert (one.method, one.other, one.settings["ft_epochs"]) == ("scaffold+ft", "scaffold", 0)
    assert identities.identities("my.module:Own") == []
    assert [one.other for one in identities.identities("my.module:Own+clustered")] == ["my.module:Own"]
    assert identities.identities("fedavg+yogi") == []


def test_a_run_checks_its_methods_once_and_its_page_tells(tmp_path, monkeypatch):
    wrong = (Identity("fedprox", {"mu": 0.5}, "fedavg", {}, "it is <not>"),)
    monkeypatch.setattr(identities, "TABLE", wrong)
    asked = {"methods": [{"name": "fedprox", "lr": 0.2, "epochs": 2}], "baselines": False, "rounds": 1, "verify": True, "model": "softmax", "threads": 1}
    plan = make_plan(make_spec(asked), small_digits(3))
    execute(plan, tmp_path)
    file = tmp_path / "identities.json"
    (found,) = read_verification(file.read_text()).checked
    assert (found.state, found.work) == ("fails", {"lr": 0.2, "batch": 20, "epochs": 2})
    page = write_report([tmp_path], None).read_text()
    assert "fails</td>" in page
    assert "it is &lt;not&gt;" in page
    assert page.index('id="run1-identities"') < page.index('id="run1-repeat"')
    before = file.stat().st_mtime_ns
    execute(plan, tmp_path)
    assert file.stat().st_mtime_ns == before
    file.unlink()  # stopped before they were checked
    monkeypatch.setattr(identities, "TABLE", ())
    execute(plan, tmp_path)
    assert read_verification(file.read_text()).without == ("FedProx",)
    assert "There was no identity to check." in write_report([tmp_path], None).read_text()


def test_the_command(command, monkeypatch, tmp_path):  # noqa: F811
    how = ["--model", "softmax", "--rounds", "1", "--limit", "200", "--skew", "iid", "--clients", "2"]
    code, out, err = command("verify", "fedprox", "majority", *how)
    assert (code, err) == (0, "")
    assert "mu=0 " in out
    assert "No identity is known of Majority." in out
    assert out.strip().splitlines()[-1].startswith("1 of 1 identity holds")
    monkeypatch.setattr(identities, "TABLE", (Identity("fedprox", {"mu": 1.0}, "fedavg", {}, "it is not"),))
    code, out, _ = command("verify", "fedprox", "--json", *how)
    assert code == 1
    assert [one["state"] for one in json.loads(out)["checked"]] == ["fails"]
    code, out, err = command("verify", "fedpox", *how)
    assert (code, out) == (2, "")
    assert err.startswith("atoll: Unknown method 'fedpox'")


@pytest.mark.long
def test_all_hold_on_the_digits():
    found = verify.verify(make_spec({"data": {"source": "digits", "public": 0.05, "unseen": 0.2}}))
    assert [(one.method, one.settings, one.state, one.difference) for one in found.checked if one.state != "holds"] == []
    assert len(found.checked) >= 50
