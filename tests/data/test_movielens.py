"""Ratings of films: small files of the form, and the real ones where their package is installed."""

from __future__ import annotations

import zipfile
from importlib.util import find_spec

import numpy as np
import pytest

from atoll.data import load
from atoll.data.sources import read
from tests.data.support import refuses

needs_recbole = pytest.mark.skipif(find_spec("recbole") is None, reason="needs the ratings: pip install --no-deps recbole==1.2.1")

RATINGS = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "".join(
    f"{user}\t{film}\t{rating}\t{time}\n"
    for user, film, rating, time in [(7, 1, 5, 100), (7, 2, 3, 50), (7, 9, 4, 60), (12, 1, 1, 70), (12, 2, 4, 80), (12, 1, 2, 90)]
)
FILMS = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n" + "".join(
    f"{film}\t{title}\t{year}\t{genres}\n"
    for film, title, year, genres in [(1, 'The "Ring"', 1995, "Drama Comedy"), (2, "Old", 1940, "Drama"), (3, "Not rated", 1940, "War"), (9, "?", "V", "")]
)


def written(folder, ratings=RATINGS):
    (folder / "ml-100k.inter").write_text(ratings)
    (folder / "ml-100k.item").write_text(FILMS)
    return folder


def test_ratings_of_a_folder_and_of_the_wheel(tmp_path):
    wheel = written(tmp_path) / "recbole-1.2.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("ml-100k.inter", "ml-100k.item"):
            archive.write(tmp_path / name, f"recbole/dataset_example/ml-100k/{name}")
    for path in (tmp_path, wheel):
        table = read("movielens-100k", None, 0, {"path": path})
        assert table.names == ("user 7", "user 12")
        assert table.owner.tolist() == [0, 0, 0, 1, 1, 1]
        assert table.y.tolist() == [1, 0, 1, 0, 1, 0]
        assert table.time.tolist() == [100, 50, 60, 70, 80, 90]
        # Films 1, 2, 9 by number of ratings; Comedy, Drama, War; 1940s, 1990s.
        one, two, nine = [1, 0, 0, 1, 1, 0, 0, 1], [0, 1, 0, 0, 1, 0, 1, 0], [0, 0, 1, 0, 0, 0, 0, 0]
        assert table.x.tolist() == [one, two, nine, one, two, one]
    few = read("movielens-100k", None, 0, {"path": tmp_path, "task": "regression", "films": 1})
    assert few.labels == ()
    assert few.y.tolist() == [5, 3, 4, 1, 4, 2]
    assert few.x[:, 0].tolist() == [1, 0, 0, 1, 0, 1]
    assert few.x.shape[1] == 6
    assert load("movielens-100k", path=tmp_path, task="regression").y.dtype == np.float32


def test_what_is_not_ratings_is_refused(tmp_path):
    for text, words in (("", []), ("a\tb\n1\t2\n", []), (RATINGS + "12\t77\t3\t1\n", ["1 are not"]), (RATINGS + "12\t1\t9\t1\n", ["1 to 5"])):
        with refuses("does not hold RecBole's ml-100k", *words):
            load("movielens-100k", path=written(tmp_path, text))
    with refuses("task='ranking'"):
        load("movielens-100k", path=tmp_path, task="ranking")
    with refuses("films=-1"):
        load("movielens-100k", path=tmp_path, films=-1)
    with refuses("neither a folder nor RecBole's wheel"):
        load("movielens-100k", path=tmp_path / "ml-100k.item")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("atoll.data.sources.files.find_spec", lambda name: None)
    with refuses("pip install --no-deps recbole==1.2.1", "path=FOLDER"):
        load("movielens-100k")


@needs_recbole
def test_the_real_ratings():
    """Root mean squared errors as known: of the mean 1.126, of each film's mean about 1."""
    table = read("movielens-100k", None, 0, {"task": "regression"})
    size = np.bincount(table.owner)
    assert (len(table.y), len(table.names), size.min(), size.max(), table.x.shape[1]) == (100_000, 943, 20, 737, 1682 + 19 + 8)
    assert table.y.std() == pytest.approx(1.126, abs=0.001)
    film = table.x[:, :1682].argmax(axis=1)
    assert (table.x[:, :1682].sum(axis=1) == 1).all()
    means = np.bincount(film, table.y) / np.bincount(film)
    assert 0.97 < np.sqrt(np.mean((table.y - means[film]) ** 2)) < 1.025
