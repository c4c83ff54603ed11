"""How clients differ, on the page; and what the table says of the clients that attack nobody."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atoll.data import load
from atoll.data.sheet import sheet
from atoll.metrics.heterogeneity import heterogeneity
from atoll.report.columns import columns
from atoll.report.digest import digest
from atoll.report.findings import footnotes
from atoll.report.html import write_report
from atoll.report.run import open_run
from tests.report.exact_run import base, exact_run, flat
from tests.report.make_run import make_run
from tests.report.parsed import parse


def with_data(folder: Path, **more) -> Path:
    data = json.loads((folder / "data.json").read_text())
    (folder / "data.json").write_text(json.dumps({**data, **more}))
    return folder


def test_the_page_has_the_numbers_of_the_sheet(tmp_path):
    fed = load("digits", skew=["iid", "swap:3"], clients=6)
    root = parse(write_report([with_data(make_run(tmp_path / "run"), heterogeneity=sheet(fed)["heterogeneity"])], None).read_text(encoding="utf-8"))
    rows = root.one("table", "differences").one("tbody").all("tr")
    found = heterogeneity(fed)
    assert len(rows) == len(found)
    for row, one in zip(rows, found, strict=True):
        word, number, chance, name = (cell.text for cell in row.all("td"))
        assert (word, name) == (one.word, one.name)
        assert number == f"{one.value:.3f}"
        assert chance == ("\N{EN DASH}" if one.chance is None else f"{one.chance:.3f}")
    assert [row.one("th").text for row in rows if row.one("th").text] == ["quantity", "labels", "features", "preference", "attack"]
    assert [row.all("td")[3].text for row in rows if row.all("strong")] == ["labels differ at the same x"]


def test_runs_without_measures_have_no_such_table(tmp_path):
    root = parse(write_report([make_run(tmp_path / "run")], None).read_text(encoding="utf-8"))
    assert not root.all("table", "differences")


def test_benign_clients_are_scored_apart(tmp_path):
    """Two clients with 10 test rows each; the second attacks. Local has 8 and 2 right, New 7 and 9: of the first alone 80 and 70 %."""
    folder = exact_run(tmp_path / "run", {"Local": base(8, 2), "New": flat(7, 9)})
    plain = digest(open_run(folder))
    assert "benign" not in " ".join(footnotes(plain))
    assert "benign_accuracy" not in plain.table.columns
    found = digest(open_run(with_data(folder, attackers=[False, True])))
    assert any(line.startswith("1 of 2 clients train on wrong labels") for line in footnotes(found))
    assert found.table.select("method", "benign_accuracy", "benign_accuracy_mean", "accuracy").rows() == [
        ("Local", pytest.approx(0.8), pytest.approx(0.8), pytest.approx(0.5)),
        ("New", pytest.approx(0.7), pytest.approx(0.7), pytest.approx(0.8)),
    ]
    assert "benign_accuracy" in {column.key for column in columns(found)}
    nobody = digest(open_run(with_data(folder, attackers=[True, True])))
    assert "benign_accuracy" not in {column.key for column in columns(nobody)}
