"""The report of a study: what it says of made-up scores, by hand."""

import csv
import io
import json

import numpy as np
import pytest
from rich.console import Console

from atoll import metrics
from atoll.core.errors import AtollError
from atoll.report import findings, words
from atoll.report.colours import styles
from atoll.report.columns import Column
from atoll.report.study_cells import convergence, distributions
from atoll.report.study_data import data_table
from atoll.report.study_export import latex, summary_json, table_of_all
from atoll.report.study_findings import best, gap, overall, verdict, warnings
from atoll.report.study_measures import mean_of, measures
from atoll.report.study_page import write_study_report
from atoll.report.study_plots import cost_charts, sweep_charts, sweeps
from atoll.report.study_results import open_results
from atoll.report.study_table import print_study, score
from atoll.study.verified import FAILS, Checked, Verification
from tests.report.chromium import dump
from tests.report.exact_run import Given, base, flat
from tests.report.exact_study import exact_study
from tests.report.parsed import parse

IID, SKEWED = "iid", "dirichlet:0.1"


def methods(local, fedavg, tuned, new, *, validation=9, shiny=4):
    """Numbers of ten right, of both clients alike."""
    known = {"Local": local, "FedAvg": fedavg, "FedAvg+FT": tuned}
    return {name: base(n, n) for name, n in known.items()} | {"New": flat(new, new, validation=validation), "Shiny": flat(shiny, shiny, validation=8)}


@pytest.fixture
def study(tmp_path):
    """With skew Local beats FedAvg by 2 of 10 and New beats all; without it FedAvg beats Local by 4 and all."""
    skewed = [methods(6, 4, 6, 6 + gain) for gain in (1, 2, 3)]
    even = [methods(4, 8, 7, n) for n in (6, 7, 8)]
    return open_results(exact_study(tmp_path / "s", "data.skew", {SKEWED: skewed, IID: even}))


def test_differences_by_hand(study):
    """Of 10, 20 and 30 points: mean 20, quantile of t with 2 degrees 4.3027: 20 ± 24.8. Resampled seeds: from the smallest to the largest."""
    assert best(study) == "New"
    found = gap(study.cells[0], "New", "FedAvg+FT")
    assert found is not None
    assert (found.unit, found.clear) == ("seeds", 0)
    assert (found.student.low, found.student.mean, found.student.high) == pytest.approx((-0.0484, 0.2, 0.4484), abs=1e-4)
    assert (found.bootstrap.low, found.bootstrap.high) == pytest.approx((0.1, 0.3))
    assert score(study, study.cells[0], "New") == "80.0 ± 24.8"
    clear = gap(study.cells[1], "FedAvg", "Local")
    assert clear is not None
    assert clear.clear == 1
    assert verdict(study)[:3] == [
        "New, the best method by validation scores over 2 cells, is on test rows 10.0 points better than FedAvg+FT [-14.8, +34.8] "
        "and 25.0 points better than Local [+0.2, +49.8], on average.",  # over both cells: 0, 10 and 20 points; 15, 25 and 35
        "Against FedAvg+FT it is clearly better in 0 and clearly worse in 0 of 2 cells.",
        "Against Local it is clearly better in 1 and clearly worse in 0 of 2 cells.",  # 30 ± 24.8 without skew
    ]


def test_what_costs_what_over_cells_and_seeds(study):
    """Everybody but New and Shiny (and FedAvg) sends nothing here or as much; gains on FedAvg+FT are means over both cells: New (0.2 + 0) / 2."""
    charts = list(cost_charts(study, styles(study.methods)))
    (chart,) = (one for one in charts if one.key == "price")
    gains = {trace.meta: trace.y[0] for trace in chart.figure.data if trace.meta}
    assert gains["FedAvg+FT"] == 0
    assert gains["New"] == pytest.approx(100 * np.mean([cell.scores("New").mean() - cell.scores("FedAvg+FT").mean() for cell in study.cells]))
    assert "means over 2 cells and 3 seeds" in chart.says


def test_intervals_are_drawn_within_what_is_possible(study):
    figure = sweep_charts(study, sweeps(study)[0], 1, styles(study.methods), metrics.ranking(study.methods, study.means(), regression=False))[0].figure
    for trace in figure.data:
        if trace.error_y.array is not None:
            assert (np.asarray(trace.y) + trace.error_y.array <= 100 + 1e-9).all()
            assert (np.asarray(trace.y) - trace.error_y.arrayminus >= -1e-9).all()


