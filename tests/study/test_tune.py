"""Tuning: the same number of trials for all, and no test row has a say."""

import dataclasses
import json
from dataclasses import replace

import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.method import configured, search_space
from atoll.data import load
from atoll.data.untested import without_test_rows
from atoll.methods import TABLE, get
from atoll.report.html import write_report
from atoll.report.tuning import read_tuning, rows, says
from atoll.study import tune as tuning
from atoll.study.grid import read_study, tuning_beside
from atoll.study.spec import make_spec, read_spec
from tests.report.exact_run import base, exact_run
from tests.report.parsed import parse

pytest.importorskip("optuna")
SPEC = {"rounds": 1, "model": "softmax", "baselines": False, "data": {"source": "digits", "clients": 3, "limit": 90, "split": [0.4, 0.3, 0.3]}}


@pytest.mark.parametrize("name", [*(row.name for row in TABLE), "fedprox+ft", "fedavg+adam"])
def test_search_spaces_lie_in_the_ranges(name):
    kind = get(name)
    defaults = {f.name: f.default for f in dataclasses.fields(kind)}
    for field, where in search_space(kind).items():
        ends = where if isinstance(where, list) else where[:2]
        assert isinstance(where, list) or (where[0] < where[1] and where[2:] in ((), ("log",)))
        assert all(type(value) is type(defaults[field]) for value in ends)
        for value in ends:
            assert getattr(configured(kind, {field: value}), field) == value


def test_learning_rates_are_always_tuned_and_majority_never():
    assert search_space(get("fedavg")) == {"lr": (1e-3, 1.0, "log")}
    assert search_space(get("majority")) == {}
    assert set(search_space(get("fedprox+ft"))) == {"lr", "mu", "ft_epochs"}


@pytest.mark.parametrize("skew", ["dirichlet:1", ["dirichlet:1", "concept:2,every=1"]])
def test_no_test_row_is_left(skew):
    fed = load("digits", skew=skew, clients=4, limit=200, unseen=0.25)
    bare = without_test_rows(fed)
    for old, new in zip(fed.phases, bare.phases, strict=True):
        assert old.origin is not None
        assert new.origin is not None
        tested = set(old.origin[int(old.start["test"][0]) :].tolist())
        assert tested
        assert not tested & set(new.origin.tolist())
        n = int(old.start["test"][0])
        assert np.array_equal(old.x[:n], new.x[:n])
        assert np.array_equal(old.y[:n], new.y[:n])
    assert bare.names == fed.names


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Two methods, three trials each, on data whose test labels are wrong."""
    folder = tmp_path_factory.mktemp("tuned")
    spec = make_spec({**SPEC, "methods": ["majority", "local"], "settings": {"batch": 20}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "load_data", _spoiled)
        found = tuning.tune(spec, folder / "a", 2)
        found = tuning.tune(spec, folder / "a", 3)  # goes on
    return spec, folder, found


def _spoiled(spec):
    from atoll.study.spec import load_data

    fed = load_data(spec)
    y = fed.y.copy()
    y[int(fed.start["test"][0]) :] = 0
    return replace(fed, y=y)


def test_test_rows_have_no_say_and_interruption_changes_nothing(tuned):
    spec, folder, found = tuned
    again = tuning.tune(spec, folder / "b", 3)
    keep = [(one.method, one.trials, one.failed, one.best, one.median, one.values) for one in found]
    assert keep == [(one.method, one.trials, one.failed, one.best, one.median, one.values) for one in again]


def test_what_is_written_can_be_run_and_studied(tuned, tmp_path):
    _, folder, found = tuned
    majority, local = found
    assert (majority.trials, majority.space, local.trials) == (0, {}, 3)
    assert local.best is not None
    assert local.median is not None
    assert local.best >= local.median
    made = read_spec(folder / "a" / "tuned.toml", {})
    assert made.methods[1].settings == local.values
    assert set(local.values) == {"lr"}
    assert 1e-3 <= local.values["lr"] <= 1
    assert made.settings == {"batch": 20}
    (tmp_path / "s.toml").write_text(f'from = "{folder}/a/tuned.toml"\n[base]\nrounds = 4\n[grid]\nseeds = [5, 6]\n')
    runs = read_study(tmp_path / "s.toml").runs()
    assert [(run.spec.rounds, run.seed, run.spec.methods[1].settings) for run in runs] == [(4, seed, local.values) for seed in (5, 6)]


def test_the_disclosure(tuned):
    _, folder, (_, local) = tuned
    told = read_tuning(folder / "a")
    assert told is not None
    assert told == json.loads((folder / "a" / "tuning.json").read_text())
    assert rows(told)[0][-1] == "nothing to tune"
    assert rows(told)[1][:3] == ("Local", "3", "0")
    assert rows(told)[1][5] == f"{100 * (local.best - local.median):.1f}"
    assert "had 3 trials" in says(told)


def test_another_specification_is_refused(tuned):
    spec, folder, _ = tuned
    with pytest.raises(AtollError, match="another specification"):
        tuning.tune(spec.model_copy(update={"rounds": 2}), folder / "a", 3)
    with pytest.raises(AtollError, match="no validation rows"):
        tuning.tune(make_spec({**SPEC, "data": {**SPEC["data"], "split": [0.6, 0.0, 0.4]}}), folder / "c", 3)


def test_the_reports_of_a_run_and_of_a_study_show_it(tuned, tmp_path):
    _, folder, _ = tuned
    run = exact_run(tmp_path / "run", {"Local": base(5, 5)})
    plain = parse(write_report([run], None).read_text(encoding="utf-8"))
    assert not plain.all(class_="tuning")
    (run / "tuning.json").write_bytes((folder / "a" / "tuning.json").read_bytes())
    shown = parse(write_report([run], None).read_text(encoding="utf-8"))
    assert "nothing to tune" in shown.one(class_="tuning").text
    (tmp_path / "s.toml").write_text(f'from = "{folder}/a/tuned.toml"\n')
    assert tuning_beside(tmp_path / "s.toml") == folder / "a" / "tuning.json"
