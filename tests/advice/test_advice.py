"""The advisor as a whole: a tiny pilot through the command, what it says in every case, and (long) what it says of real data."""

from __future__ import annotations

import importlib
import io
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

import atoll
from atoll import cli
from atoll.advice.candidates import BASELINES, Candidate
from atoll.advice.command import next_command
from atoll.advice.differences import Differences
from atoll.advice.judge import Gain, Gains, judge
from atoll.advice.result import Advice, Line
from atoll.advice.text import print_advice, remarks
from atoll.study.run import Interrupted
from atoll.study.spec import make_spec

ADVISE = importlib.import_module("atoll.advice.advise")  # the module: the package has a function of that name
COSTS = {"round": 10.0, "bytes_round": 1000.0, "bytes_chosen": 2000.0, "flops_client": 3000.0, "state_client": 0.0, "seconds": 1.0, "sim_seconds": None}
YES, NONE, OPEN = Gain(0.05, 0.03, 0.07, steady=True), Gain(-0.01, -0.03, 0.01, steady=False), Gain(0.03, -0.01, 0.07, steady=True)


def line(name: str, title: str, family: str, role: str, score: float = 0.8) -> Line:
    return Line(name, title, family, role, "for a reason", score, score, 0.1, late=False, costs=COSTS)


LINES = (
    line("majority", "Majority", "baseline", "trivial"),
    line("local", "Local", "baseline", "alone"),
    line("fedavg", "FedAvg", "baseline", "common"),
    line("fedavg-ft", "FedAvg+FT", "baseline", "tuned"),
    line("fedper", "FedPer", "parameter decoupling", "personal", 0.9),
)


def advice(gains: Gains, recommended: str, **changes: object) -> Advice:
    made = Advice(
        verdict=judge(gains, 0.01), recommended=recommended, gains=gains, over_majority=YES, pooled=NONE, lines=LINES, picks={"fedper": 2, "fedavg-ft": 1},
        common="FedAvg", differences=Differences({"labels": "strong", "features": "none"}, (), ""), epsilon=None, data="digits", model="mlp:4", clients=14,
        test_rows=1080, splits=3, drawn_anew=True, rounds=10, worth=0.01, regression=False, seconds=9.0, notes=(), command="atoll run", folder=Path("f"),
    )  # fmt: skip
    return replace(made, **changes)


def printed(made: Advice) -> str:
    out = io.StringIO()
    print_advice(made, Console(file=out, width=200))
    return " ".join(out.getvalue().split())


@pytest.mark.parametrize(
    ("gains", "recommended", "says", "says_not"),
    [
        (Gains(YES, YES, NONE, YES, YES, YES), "fedper", "Personalize: it brings +5.0 points [+3.0, +7.0] over the best common model", "FedAvg+FT)"),
        (Gains(YES, YES, NONE, YES, YES, YES), "fedper", "Best so far: FedPer (parameter decoupling).", "is enough"),
        (Gains(YES, YES, NONE, OPEN, OPEN, YES), "fedper", "though not shown to be better than simply fine-tuning", "is enough"),
        (Gains(YES, YES, NONE, OPEN, YES, YES), "fedavg-ft", "Fine-tuning the common model (FedAvg+FT) is enough.", "Best so far"),
        (Gains(NONE, YES, NONE, NONE, NONE, NONE), "fedavg", "Don't personalize: one common model (FedAvg) serves as well.", "Personalize:"),
        (Gains(YES, NONE, YES, NONE, NONE, NONE), "local", "trained on its own rows alone: that brings +5.0 points", "Personalize:"),
        (Gains(YES, NONE, OPEN, NONE, NONE, NONE), "local", "training each alone does as well", "Personalize:"),
        (Gains(OPEN, YES, NONE, NONE, NONE, NONE), "fedavg-ft", "about 2 times as much evidence", "Personalize:"),
        (Gains(YES, OPEN, NONE, NONE, NONE, NONE), "fedavg-ft", "should have models of their own (+5.0 points", "Personalize:"),
    ],
)
def test_every_answer_in_words(gains, recommended, says, says_not):
    text = printed(advice(gains, recommended))
    assert says in text
    assert says_not not in text
    assert "which labels they have: strong" in text
    assert "inputs look like" not in text
    assert "FedPer in 2 and FedAvg+FT in 1 of the splits" in text