def test_fine_tuning_counts_where_baselines_are_said_to_do(tmp_path):
    """Local has more than New and less than FedAvg+FT: federation brings something."""
    cell = {"Local": base(6, 6), "FedAvg+FT": base(8, 8), "New": flat(5, 5)}
    results = open_results(exact_study(tmp_path / "s", "data.skew", {IID: [cell, cell]}))
    assert not any("Local is at least" in text for text in warnings(results))
    assert not any("Local" in text and "at least as good" in text for text in findings.warnings(results.any))
    worse = open_results(exact_study(tmp_path / "t", "data.skew", {IID: [{**cell, "FedAvg+FT": base(6, 5)}] * 2}))
    assert any("Local is at least as good as every method at iid" in text for text in warnings(worse))


def test_seeds_that_a_cell_lacks_have_no_part_in_the_mean_over_cells(tmp_path):
    """Seed 1 is missing in one cell: what is left is seed 0, with 10 and 30 points, and one seed has no interval."""
    cells = {SKEWED: [methods(6, 4, 6, 7), methods(1, 4, 6, 9)], IID: [methods(5, 4, 6, 8), {}]}
    results = open_results(exact_study(tmp_path / "s", "data.skew", cells))
    found = overall(results, "New", "Local")
    assert found is not None
    assert (found.mean, found.pairs, found.low) == (pytest.approx(0.2), 1, -np.inf)
    assert "20.0 points better than Local, on average." in verdict(results)[0]
    assert overall(results, "New", "Nobody") is None


def test_cells_have_their_data_curves_and_clients(study):
    """New has 7, 8 and 9 of 10 with skew, for both clients and in validation always 9, and nothing before round 1."""
    told = styles(study.methods), metrics.ranking(study.methods, study.means(), regression=False)
    says, (curve, _) = convergence(study, *told)
    assert "mean over 3 seeds" in says
    lines = {trace.meta: (list(trace.x), list(trace.y)) for trace in curve.figure.data}
    assert lines["New"] == ([0, 1], [0, 90])
    assert curve.hidden == ()
    _, (spread, _) = distributions(study, *told)
    steps = next((list(trace.x), list(trace.y)) for trace in spread.figure.data if trace.meta == "New")
    assert steps == ([70, 70, 80, 80, 90, 90], pytest.approx([100 / 6 * n for n in range(1, 7)], abs=0.01))
    assert data_table(study) is None  # older runs measured nothing
    gini = [{"kind": "quantity", "key": "gini", "name": "Gini of sizes", "value": v, "word": "strong"} for v in (0.2, 0.4, 0.6)]
    for d, one in zip(study.cells[0].digests.values(), gini, strict=True):
        d.run.data["heterogeneity"] = [one]
    rows = [[cell.text for cell in row.children] for row in parse(f"<html>{data_table(study)}</html>").all("tr")]
    assert ["quantity: Gini of sizes", "0.400", words.DASH] in rows
    assert ["train rows", "20", "20"] in rows


def test_other_measures_are_means_over_seeds(study):
    """With skew the two clients have 6 of 10 with Local and 4 with FedAvg, so both are hurt by it. New has 7, 8 and 9."""
    found = {column.key: column for column in measures(study)}
    assert {"hurt_local", "accuracy_worst", "round", "bytes_round"} <= set(found)
    assert not {"accuracy", "seconds"} & set(found)
    assert mean_of(study.cells[0], "FedAvg", found["hurt_local"]) == "100.0"
    assert mean_of(study.cells[0], "New", found["accuracy_worst"]) == "80.0"
    assert mean_of(study.cells[0], "Local", found["hurt_local"]) == words.DASH
    assert mean_of(study.cells[1], "Shiny", found["round"]) == "1"
    elsewhere = Column("lost", "lost", "What only some cells have", words.percent)
    assert mean_of(study.cells[0], "New", elsewhere) == words.DASH
    root = parse(write_study_report(study).read_text(encoding="utf-8"))
    titles = [e.text for e in root.all("summary")]
    assert "worst 10 %" in titles


def test_with_one_seed_clients_are_resampled(tmp_path):
    even = {"Local": base(4, 6), "FedAvg+FT": base(5, 5), "New": flat(6, 8)}
    found = gap(open_results(exact_study(tmp_path / "s", "data.skew", {IID: [even]})).cells[0], "New", "FedAvg+FT")
    assert found is not None
    assert (found.unit, found.clear) == ("clients", 1)
    assert (found.interval.low, found.interval.mean, found.interval.high) == pytest.approx((0.1, 0.2, 0.3))


