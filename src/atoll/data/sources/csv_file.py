"""Reads a CSV file with Polars; where that fails, finds the line at fault."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from atoll.core.errors import AtollError


def read_frame(file: Path, separator: str) -> pl.DataFrame:
    """The rows of a CSV file, blank lines left out. AtollError that names the line for rows of another length than the header."""
    if len(separator.encode()) != 1:
        raise AtollError(f"separator={separator!r} must be one character, such as ';'.")
    try:
        frame = pl.read_csv(file, separator=separator, infer_schema_length=None)
    except pl.exceptions.NoDataError:
        raise AtollError(f"{file} is empty.") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        _check_lines(file, separator)
        why = str(error).splitlines()[0].rstrip(".")
        raise AtollError(f"{file} can't be read as CSV: {why}.{' Save it as UTF-8.' if 'utf-8' in why else ''}") from None
    _check_header(file, separator, len(frame.columns))
    # Polars fills a line that is too short up with nulls, and reads a blank line as nulls only.
    if sum(frame.null_count().row(0)):
        _check_lines(file, separator)
        frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
    check_shape(file, frame)
    return frame


def check_shape(file: Path, frame: pl.DataFrame) -> None:
    """AtollError for a table without rows."""
    if not len(frame):
        raise AtollError(f"{file} has no rows{', only a header' if frame.columns else ''}.")


def line_of(file: Path, separator: str, row: int) -> int:
    """The line (from 1) on which row `row` (from 0, without the header and blank lines) ends."""
    for number, (line, _) in enumerate(_records(file, separator)):
        if number == row + 1:
            return line
    return row + 2


def _records(file: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(line, values) of every line that is not blank, the header first. A value in quotes may span lines."""
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        reader = csv.reader(stream, delimiter=separator)
        for values in reader:
            if values:
                yield reader.line_num, values


def _check_lines(file: Path, separator: str) -> None:
    """AtollError for the first line with another number of values than the header."""
    records = _records(file, separator)
    try:
        _, header = next(records, (0, []))
        for line, values in records:
            if len(values) != len(header):
                raise AtollError(f"{file}, line {line}: {len(values)} value{'' if len(values) == 1 else 's'}, but the header has {len(header)}.")
    except csv.Error as error:
        raise AtollError(f"{file} can't be read as CSV: {error}.") from None


def _check_header(file: Path, separator: str, columns: int) -> None:
    _, header = next(_records(file, separator), (0, []))
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise AtollError(f"{file}: two columns are called {twice!r}. Names of columns must differ.")
    other = next((sign for sign in (";", "\t", ",", "|") if columns == 1 and sign != separator and sign in "".join(header)), None)
    if other is not None:
        raise AtollError(f"{file} seems to be separated by {other!r}, not {separator!r}. Give separator={other!r}.")