def test_what_makes_an_answer_less_certain_is_said():
    good = advice(Gains(YES, YES, NONE, YES, YES, YES), "fedper")
    assert len(remarks(good, [])) == 1  # families that were not tried
    assert "knowledge distillation" in remarks(good, [])[0]
    assert "parameter decoupling" not in remarks(good, [])[0]
    late = replace(good, lines=(*LINES[:2], replace(LINES[2], late=True), *LINES[3:]))
    assert "Still improving at the pilot's end: FedAvg." in remarks(late, [])[0]
    assert "constant answer" in remarks(replace(good, over_majority=OPEN), [])[0]
    trained_better = replace(good, pooled=YES)
    assert "better than the best common one by +5.0 points [+3.0, +7.0]" in remarks(trained_better, [])[0]
    assert len(remarks(replace(trained_better, verdict=judge(Gains(NONE, YES, NONE, NONE, NONE, NONE), 0.01)), [])) == 1  # no reason to doubt a common model
    assert "Diverged at every learning rate, and left out: FedPer." in remarks(good, ["FedPer"])
    attacked = replace(good, differences=Differences({"attack": "strong"}, (), ""))
    assert any("attackers" in text for text in remarks(attacked, []))


def test_the_next_command_leaves_the_model_to_the_data_where_the_pilot_did():
    made = advice(Gains(YES, YES, NONE, YES, YES, YES), "fedper", model="")
    assert "model" not in next_command(made, make_spec({}))
    assert "model" not in next_command(made, make_spec({"data": {"source": "(given)"}}))


def test_measures_are_shown_and_of_private_ones_how_far_they_are_off():
    one = {"kind": "labels", "key": "label_tv", "name": "total variation to all rows", "value": 0.5, "chance": 0.2, "word": "strong"}
    made = advice(Gains(YES, YES, NONE, YES, YES, YES), "fedper", differences=Differences({"labels": "strong"}, (one,), ""))
    assert "how much number by chance what labels strong 0.500 0.200 total variation to all rows" in printed(made)
    private = replace(made, epsilon=1.0, differences=Differences({"labels": "strong"}, ({**one, "exact": 0.6},), ""))
    assert "from noised counts alone kind how much number by chance from rows error what labels strong 0.500 0.200 0.600 -0.100 total" in printed(private)


def test_losses_are_told_as_losses():
    made = replace(advice(Gains(YES, YES, NONE, YES, YES, YES), "fedper"), regression=True)
    assert "+0.05 of mean loss saved [+0.03, +0.07]" in printed(made)


def test_no_interval_is_told_as_none():
    unknown = Gain(0.05, -float("inf"), float("inf"), steady=True)
    text = printed(advice(Gains(unknown, unknown, NONE, NONE, NONE, NONE), "fedavg-ft"))
    assert "It can't be told from so few rows" in text
    assert "no interval: too few clients and splits" in text


def test_the_next_command_asks_for_the_same_data(monkeypatch):
    data = {"source": "csv", "skew": ["noise:0.1"], "unseen": 0.25, "options": {"path": "my patients.csv", "client": "hospital", "label": "died"}}
    command = next_command(advice(Gains(YES, YES, NONE, YES, YES, YES), "fedper"), make_spec({"data": data, "seed": 3}))
    given: dict = {}
    importlib.import_module("atoll.api")  # before: it would keep what stands in for make_plan
    monkeypatch.setattr(cli, "_data_changes", lambda *args: given.setdefault("data", args) and {})
    monkeypatch.setattr("atoll.study.run.make_plan", lambda spec: given.setdefault("spec", spec))
    monkeypatch.setattr(cli, "_carry_out", lambda plan, folder: None)
    cli.app(shlex.split(command)[1:], standalone_mode=False)
    assert given["data"][:4] == ("my patients.csv", None, "hospital", "died")
    assert given["data"][6:9] == (["noise:0.1"], None, 0.25)
    spec = given["spec"]
    assert (spec.model, spec.rounds, spec.seed, [m.name for m in spec.methods]) == (("mlp:4",), 20, 3, ["fedper"])
    assert spec.settings == {"lr": "0.1", "batch": "10"}