def test_the_sweep_and_where_local_and_fedavg_change_places(study):
    (made,) = sweeps(study)
    assert (made.axis, made.values) == ("data.skew", [SKEWED, IID])
    assert made.score["Local"].tolist() == pytest.approx([0.6, 0.4])
    assert made.reach["FedAvg"].tolist() == pytest.approx([0.0, 0.0])
    assert made.rank["New"].tolist() == [1, 2.5]  # 70 points without skew, as FedAvg+FT
    root = parse(write_study_report(study).read_text(encoding="utf-8"))
    text = root.one("figure").one("figcaption").text
    assert f"Local is better than FedAvg at {SKEWED}, FedAvg better than Local at {IID}." in text
    assert f"FedAvg is at least as good as every method at {IID}: one common model does there." in text
    lines = [shape["x0"] for shape in json.loads(root.one("figure").one("script").text)["layout"]["shapes"]]
    assert lines == pytest.approx([2 / 6])  # from a lead of 20 points to one of -40


def test_warnings(tmp_path):
    broken = methods(6, 4, 6, 7) | {"Twin": flat(7, 7, validation=9)}
    lame = methods(6, 4, 6, 7) | {"Twin": flat(7, 7, state="diverged")}
    results = open_results(exact_study(tmp_path / "s", "data.skew", {SKEWED: [broken, lame], IID: [methods(9, 4, 6, 7), {}]}))
    found = warnings(results)
    assert found[0] == "1 run not finished or failed, and left out: iid, seed 1. `atoll study` goes on with them."
    assert found[1].startswith(f"Twin diverged in {SKEWED}, seed 1.")
    assert "Local is at least as good as every method at iid: federation brings nothing there." in found
    assert any(text.startswith("New and Twin coincide exactly for every client in 1 of 3 runs") for text in found)
    said = Checked("New", {"mu": 0.0}, "FedAvg", {}, {}, "personal", 0, "it is", FAILS, difference=0.25, share=0.5, rows_apart=3)
    for d in results.cells[0].digests.values():
        (d.run.folder / "identities.json").write_text(Verification((said,), (), (), 2, 0).json())
    assert [text.startswith("An identity fails: New (mu=0)") for text in warnings(results)].count(True) == 1
    (results.folder / "tuning.json").write_text(json.dumps({"unit": "accuracy", "methods": [
        {"method": name, "space": {"lr": [0.1]}, "trials": 3, "failed": 0, "best": 0.5, "median": 0.5, "flops": 1.0, "values": {}}
        for name in ("Local", "FedAvg", "FedAvg+FT", "New", "Twin")]}))  # fmt: skip
    assert "Tuning was unequal: Shiny had no trials, and others had." in warnings(results)
    assert np.isnan(results.means()[0, results.methods.index("Twin")])
    assert score(results, results.cells[0], "Twin") == "diverged 1/2"


def test_taken_away(study):
    rows = list(csv.DictReader(io.StringIO(table_of_all(study).write_csv())))
    assert len(rows) == 2 * 3 * 5
    assert {(row["title"], row["data.skew"], row["seed"]) for row in rows} == {(s, s, str(k)) for s in (SKEWED, IID) for k in range(3)}
    told = json.loads(summary_json(study))
    assert told["cells"][0]["picked"] == "New"
    assert told["cells"][0]["methods"]["New"]["scores"] == pytest.approx([0.7, 0.8, 0.9])
    assert told["cells"][0]["methods"]["New"]["against Local"]["student"]["mean"] == pytest.approx(0.2)
    assert told["ranks"]["mean"]["New"] == pytest.approx(1.75)
    table = latex(study)
    assert r"New & \textbf{80.0 $\pm$ 24.8} & \textbf{70.0 $\pm$ 24.8} \\" in table
    assert table.count(r"\midrule") == 2


def test_the_terminal(study, capsys):
    print_study(study, Console(width=100))
    out = capsys.readouterr().out
    assert "80.0 ± 24.8" in out
    assert "Mean over 3 seeds" in out


def test_no_finished_run_is_an_error(tmp_path):
    with pytest.raises(AtollError, match="No run of"):
        open_results(exact_study(tmp_path / "s", "data.skew", {IID: [{}]}))


def test_regression_counts_losses(tmp_path):
    def losing(k, **more):
        return Given({0: [9, 9], 1: [k, k]}, {0: 9, 1: k}, **more)

    known = {"Local": losing(5, baseline=True), "FedAvg+FT": losing(4, baseline=True)}
    cells = {n: [known | {"New": losing(k)} for k in (2, 3)] for n in (1, 2)}
    results = open_results(exact_study(tmp_path / "s", "data.clients", cells, regression=True))
    found = gap(results.cells[0], "New", "Local")
    assert found is not None
    assert found.student.mean == pytest.approx(0.25)
    assert best(results) == "New"
    assert "test loss" in write_study_report(results).read_text(encoding="utf-8")


@pytest.mark.browser
def test_charts_are_drawn_without_errors(study):
    root = parse(dump(write_study_report(study)))
    page = root.one("html")
    assert page.attributes.get("data-errors") is None
    plots = root.all(class_="plot")
    assert len(plots) == 8
    assert all("data-drawn" in plot.attributes for plot in plots)
