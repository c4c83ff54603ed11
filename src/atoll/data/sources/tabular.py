"""A user's own table: one row per observation, a column that names the client and one to predict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from atoll.core.errors import AtollError, unknown
from atoll.data.building import encode
from atoll.data.sources.csv_file import check_shape, line_of, read_frame
from atoll.data.sources.files import given_file
from atoll.data.table import Table

CATEGORIES = 100  # a text column with more distinct values is an error: most likely it holds names, dates or numbers with a typing error

Where = Callable[[int], str]  # row number -> "line 7 of data.csv"


def read_csv(
    *,
    path: str | Path | None = None,
    client: str | None = None,
    label: str | None = None,
    task: str = "classification",
    features: Sequence[str] | str | None = None,
    separator: str = ",",
) -> Table:
    """A CSV file with a header line.

    client: column that names each row's client; without it rows have no natural clients and a skew deals them out. label: column to predict. task:
    classification, or regression for a label column of numbers. features: columns to use; default all others. Numbers are standardised with the
    train rows of seen clients, text columns become one column per value.
    """
    file = given_file(path, "csv")
    frame = read_frame(file, separator)
    return table(file, file.stem, frame, lambda row: f"line {line_of(file, separator, row)} of {file}", client, label, task, features)


def read_parquet(
    *,
    path: str | Path | None = None,
    client: str | None = None,
    label: str | None = None,
    task: str = "classification",
    features: Sequence[str] | str | None = None,
) -> Table:
    """A Parquet file; options as in `read_csv`."""
    file = given_file(path, "parquet")
    try:
        frame = pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise AtollError(f"{file} can't be read as Parquet: {str(error).splitlines()[0].rstrip('.')}.") from None
    check_shape(file, frame)
    return table(file, file.stem, frame, lambda row: f"row {row} of {file}", client, label, task, features)


def table(
    file: str | Path, name: str, frame: pl.DataFrame, where: Where, client: str | None, label: str | None, task: str, features: Sequence[str] | str | None
) -> Table:
    """The table of a frame read from `file`; where: tells of a row's number where it stands. The rest as in `read_csv`."""
    if task not in ("classification", "regression"):
        raise AtollError(f"task={task!r} is neither 'classification' nor 'regression'.")
    if label is None:
        raise AtollError(f"{file}: which column is to be predicted? Give label=COLUMN (--label COLUMN); it has {', '.join(frame.columns)}.")
    chosen = [features] if isinstance(features, str) else list(features or [c for c in frame.columns if c not in (client, label)])
    for column in [label, *([client] if client is not None else []), *chosen]:
        if column not in frame.columns:
            raise AtollError(f"{file}: {unknown('column', column, frame.columns)}")
    if label in chosen or client in chosen or client == label:
        raise AtollError(f"{file}: a column is used twice. client, label and features must be different columns.")
    if not chosen:
        raise AtollError(f"{file} has no columns besides {label!r}{f' and {client!r}' if client else ''}, so there is nothing to predict from.")
    x, numeric = _features(frame, chosen, where)
    labels, y = _labels(frame[label], where) if task == "classification" else ((), _targets(frame[label], where))
    names, owner = _named(frame[client], where) if client is not None else ((), None)
    return Table(
        name=name,
        x=x,
        y=y,
        labels=labels,
        owner=owner,
        names=names,
        by=client or "",
        standardise=numeric,
        history=(f"{file}: {len(frame):,} rows, {len(chosen)} columns as {x.shape[1]} values, {task} of {label!r}, client {client!r}",),
    )


def _features(frame: pl.DataFrame, columns: Sequence[str], where: Where) -> tuple[np.ndarray, np.ndarray]:
    """x float32 [rows, values], and which values are numbers (the others are one-hot)."""
    parts, numeric = [], []
    for column in columns:
        values = frame[column]
        _check_complete(values, where)
        if values.dtype.is_numeric() or values.dtype == pl.Boolean:
            parts.append(_finite(values, where)[:, None])
            numeric.append(values.dtype != pl.Boolean)
        elif values.dtype in (pl.String, pl.Categorical, pl.Enum):
            categories, index = encode(values.cast(pl.String).to_numpy())
            if len(categories) > CATEGORIES:
                raise AtollError(_too_many(values.cast(pl.String), len(categories), where))
            parts.append(np.eye(len(categories), dtype=np.float32)[index])
            numeric += [False] * len(categories)
        else:
            raise AtollError(
                f"Column {column!r} holds {values.dtype}; features must be numbers or text. "
                "Leave it out with features=[...], or turn it into numbers."
            )
    return np.concatenate(parts, axis=1), np.array(numeric)


def _too_many(values: pl.Series, categories: int, where: Where) -> str:
    text = f"Column {values.name!r} has {categories:,} different texts, too many for one column each (at most {CATEGORIES}). "
    numbers = values.cast(pl.Float64, strict=False)
    odd = numbers.is_null() | ~numbers.is_finite()
    if odd.any() and odd.mean() < 0.5:  # type: ignore[operator]
        row = int(odd.arg_max() or 0)
        return text + f"Is it meant to hold numbers? {values[row]!r} in {where(row)} is no finite one."
    return text + "Leave it out with features=[...], or group its values."


def _finite(values: pl.Series, where: Where) -> np.ndarray:
    array = values.cast(pl.Float64).to_numpy().astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        row = int(bad[0])
        raise AtollError(f"Column {values.name!r} is {values[row]} in {where(row)}, not a finite number ({len(bad)} such rows). Fill or drop them.")
    return array


def _check_complete(values: pl.Series, where: Where) -> None:
    if values.null_count():
        row = int(values.is_null().arg_max() or 0)
        raise AtollError(f"Column {values.name!r} has no value in {where(row)} ({values.null_count()} such rows). Fill or drop them.")


def _targets(values: pl.Series, where: Where) -> np.ndarray:
    _check_complete(values, where)
    if not values.dtype.is_numeric():
        raise AtollError(f"Column {values.name!r} holds {values.dtype}; regression predicts numbers. First value: {values[0]!r}.")
    return _finite(values, where)


def _labels(values: pl.Series, where: Where) -> tuple[tuple[str, ...], np.ndarray]:
    _check_complete(values, where)
    if values.dtype.is_float():
        array = values.to_numpy()
        odd = np.flatnonzero(~(array == np.floor(array)))
        if len(odd):
            raise AtollError(
                f"Column {values.name!r} is {array[odd[0]]} in {where(int(odd[0]))}, which can't be a label. For predicting numbers give task='regression'."
            )
    labels, y = encode((values if values.dtype.is_numeric() else values.cast(pl.String)).to_numpy())
    if not y.any():
        raise AtollError(f"Column {values.name!r} holds only {labels[0]!r}: there is nothing to predict.")
    if len(labels) > max(20, len(y) // 2):
        raise AtollError(f"Column {values.name!r} has {len(labels):,} different values in {len(y):,} rows. For predicting numbers give task='regression'.")
    return labels, y


def _named(values: pl.Series, where: Where) -> tuple[tuple[str, ...], np.ndarray]:
    _check_complete(values, where)
    return encode((values if values.dtype.is_integer() else values.cast(pl.String)).to_numpy())
