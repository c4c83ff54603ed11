"""Clusters of clients in a report: agreement with known groups, and what is drawn."""

import json

import numpy as np
import polars as pl
import pytest

from atoll import metrics
from atoll.report import plots_clusters
from atoll.report.colours import styles
from atoll.report.digest import digest
from atoll.report.html import write_report
from atoll.report.plots_clusters import numbered_like
from atoll.report.run import open_run
from atoll.report.table import comparison
from tests.report.exact_run import base, exact_run, flat
from tests.report.parsed import parse

GROUPS = [0, 1, 0, 1, 0, 1]


def with_clusters(folder, found: dict[str, dict[int, list[int | None]]], groups):
    """A run of six clients, the last of them unseen, with these clusters per method and round."""
    methods = {"FedAvg": base(5, 5, 5, 5, 5, unseen=[5])} | {name: flat(6, 6, 6, 6, 6, unseen=[6]) for name in found}
    exact_run(folder, methods)
    rows = [(m, r, i, c) for m, rounds in found.items() for r, clusters in rounds.items() for i, c in enumerate(clusters)]
    schema = {"method": pl.String, "round": pl.Int32, "client": pl.Int32, "cluster": pl.Int32}
    clients = pl.read_parquet(folder / "clients.parquet").drop("cluster")
    clients.join(pl.DataFrame(rows, schema=schema, orient="row"), on=["method", "round", "client"], how="left").write_parquet(folder / "clients.parquet")
    sheet = json.loads((folder / "data.json").read_text()) | {"groups": groups}
    (folder / "data.json").write_text(json.dumps(sheet))
    return folder


FOUND = {
    "Right": {0: [0] * 6, 1: [7, 3, 7, 3, 7, 3]},
    "Wrong": {0: [None] * 6, 1: [0, 0, 1, 1, None, 1]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return with_clusters(tmp_path_factory.mktemp("clusters") / "run", FOUND, GROUPS)


def test_agreement_by_hand(folder):
    """Two pairs are apart in groups 0 1 0 1 and clusters 0 0 1 1: no pair is together in both. Expected 2 * 2 / 6 = 2/3, so (0 - 2/3) / (2 - 2/3) = -1/2."""
    table = comparison(folder)
    found = dict(zip(table["method"], zip(table["clusters"], table["adjusted_rand"], strict=True), strict=True))
    assert found == {"FedAvg": (None, None), "Right": (2, 1.0), "Wrong": (2, -0.5)}


def test_groups_that_tell_nothing_have_no_agreement(folder):
    found = metrics.memberships(pl.read_parquet(folder / "clients.parquet"))
    for groups in (None, [0] * 6, [0, 1, 2, 3, 4, 5]):
        assert metrics.agreement(found, groups)["adjusted_rand"].is_null().all()
    assert metrics.agreement(found, GROUPS)["clusters"].to_list() == [1, 2, 2]


def test_the_strips_show_groups_and_clusters_with_the_groups_numbers(folder):
    d = digest(open_run(folder))
    strip, lines = plots_clusters.clusters(d, styles(list(d.run.status)))
    drawn = strip.figure.data[0]
    assert list(drawn.y) == ["known groups", "Right (2, 1.00)", "Wrong (2, -0.50)"]
    assert [list(row) for row in drawn.text] == [list("111222"), list("111222"), ["1", "2", "", "1", "2", "2"]]
    assert [name.split()[1] for name in drawn.customdata[0]] == list("024135")
    assert "(unseen)" in drawn.customdata[0][5]
    assert {trace.meta: (list(trace.x), list(trace.y)) for trace in lines.figure.data} == {"Right": ([0, 1], [0, 1]), "Wrong": ([1], [-0.5])}


def test_without_known_groups_there_is_only_the_strip(tmp_path):
    d = digest(open_run(with_clusters(tmp_path / "run", FOUND, None)))
    (strip,) = plots_clusters.clusters(d, styles(list(d.run.status)))
    assert list(strip.figure.data[0].y) == ["Right (2)", "Wrong (2)"]
    assert "no known groups" in strip.says


def test_the_page_has_a_part_for_clusters_and_no_name_twice(folder):
    page = parse(write_report([folder], folder / "page.html").read_text())
    names = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert {"run1-clusters", "run1-memberships", "run1-agreement"} <= set(names)
    assert len(names) == len(set(names))


def test_nothing_is_drawn_where_no_method_finds_clusters(tmp_path):
    d = digest(open_run(exact_run(tmp_path / "run", {"FedAvg": base(5, 5)})))
    assert list(plots_clusters.clusters(d, styles(list(d.run.status)))) == []
    assert "Clusters of clients" not in write_report([tmp_path / "run"], tmp_path / "page.html").read_text()


def test_more_clusters_than_groups_keep_apart():
    nan = np.nan
    np.testing.assert_equal(numbered_like(np.array([0.0, 0, 1, 1, 1]), np.array([5.0, 6, 2, 2, nan])), [0, 2, 1, 1, nan])
