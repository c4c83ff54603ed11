"""Studies: what their files say, the runs they stand for, and carrying them out in spite of everything."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib

import polars as pl
import pytest

import atoll
from atoll.core.errors import AtollError
from atoll.report import findings
from atoll.report.digest import digest
from atoll.report.run import open_run
from atoll.report.study_findings import warnings
from atoll.report.study_results import open_results
from atoll.report.study_table import score
from atoll.study.find import find
from atoll.study.grid import make_study, read_study, same_work, study_toml
from atoll.study.ready import READY, ready
from atoll.study.run import check_spec, make_plan, open_plan
from atoll.study.schedule import carry_out, is_done, open_study, run_folder

SMALL = {"source": "digits", "clients": 3, "limit": 90}
BASE = {"rounds": 2, "model": "softmax", "baselines": False, "data": SMALL, "settings": {"lr": 0.1}}
GRID = {"data": {"skew": ["iid", "dirichlet:1"]}, "methods": ["fedavg", "local"], "seeds": [0, 7]}


def test_the_grid_is_a_product_of_cells_and_seeds_and_every_run_has_all_methods():
    made = make_study({"base": BASE, "grid": {**GRID, "rounds": [2, 5]}}, "t").runs()
    assert [(r.spec.data.skew, r.spec.rounds, r.seed) for r in made] == [((s,), n, k) for s in ("iid", "dirichlet:1") for n in (2, 5) for k in (0, 7)]
    assert {r.spec.seed == r.seed and tuple(m.name for m in r.spec.methods) for r in made} == {("fedavg", "local")}
    assert {(r.spec.settings["lr"], r.spec.data.clients) for r in made} == {(0.1, 3)}
    assert len({r.name for r in made}) == 8


def test_cells_may_differ_in_anything_and_are_crossed_with_the_grid():
    cells = [{"name": "speakers", "data": {"source": "vowel", "clients": 5}}, {"name": "digits", "model": "mlp:4"}]
    made = make_study({"base": BASE, "cells": cells, "grid": {"settings": {"lr": [0.1, 0.2]}}}, "t").runs()
    assert [(r.cell.title, r.spec.data.source, r.spec.data.clients, r.spec.model, r.spec.settings["lr"]) for r in made] == [
        ("speakers, 0.1", "vowel", 5, ("softmax",), 0.1),
        ("speakers, 0.2", "vowel", 5, ("softmax",), 0.2),
        ("digits, 0.1", "digits", 3, ("mlp:4",), 0.1),
        ("digits, 0.2", "digits", 3, ("mlp:4",), 0.2),
    ]


def test_what_is_written_out_reads_as_the_same_study(tmp_path):
    cells = [{"name": 'a "quoted" cell', "data": {"skew": ["iid", "rotate:2"]}, "settings": {"lr": 0.3}}]
    made = make_study({"about": "why", "base": {**BASE, "deadline": 2.5, "devices": "tiers"}, "cells": cells, "grid": {"seeds": [3, 4]}}, "t")
    (tmp_path / "study.toml").write_text(study_toml(made))
    again = read_study(tmp_path / "study.toml")
    assert again.runs() == made.runs()
    assert again == made
    assert tomllib.loads(study_toml(made))["base"]["dropout"] == 0.0  # defaults are written out


@pytest.mark.parametrize("name", READY)
def test_the_ready_made_studies_are_sound(name):
    made = ready(name)
    assert made.name == name
    assert len(made.about) > 20
    for run in made.runs():
        check_spec(run.spec)


@pytest.mark.long
@pytest.mark.parametrize("name", READY)
def test_the_ready_made_studies_find_their_data_and_no_method_refuses_them(name):
    made = ready(name)
    for run in made.runs():
        if run.seed == made.seeds[0]:
            assert len(make_plan(run.spec).entries) >= 8


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"gird": {}}, "Did you mean grid"),
        ({"grid": {"data": {"skw": ["iid"]}}}, "Did you mean skew"),
        ({"grid": {"round": [1, 2]}}, "Did you mean rounds"),
        ({"base": {"data": {"sourc": "digits"}}}, "Did you mean source"),
        ({"grid": {"seed": [1]}}, "Did you mean seeds"),
        ({"grid": {"seeds": 3}}, "lists of values"),
        ({"grid": {"seeds": ["1"]}}, "whole numbers"),
        ({"grid": {"rounds": [0]}}, "rounds = 0"),
        ({"grid": {"rounds": [2, 2]}}, "asked for twice"),
        ({"base": {"methods": ["local"]}, "grid": {"methods": ["fedavg"]}}, "Keep one of the two"),
        ({"cells": [{"data": {"source": "vowel"}}]}, "each with a name"),
    ],
)
def test_errors_are_one_line_and_name_what_was_meant(content, says):
    with pytest.raises(AtollError, match=says) as caught:
        make_study(content, "t")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        ({"data": {"skew": ["dirichle:1"]}}, "Did you mean dirichlet"),
        ({"data": {"source": ["digit"]}}, "Did you mean digits"),
        ({"methods": ["fedavgg"]}, "Did you mean fedavg"),
        ({"settings": {"lrr": [1.0]}}, "Did you mean lr"),
    ],
)
def test_names_are_checked_before_anything_is_trained(grid, says, tmp_path):
    with pytest.raises(AtollError, match=says):
        carry_out(make_study({"base": BASE, "grid": grid}, "t"), tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_cell_that_fails_takes_nothing_with_it_and_a_study_can_be_widened(tmp_path):
    """One cell asks more clients per round than there are. What is done is not done again."""
    base = {**BASE, "methods": ["fedavg"], "rounds": 1}
    made = make_study({"base": base, "grid": {"per_round": [4, 2]}}, "t")
    found = carry_out(made, tmp_path)
    assert [outcome.state for outcome in found] == ["failed", "done"]
    assert "Ask for fewer" in str(found[0].why)
    index = json.loads((tmp_path / "index.json").read_text())["runs"]
    assert [(entry["state"], entry["cell"]) for entry in index.values()] == [("failed", {"per_round": 4}), ("done", {"per_round": 2})]
    before = (run_folder(tmp_path, made.runs()[1]) / "clients.parquet").stat().st_mtime_ns
    wider = make_study({"base": base, "grid": {"per_round": [4, 2, 9]}}, "t")
    assert same_work(wider.runs()[0].spec, made.runs()[0].spec)
    assert [outcome.state for outcome in carry_out(wider, tmp_path)] == ["failed", "done", "failed"]
    assert (run_folder(tmp_path, made.runs()[1]) / "clients.parquet").stat().st_mtime_ns == before
    with pytest.raises(AtollError, match="holds another study"):
        carry_out(make_study({"base": {**base, "rounds": 2}, "grid": {"per_round": [4, 2]}}, "t"), tmp_path)


def test_a_study_from_python(tmp_path):
    """The same call goes on; what fails is told after all others are done."""
    content = {"base": {**BASE, "rounds": 1, "methods": ["fedavg"]}, "grid": {"per_round": [2, 4]}}
    with pytest.raises(AtollError, match=r"1 of 2 runs .* failed; .*Ask for fewer"):
        atoll.run_study(content, out=tmp_path / "s")
    done = atoll.run_study({**content, "grid": {"per_round": [2]}}, out=tmp_path / "t")
    assert done.folder == tmp_path / "t"
    assert done.table.select("per_round", "seed", "method").rows() == [("2", 0, "FedAvg")]
    before = (tmp_path / "t" / "index.json").stat().st_mtime_ns
    again = atoll.run_study(tmp_path / "t")
    assert again.table.equals(done.table)
    assert (tmp_path / "t" / "index.json").stat().st_mtime_ns >= before
    assert again.report().name == "report.html"
    with pytest.raises(AtollError, match="Did you mean quick"):
        atoll.run_study("quik")


def test_a_ready_made_study_goes_by_its_name_where_its_folder_lies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick").mkdir()
    made, folder = find("quick", tmp_path / "quick")
    assert (made.name, folder) == ("quick", tmp_path / "quick")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "study.toml").write_text(study_toml(made))
    assert find("own", tmp_path / "own")[1].resolve() == tmp_path / "own"
    with pytest.raises(AtollError, match="Leave out --out"):
        find("own", tmp_path / "elsewhere")


def test_a_method_that_cannot_work_is_left_out_and_the_others_go_on(tmp_path):
    """MOON wants a hidden layer. It runs where there is one; a study of MOON alone fails."""
    content = {"base": {**BASE, "rounds": 1, "methods": ["fedavg", "moon"]}, "grid": {"model": ["softmax", "mlp:4"]}}
    made = atoll.run_study(content, out=tmp_path / "s")
    scores = made.table.select("model", "method", "accuracy").sort("model", "method")
    assert [(model, method, accuracy is None) for model, method, accuracy in scores.rows()] == [
        ("mlp:4", "FedAvg", False),
        ("mlp:4", "MOON", False),
        ("softmax", "FedAvg", False),
        ("softmax", "MOON", True),
    ]
    results = open_results(tmp_path / "s")
    assert [score(results, cell, "MOON") == "left out" for cell in results.cells] == [True, False]
    assert any(line.startswith("MOON is left out of softmax: ") and "hidden layer" in line for line in warnings(results))
    assert "MOON is left out of softmax" in made.report().read_text(encoding="utf-8")
    run = run_folder(tmp_path / "s", open_study(tmp_path / "s").runs()[0])
    assert "left out" in findings.warnings(digest(open_run(run)))[0]
    assert open_plan(run).refused.keys() == {"MOON"}
    with pytest.raises(AtollError, match="hidden layer"):
        atoll.run_study({**content, "base": {**content["base"], "methods": ["moon"]}, "grid": {}}, out=tmp_path / "t")


def test_a_study_survives_the_death_of_its_process(tmp_path):
    """Killed outright in the middle, its worker saves and stops by itself; going on gives what an uninterrupted study gives."""
    (tmp_path / "t.toml").write_text(study_toml(make_study({"base": {**BASE, "rounds": 300, "methods": ["fedavg"], "eval_every": 100}}, "t")))
    command = [sys.executable, "-m", "atoll.cli", "study", "t.toml", "--out", "s"]
    going = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run = tmp_path / "s" / "runs" / "seed0"
    manifest = run / "checkpoints" / "00-fedavg" / "manifest.json"
    _until(lambda: manifest.exists() and json.loads(manifest.read_text())["round"] > 2)
    os.kill(going.pid, signal.SIGKILL)
    going.wait()
    made = open_study(tmp_path / "s")
    found = []
    _until(lambda: found.append(_states(made, tmp_path / "s")) or found[-1] != "held")
    assert found[-1] == ["done"]
    assert json.loads(manifest.read_text())["state"] == "done"
    assert is_done(run)
    assert pl.read_parquet(run / "rounds.parquet")["round"].to_list() == list(range(1, 301))


def _states(made, folder):
    """Carries the study on; "held" while its worker still saves."""
    try:
        return [outcome.state for outcome in carry_out(made, folder)]
    except AtollError as error:
        return "held" if "Another process works on" in str(error) else str(error)


def _until(there):
    end = time.monotonic() + 120
    while not there():
        assert time.monotonic() < end
        time.sleep(0.05)
