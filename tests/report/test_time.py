"""Runs whose data change while clients train: what the change cost, and which round counts."""

import json

import polars as pl
import pytest

from atoll import metrics
from atoll.report.colours import styles
from atoll.report.digest import digest
from atoll.report.html import write_report
from atoll.report.plots_time import change
from atoll.report.run import open_run
from tests.report.make_run import CLIENT_TYPES, make_run
from tests.report.parsed import parse


def scores(**by_method: list[float]) -> pl.DataFrame:
    """Rounds 0, 1, 2, ... of one client with 10 test rows, by the number right."""
    plain = {"client": 0, "seen": True, "joined": True, "split": "test", "model": "personal", "rows": 10, "loss": 1.0}
    rows = [{**plain, "method": m, "round": r, "correct": c} for m, values in by_method.items() for r, c in enumerate(values)]
    return pl.DataFrame(rows, schema=CLIENT_TYPES, orient="row")


def test_what_a_change_costs_by_hand():
    """Changes at rounds 3 and 5. A falls from .8 to .2 and is back after two rounds, then from .8 to .5 and never again; B does not care."""
    clients = scores(A=[1, 6, 8, 2, 8, 5, 7], B=[5, 5, 5, 5, 5, 5, 5])
    over_time = metrics.over_time(clients, regression=False)
    assert over_time.filter(pl.col("method") == "A")["score"].to_list() == [0.1, 0.6, 0.8, 0.2, 0.8, 0.5, 0.7]
    told = metrics.adapted(over_time, [3, 5], regression=False)
    assert told.rows() == [("A", 3, 0.8, 0.2, 0.8, 2), ("A", 5, 0.8, 0.5, 0.7, None), ("B", 3, 0.5, 0.5, 0.5, 1), ("B", 5, 0.5, 0.5, 0.5, 1)]
    short = metrics.steadiness(clients, [3, 5], regression=False)
    assert short["mean_over_time"].to_list() == [pytest.approx((6 + 8 + 2 + 8 + 5 + 7) / 60), pytest.approx(0.5)]
    assert short["lost"].to_list() == [pytest.approx((0.6 + 0.3) / 2), 0.0]
    assert short["recovery"].to_list() == [2.0, 1.0]


def test_rounds_that_are_not_scored_are_not_made_up():
    """Scored in rounds 0, 4 and 6 only: before the change at 3 stands round 0, after it round 4; nothing is known between 3 and the change at 4."""
    clients = scores(A=[4, 6, 8, 2, 8, 5, 7]).filter(pl.col("round").is_in([0, 4, 6]))
    told = metrics.adapted(metrics.over_time(clients, regression=False), [3, 4], regression=False)
    assert told.rows() == [("A", 4, 0.4, 0.8, 0.7, 1)]


def test_losses_are_better_when_they_fall():
    rows = [(0, 2.0), (1, 1.0), (2, 4.0), (3, 1.0)]
    clients = scores(A=[0] * 4).with_columns(pl.Series("loss", [10 * loss for _, loss in rows]))
    told = metrics.adapted(metrics.over_time(clients, regression=True), [2], regression=True)
    assert told.rows() == [("A", 2, 1.0, 4.0, 1.0, 2)]
    assert metrics.steadiness(clients, [2], regression=True)["lost"].to_list() == [3.0]


def test_only_rounds_of_the_last_phase_may_count():
    clients = scores(A=[1, 9, 3, 4, 2]).with_columns(pl.lit("validation").alias("split"))
    assert metrics.choose(clients, regression=False)["round"].to_list() == [1]
    assert metrics.choose(clients, regression=False, since=2)["round"].to_list() == [3]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("time") / "run", rounds=10)
    sheet = json.loads((folder / "data.json").read_text())
    sheet["drift"] = {"every": 4, "order": [0, 1], "again": True, "about": ["concept 1", "concept <2>"]}
    (folder / "data.json").write_text(json.dumps(sheet))
    return open_run(folder)


def test_the_report_of_data_that_change(run, tmp_path):
    """Phases begin in rounds 1, 5 and 9, the third of them with the first concept again."""
    assert run.changes == [5, 9]
    found = digest(run)
    assert (found.chosen.filter(pl.col("method") != "Blowup")["round"] >= 9).all()
    assert found.table["mean_over_time"].is_not_null().sum() == 7
    chart = change(found, styles(list(run.status)))
    assert [note.text for note in chart.figure.layout.annotations] == ["concept 1", "concept &lt;2&gt;", "concept 1"]
    assert [shape.x0 for shape in chart.figure.layout.shapes] == [4.5, 8.5]
    page = parse(write_report([run.folder], tmp_path / "r.html").read_text())
    assert "Change over time" in page.text


def test_without_change_nothing_is_said_of_it(tmp_path):
    found = digest(open_run(make_run(tmp_path / "run")))
    assert found.run.changes == []
    assert found.run.settled == 0
    assert "mean_over_time" not in found.table.columns
    assert change(found, {}) is None