FEW = (  # each takes a second or more to compile
    *(replace(one, rated=one.name.startswith("fedavg")) for one in BASELINES if one.name not in ("pooled", "scaffold")),
    Candidate("apfl", "personal", "a reason", rated=False),
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Three clients that call labels differently, in two splits of two rounds: what the command prints as JSON, and its folder."""
    folder = tmp_path_factory.mktemp("advice") / "a"
    call = ["atoll", "advise", "digits", "--skew", "iid", "--skew", "swap:3", "--clients", "3", "--limit", "240", "--model", "softmax", "--rounds", "2"]
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ADVISE, "candidates", lambda *args: FEW)
        patch.setattr(sys, "argv", [*call, "--splits", "2", "--rates", "0.05,0.2", "--json", "--out", str(folder)])
        patch.setattr(sys, "stdout", out)
        with pytest.raises(SystemExit) as stop:
            cli.main()
    assert not stop.value.code, out.getvalue()
    return json.loads(out.getvalue()), folder


def test_the_command_leaves_an_answer_and_ordinary_runs(tiny):
    said, folder = tiny
    assert said == json.loads((folder / "advice.json").read_text(encoding="utf-8"))
    assert said["answer"] in ("personalize", "common", "alone", "unclear")
    assert said["splits"] == 2
    assert said["drawn_anew"] is True
    assert (folder / "report.html").stat().st_size > 100_000
    hashes = {json.loads((folder / f"split-{n}" / "data.json").read_text())["split_hash"] for n in (1, 2)}
    assert len(hashes) == 2
    assert [m["name"] for m in said["methods"]] == ["majority", "local", "fedavg", "fedavg-ft", "apfl"]
    assert said["gains"]["pooled"] is None
    fedavg = next(m for m in said["methods"] if m["name"] == "fedavg")
    assert fedavg["costs"]["bytes_round"] == 4 * (650 + 650 + 1)  # the model down, the model and a weight up


def test_methods_rates_and_rounds_are_chosen_on_validation_rows_and_compared_on_test_rows(tiny):
    """The gain of personal methods over common ones again, from the files alone."""
    said, folder = tiny
    roles = {m["title"]: m["role"] for m in said["methods"]}
    gained = rows = 0
    for n in (1, 2):
        order = {title: at for at, title in enumerate(json.loads((folder / f"split-{n}" / "status.json").read_text()))}
        scores = pl.read_parquet(folder / f"split-{n}" / "clients.parquet").filter(model="personal")
        totals = scores.group_by("method", "round", "split").agg(pl.col("correct").sum(), pl.col("rows").sum())
        right = {(m, r, s): c for m, r, s, c in totals.select("method", "round", "split", "correct").iter_rows()}
        for roles_of, sign in ((("tuned", "personal"), 1), (("common",), -1)):
            able = [(m, r) for m, r, s in right if s == "validation" and roles[m.partition(" (")[0]] in roles_of]
            best = min(able, key=lambda at: (-right[*at, "validation"], order[at[0]], at[1]))  # of equal ones the first method, rate and round
            gained += sign * right[*best, "test"]
        rows += totals.filter(split="test")["rows"][0]
    assert said["gains"]["common"]["mean"] == pytest.approx(gained / rows)


def test_pilots_of_another_question_are_not_mixed_with_new_ones(tiny):
    with pytest.raises(atoll.AtollError, match="split-1 holds a pilot of another question"):
        atoll.advise("digits", limit=200, out=tiny[1])


def test_a_stopped_pilot_goes_on_and_a_finished_one_is_not_run_again(tmp_path, monkeypatch):
    fed = atoll.load("digits", skew="iid", clients=3, limit=120)
    monkeypatch.setattr(ADVISE, "candidates", lambda *args: [replace(one, rated=False) for one in FEW[:4]])
    asked: dict = {"model": "softmax", "rounds": 1, "rates": (0.2,), "out": tmp_path / "a"}
    trained: list[str] = []

    class Watching:
        def __init__(self, last: int):
            self.last = last

        def begin(self, title, rounds, done):
            if len(trained) == self.last:
                raise Interrupted
            trained.append(title)

        def progress(self, title, round, note): ...
        def end(self, title, state): ...

    with pytest.raises(Interrupted):
        atoll.advise(fed, splits=1, **asked, watcher=lambda n: Watching(2))
    first = atoll.advise(fed, splits=1, **asked, watcher=lambda n: Watching(9))
    assert trained == ["Majority", "Local", "FedAvg", "FedAvg+FT"]
    again = atoll.advise(fed, splits=1, **asked, watcher=lambda n: Watching(9))
    assert len(trained) == 4
    assert replace(again, seconds=first.seconds).as_dict() == first.as_dict()


def test_a_federation_of_ones_own_has_one_split(tmp_path, monkeypatch):
    """Its repetitions differ in training alone, and share their test rows."""
    fed = atoll.load("digits", skew="iid", clients=3, limit=120)
    monkeypatch.setattr(ADVISE, "candidates", lambda *args: [replace(one, rated=False) for one in FEW[:4]])
    said = atoll.advise(fed, model="softmax", rounds=1, splits=2, rates=(0.2,), out=tmp_path / "a")
    assert not said.drawn_anew
    assert said.test_rows == 2 * int(fed.count["test"].sum())
    assert said.command.startswith("atoll.run(data, [")
    sheets = [json.loads((tmp_path / "a" / f"split-{n}" / "data.json").read_text())["split_hash"] for n in (1, 2)]
    assert sheets[0] == sheets[1]


REAL = [
    ("medpar", (), "common"),
    ("indo-rct", (), "common"),
    ("loans", (), "common"),
    ("digits", ("iid",), "common"),
    ("digits", ("iid", "swap:4"), "personalize"),
    ("verbagg", (), "personalize"),
    ("vowel", (), "alone"),
]


@pytest.mark.long
@pytest.mark.parametrize(("data", "skew", "answer"), REAL)
def test_real_data(data, skew, answer, tmp_path):
    """docs/advisor.md has what was said."""
    assert atoll.advise(data, skew=skew, splits=3, out=tmp_path / "a").verdict.kind == answer
