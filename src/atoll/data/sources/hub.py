"""Any dataset of the Hugging Face Hub, or a local one of its form, through the library `datasets`: columns say which client, label, image or text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from atoll.core.errors import AtollError, unknown
from atoll.data.sources import tabular
from atoll.data.sources.files import given_folder, said
from atoll.data.sources.images import resized
from atoll.data.sources.words import as_tokens
from atoll.data.table import Table

BATCH = 256  # images decoded at a time


def read(
    *,
    path: str | Path | None = None,
    name: str | None = None,
    config: str | None = None,
    split: str | None = None,
    client: str | None = None,
    label: str | None = None,
    image: str | None = None,
    text: str | None = None,
    features: Sequence[str] | str | None = None,
    task: str = "classification",
    side: int | None = None,
    tokens: str = "words",
    length: int | None = None,
    vocabulary: int | None = None,
) -> Table:
    """The rows of a dataset. Needs `pip install 'atoll[hub]'`.

    name: a dataset of the Hub ("flwrlabs/femnist"), config: which of its configurations; or path: a folder that `save_to_disk` wrote, or one with Parquet, CSV,
    JSON or image files. split: its splits, "train,test"; default all, pooled. client, label: columns; without client rows have no natural clients. image: a
    column of images (side: their new size, where they are not all of one), or text: a column of texts (tokens: words or characters, length, vocabulary), or
    else features: columns of numbers and categories, default all others. task: classification or regression. AtollError for what isn't there.
    """
    data, where = _loaded(path, name, config, split)
    columns = list(data.column_names)
    if label is None:
        raise AtollError(f"{where}: which column is to be predicted? Give label=COLUMN (--label COLUMN); it has {', '.join(columns)}.")
    if image is not None and text is not None:
        raise AtollError(f"{where}: give image or text, not both.")
    chosen = [features] if isinstance(features, str) else list(features or [])
    for column in [one for one in (label, client, image, text, *chosen) if one is not None]:
        if column not in columns:
            raise AtollError(f"{where}: {unknown('column', column, columns)}")
    input_column = image or text
    wanted = [label, *([client] if client else [])] if input_column else [c for c in columns if not chosen or c in (*chosen, label, client)]
    frame = _named_classes(pl.DataFrame(data.select_columns(wanted).with_format("arrow")[:]), data.features)
    where_row = lambda row: f"row {row} of {where}"  # noqa: E731
    if not input_column:
        made = tabular.table(where, where, frame, where_row, client, label, task, features)
    else:
        made = tabular.table(where, where, frame.with_columns(pl.lit(0.0).alias("input")), where_row, client, label, task, "input")
        x, note, scale = _images(data, image, side, where) if image else _texts(data, input_column, tokens, length, vocabulary)
        made = _with_input(made, x, scale, f"{where}: {len(frame):,} rows, {note}, {task} of {label!r}, client {client!r}")
    return made if task != "classification" else _in_order(made, data.features[label])


def _loaded(path: str | Path | None, name: str | None, config: str | None, split: str | None) -> tuple[Any, str]:
    """The chosen splits as one dataset, and what to call it."""
    if (path is None) == (name is None):
        raise AtollError("Source hub needs a dataset: give name=OWNER/NAME (--option name=OWNER/NAME), or path=FOLDER for a local one, and not both.")
    try:
        datasets = import_module("datasets")
    except ImportError:
        raise AtollError("Source hub needs the library datasets: pip install 'atoll[hub]'.") from None
    where = str(name if path is None else given_folder(path, "hub"))
    try:
        if path is None:
            found = datasets.load_dataset(name, config)
        else:
            folder = given_folder(path, "hub")
            saved = any((folder / file).exists() for file in ("dataset_dict.json", "state.json"))
            found = datasets.load_from_disk(str(folder)) if saved else datasets.load_dataset(str(folder), config)
    except Exception as error:  # the library and those below it raise errors of every kind, for what is not there as for what can't be read
        raise AtollError(f"{where} can't be loaded by the library datasets: {said(error)}.") from None
    splits = dict(found) if isinstance(found, dict) else {"all": found}
    names = [part.strip() for part in split.split(",")] if split else list(splits)
    for part in names:
        if part not in splits:
            raise AtollError(f"{where}: {unknown('split', part, splits)}")
    data = datasets.concatenate_datasets([splits[part] for part in names])
    if not len(data):
        raise AtollError(f"{where} has no rows in {', '.join(names)}.")
    return data, where


def _named_classes(frame: pl.DataFrame, features: Any) -> pl.DataFrame:
    """Columns whose numbers stand for names, with the names."""
    for column in frame.columns:
        names = getattr(features[column], "names", None)
        if names:
            frame = frame.with_columns(pl.col(column).replace_strict(dict(enumerate(names)), return_dtype=pl.String, default=None))
    return frame


def _in_order(table: Table, feature: Any) -> Table:
    """Labels in the order in which the dataset names them, with those that no row has."""
    names = getattr(feature, "names", None)
    if not names or len(set(names)) < len(names):
        return table
    place = np.array([names.index(label) for label in table.labels], np.int32)
    return replace(table, y=place[table.y], labels=tuple(names))


def _with_input(table: Table, x: np.ndarray, scale: float, line: str) -> Table:
    return replace(table, x=x, scale=scale, standardise=None, history=(line,))


def _texts(data: Any, column: str, tokens: str, length: int | None, vocabulary: int | None) -> tuple[np.ndarray, str, float]:
    texts = list(data[column])
    odd = next((i for i, text in enumerate(texts) if not isinstance(text, str)), None)
    if odd is not None:
        raise AtollError(f"Column {column!r} is {texts[odd]!r} in row {odd}, not a text.")
    x, note = as_tokens(texts, tokens, length, vocabulary)
    return x, note, 1.0


def _images(data: Any, column: str, side: int | None, where: str) -> tuple[np.ndarray, str, float]:
    """uint8 [rows, h, w], or [rows, h, w, 3] where any image has colours."""
    if side is not None and (isinstance(side, bool) or not isinstance(side, int) or side < 1):
        raise AtollError(f"side={side!r} must be a whole number of pixels, at least 1.")
    pictures: list[np.ndarray] = []
    only = data.select_columns([column])
    for batch in only.iter(batch_size=BATCH):
        for picture in batch[column]:
            if not hasattr(picture, "convert"):
                raise AtollError(f"{where}: column {column!r} holds {type(picture).__name__}, not images, in row {len(pictures)}.")
            pixels = np.asarray(picture if picture.mode == "L" else picture.convert("RGB"))
            pictures.append(pixels if side is None else np.rint(resized(pixels, side, side)).astype(np.uint8))
    if any(one.ndim == 3 for one in pictures):
        pictures = [one if one.ndim == 3 else np.repeat(one[..., None], 3, axis=2) for one in pictures]
    odd = next((i for i, one in enumerate(pictures) if one.shape != pictures[0].shape), None)
    if odd is not None:
        sizes = [f"{one.shape[0]}x{one.shape[1]}" for one in (pictures[0], pictures[odd])]
        raise AtollError(f"{where}: images are {sizes[0]}, but {sizes[1]} in row {odd}. Give side=N (--option side=32) to make them all of one size.")
    x = np.stack(pictures)
    return x, f"images of {'x'.join(map(str, x.shape[1:]))}", 1 / 255
