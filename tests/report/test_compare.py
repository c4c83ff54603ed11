"""Runs side by side: what differs is said, what can't be compared is refused."""

import json

import pytest
from rich.console import Console

from atoll.core.errors import AtollError
from atoll.report.compare import print_comparison, write_comparison
from atoll.report.side_by_side import differences, side_by_side
from tests.report.exact_run import base, exact_run, flat
from tests.report.parsed import parse

SPEC = 'rounds = 1\nseed = {seed}\nper_round = {asked}\n\n[settings]\nlr = {lr}\n\n[data]\nsource = "digits"\n'
METHOD = '\n[[methods]]\nname = "new"\nsettings = {{mu = {mu}}}\n'


@pytest.fixture
def run(tmp_path):
    def make(name, *, seed=0, asked=2, lr=0.1, split="0" * 64, bytes=100, more=(), regression=False, mu=0.5):
        methods = {"Local": base(5, 5), "New": flat(6, 8, bytes=bytes), **{other: flat(1, 1) for other in more}}
        folder = exact_run(tmp_path / name, methods, spec=(SPEC + METHOD).format(seed=seed, asked=asked, lr=lr, mu=mu), regression=regression)
        sheet = json.loads((folder / "data.json").read_text()) | {"split_hash": split}
        (folder / "data.json").write_text(json.dumps(sheet))
        return folder

    return make


def test_equal_runs_need_no_warning(run):
    assert differences(side_by_side([run("a"), run("b")])) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"split": "1" * 64}, "Clients have different rows, though seeds are the same: split 00000000 in 1; split 11111111 in 2."),
        ({"seed": 3}, "Seeds differ: 0 in 1; 3 in 2. Differences are not paired."),
        ({"asked": 1}, "per_round differs: 2 in 1; 1 in 2."),
        ({"lr": 0.2}, "settings.lr differs: 0.1 in 1; 0.2 in 2."),
        ({"mu": 2}, "Settings of new differ: mu=0.5 in 1; mu=2 in 2."),
        ({"bytes": 300}, "Budgets are unequal: New has 3.0 times the traffic per client in one column as in another (200 B in 1; 600 B in 2)."),
        ({"more": ["Other"]}, "Not in every column: Other."),
    ],
)
def test_what_differs_is_said(run, change, says):
    assert differences(side_by_side([run("a"), run("b", **change)])) == [says]


def test_other_splits_with_other_seeds_are_said_once(run):
    found = differences(side_by_side([run("a"), run("b", seed=1, split="2" * 64)]))
    assert found == ["Seeds differ: 0 in 1; 1 in 2. Differences are not paired.", "Clients have different rows: no two of the splits come from the same seed."]


def test_other_tasks_are_refused(run, tmp_path):
    with pytest.raises(AtollError, match="one predicts a label and the other a number"):
        side_by_side([run("a"), run("b", regression=True)])
    with pytest.raises(AtollError, match="neither a run nor a study"):
        side_by_side([run("c"), tmp_path])


def test_the_table_and_the_page(run, tmp_path, capsys):
    columns = side_by_side([run("a"), run("b", lr=0.5)])
    print_comparison(columns, Console(width=100))
    out = capsys.readouterr().out
    assert "1. a" in out
    assert "70.0" in out
    assert "! settings.lr differs" in out
    root = parse(write_comparison(columns, tmp_path / "c.html").read_text(encoding="utf-8"))
    assert [th.text for th in root.one("section").one("thead").all("th")] == ["method", "1. a", "2. b"]
    assert "settings.lr differs" in root.one("aside").text
