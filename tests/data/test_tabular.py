"""Users' own tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from atoll.data import load
from atoll.data.sources import tabular
from tests.data.support import owners, refuses

ROWS = """hospital,age,smoker,ward,stay,died
north,61,true,a,3.5,no
north,50,false,b,2.0,yes
south,47,false,a,1.0,no
south,70,true,c,9.5,yes
north,33,false,b,4.0,no
south,58,true,a,6.0,no
north,44,true,a,2.5,yes
south,39,false,c,7.0,no
"""


def table(tmp_path: Path, text: str = ROWS, name: str = "data.csv") -> Path:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return file


def test_a_table_becomes_clients(tmp_path):
    fed = load("csv", path=table(tmp_path), client="hospital", label="died")
    assert fed.name == "data by hospital"
    assert fed.names == ("north", "south")
    assert fed.labels == ("no", "yes")
    assert fed.x.shape == (8, 6)  # age, smoker, ward a b c, stay
    frame = pl.read_csv(tmp_path / "data.csv")
    for x, y, client in zip(fed.x, fed.y, owners(fed), strict=True):
        row = frame.filter(pl.col("age") == int(x[0])).row(0, named=True)
        assert row["hospital"] == fed.names[client]
        assert row["died"] == fed.labels[y]
        assert x.tolist() == [row["age"], row["smoker"], *(row["ward"] == ward for ward in "abc"), row["stay"]]


def test_numbers_are_standardised_and_the_rest_is_not(tmp_path):
    fed = load("csv", path=table(tmp_path), client="hospital", label="died")
    rows = fed.x[: int(fed.count["train"].sum())]
    z = (rows - fed.shift) * fed.scale
    np.testing.assert_allclose(z[:, [0, 5]].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(z[:, [0, 5]].std(axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(z[:, 1:5], rows[:, 1:5])


def test_path_alone_and_chosen_features(tmp_path):
    fed = load(table(tmp_path), label="died", client="hospital", features=["stay", "age"])
    assert fed.x.shape == (8, 2)
    assert fed.x[:, 0].max() == 9.5
    assert load(str(tmp_path / "data.csv"), label="died", client="hospital", features="age").x.shape == (8, 1)


def test_regression(tmp_path):
    fed = load("csv", path=table(tmp_path), client="hospital", label="stay", task="regression")
    assert fed.labels == ()
    assert fed.y.dtype == np.float32
    assert sorted(fed.y) == [1.0, 2.0, 2.5, 3.5, 4.0, 6.0, 7.0, 9.5]


def test_without_a_client_column_a_skew_deals_rows_out(tmp_path):
    file = table(tmp_path)
    fed = load("csv", path=file, label="died", features="age", skew="iid", clients=2)
    assert fed.name == "data, iid"
    assert len(load("csv", path=file, label="stay", features="age", task="regression", clients=2).names) == 2
    with refuses("8 rows", "20 clients"):
        load("csv", path=file, label="died", features="age")


def test_parquet_is_the_same(tmp_path):
    file = table(tmp_path)
    pl.read_csv(file).write_parquet(tmp_path / "data.parquet")
    a, b = load(file, client="hospital", label="died"), load(tmp_path / "data.parquet", client="hospital", label="died")
    np.testing.assert_array_equal(a.x, b.x)
    np.testing.assert_array_equal(a.y, b.y)


def test_clients_with_numbers_are_in_order_of_numbers(tmp_path):
    text = "id,x,y\n" + "".join(f"{i},{i},{j}\n" for i in (10, 9, 2) for j in (0, 1))
    assert load(table(tmp_path, text), client="id", label="y").names == ("2", "9", "10")


def test_other_separators_blank_lines_and_marks_at_the_start(tmp_path):
    text = "\ufeff" + ROWS.replace(",", ";").replace("south,70", "\nsouth,70") + "\n\n"
    fed = load("csv", path=table(tmp_path, text), client="hospital", label="died", separator=";")
    assert len(fed.y) == 8
    with refuses("separated by ';'", "separator=';'"):
        load("csv", path=tmp_path / "data.csv", client="hospital", label="died")
    with refuses("separator='::'", "one character"):
        load("csv", path=tmp_path / "data.csv", client="hospital", label="died", separator="::")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is empty"]),
        ("\n\n", ["is empty"]),
        ("hospital,age,died\n", ["no rows", "only a header"]),
        (ROWS.replace("south,47,false,a,1.0,no", "south,47,false,a,1.0,no,7"), ["line 4", "7 values", "header has 6"]),
        (ROWS.replace("south,47,false,a,1.0,no", "south,47"), ["line 4", "2 values", "header has 6"]),
        (ROWS.replace("stay", "age"), ["two columns are called 'age'"]),
        (ROWS.replace(",47,", ",,"), ["Column 'age' has no value in line 4", "1 such rows"]),
        (ROWS.replace("\nsouth,47,", "\n\n\nsouth,,"), ["Column 'age' has no value in line 6"]),
        (ROWS.replace("9.5", "NaN").replace("4.0", "inf"), ["Column 'stay' is nan in line 5", "2 such rows"]),
        (ROWS.replace("\nsouth,47", "\n,47"), ["Column 'hospital' has no value in line 4"]),
        (ROWS.replace("1.0,no", "1.0,"), ["Column 'died' has no value in line 4"]),
        (ROWS.replace("yes", "no"), ["holds only 'no'"]),
        (ROWS + "west,40,true,a,3.0,no\n", ["client 'west' has 1 row", "at least 2"]),
        (ROWS.replace("north,61", '"north,61'), ["data.csv"]),
    ],
)
def test_tables_that_are_not_right(tmp_path, text, words):
    with refuses(*words):
        load("csv", path=table(tmp_path, text), client="hospital", label="died")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({}, ["label=COLUMN", "hospital, age, smoker"]),
        ({"label": "dead"}, ["Unknown column", "'dead'", "Did you mean died?"]),
        ({"label": "died", "client": "hospitals"}, ["'hospitals'", "Did you mean hospital?"]),
        ({"label": "died", "features": ["age", "stya"]}, ["'stya'", "Did you mean stay?"]),
        ({"label": "died", "features": ["died"]}, ["used twice"]),
        ({"label": "died", "client": "died"}, ["used twice"]),
        ({"label": "died", "task": "ranking"}, ["'ranking'", "regression"]),
        ({"label": "died", "task": "regression"}, ["regression predicts numbers"]),
        ({"label": "stay"}, ["Column 'stay' is 3.5 in line 2", "task='regression'"]),
        ({"label": "died", "client": "hospital", "clients": 3}, ["2 natural clients, not 3"]),
        ({"label": "died", "client": "age"}, ["has 1 row", "7 others"]),
    ],
)
def test_questions_that_are_not_right(tmp_path, how, words):
    with refuses(*words):
        load("csv", path=table(tmp_path), **how)


def test_files_that_are_not_there_or_not_tables(tmp_path):
    with refuses("There is no file", "nowhere.csv"):
        load(tmp_path / "nowhere.csv", label="y")
    with refuses("needs a file", "--path"):
        load("csv", label="y")
    with refuses("is a folder"):
        load("csv", path=tmp_path, label="y")
    (tmp_path / "bad.csv").write_bytes(b"a,b\n\xff\xfe,2\n")
    with refuses("bad.csv", "can't be read as CSV"):
        load(tmp_path / "bad.csv", label="b")
    (tmp_path / "bad.parquet").write_bytes(b"a,b\n1,2\n")
    with refuses("bad.parquet", "can't be read as Parquet"):
        load(tmp_path / "bad.parquet", label="b")
    pl.DataFrame({"x": [1.0], "y": [0]}).clear().write_parquet(tmp_path / "empty.parquet")
    with refuses("no rows"):
        load(tmp_path / "empty.parquet", label="y")
    pl.DataFrame({"x": [[1], [2]], "y": [0, 1]}).write_parquet(tmp_path / "lists.parquet")
    with refuses("Column 'x' holds List", "features=[...]"):
        load(tmp_path / "lists.parquet", label="y")
    pl.DataFrame({"x": [1.0, None], "y": [0, 1]}).write_parquet(tmp_path / "holes.parquet")
    with refuses("Column 'x' has no value in row 1 of"):
        load(tmp_path / "holes.parquet", label="y")


def test_texts_with_too_many_values(tmp_path):
    many = "".join(f"c{i % 2},{i},name {i},{i % 2}\n" for i in range(120))
    with refuses("Column 'who' has 120 different texts", "features=[...]"):
        load(table(tmp_path, "c,x,who,y\n" + many), client="c", label="y")
    numbers = "".join(f"c{i % 2},{i if i != 57 else '5?'},{i % 2}\n" for i in range(120))
    with refuses("'5?' in line 59", "meant to hold numbers"):
        load(table(tmp_path, "c,x,y\n" + numbers), client="c", label="y")


def test_a_number_as_label_with_nearly_as_many_values_as_rows(tmp_path):
    text = "c,x,y\n" + "".join(f"c{i % 2},{i},{i * 7}\n" for i in range(60))
    with refuses("60 different values in 60 rows", "task='regression'"):
        load(table(tmp_path, text), client="c", label="y")
    assert len(load(tmp_path / "data.csv", client="c", label="y", task="regression").y) == 60


def test_rows_are_found_by_line_where_a_value_spans_lines(tmp_path):
    text = 'c,x,t,y\na,1,"one\ntwo",0\na,,b,1\n'
    with refuses("Column 'x' has no value in line 4"):
        load(table(tmp_path, text), client="c", label="y")


def test_many_rows_take_little_time(tmp_path):
    rng = np.random.default_rng(0)
    n = 50_000
    frame = pl.DataFrame({"c": rng.integers(0, 500, n), "x": rng.normal(size=n), "kind": rng.choice(["a", "b"], n), "y": rng.integers(0, 3, n)})
    frame.write_csv(tmp_path / "big.csv")
    assert len(load(tmp_path / "big.csv", client="c", label="y").names) == 500
    assert tabular.CATEGORIES >= 20
