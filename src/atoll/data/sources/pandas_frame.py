"""Reads tables that pandas has pickled, without pandas and without running what a pickle asks for."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from atoll.data.sources.unpickle import DAMAGE, damaged, unpickled


class _Frame:
    """Takes what pandas keeps of a DataFrame."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        blocks, (columns, _) = state["_mgr"]
        self.columns: list[str] = [str(name) for name in columns]
        self.values: dict[int, np.ndarray] = {}
        for block, where in blocks:
            places = np.arange(len(columns))[where]
            self.values.update(zip(places.tolist(), block, strict=True))


def _index(kind: str, content: dict[str, Any]) -> Any:
    """The names of columns, or None for the numbers of rows, which nobody asks for."""
    return content["data"] if kind == "names" else None


# Class or function of pandas -> what takes its place here.
STAND_INS = {
    ("pandas.core.frame", "DataFrame"): _Frame,
    ("pandas.core.internals.managers", "BlockManager"): lambda blocks, axes: (blocks, axes),
    ("pandas._libs.internals", "_unpickle_block"): lambda values, where, _: (values, where),
    ("pandas.core.indexes.base", "_new_Index"): _index,
    ("pandas.core.indexes.base", "Index"): "names",
    ("pandas.core.indexes.range", "RangeIndex"): "numbers",
    ("builtins", "slice"): slice,
}


def read_pandas(file: Path) -> pl.DataFrame:
    """The table in a DataFrame pickled and packed with xz. AtollError for a file that is no such, or that asks for anything else."""
    try:
        with lzma.open(file) as stream:
            frame = unpickled(stream, also=STAND_INS)  # type: ignore[arg-type]
        columns = {name: _column(frame.values[i]) for i, name in enumerate(frame.columns)}
        return pl.DataFrame(columns)
    except (lzma.LZMAError, pl.exceptions.PolarsError, *DAMAGE) as error:
        raise damaged(file, "a table pickled by pandas", error) from None


def _column(values: np.ndarray) -> pl.Series:
    """A column; what pandas calls missing (NaN, also among texts) is null."""
    if values.dtype != object:
        return pl.Series(values, nan_to_null=True)
    return pl.Series([None if value is None or value != value else str(value) for value in values], dtype=pl.String)
