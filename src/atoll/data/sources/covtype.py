"""Forest cover by wilderness area: few clients with many rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from atoll.core.errors import AtollError
from atoll.data.sources.files import given_file, said
from atoll.data.sources.streams import multiflow_csv
from atoll.data.table import Table

AREAS = ("Rawah", "Neota", "Comanche Peak", "Cache la Poudre")
COVERS = ("spruce/fir", "lodgepole pine", "ponderosa pine", "cottonwood/willow", "aspen", "Douglas fir", "krummholz")
MEASURES, SOILS = 10, 40


def read(*, path: str | Path | None = None) -> Table:
    """581,012 patches of forest, 10 measurements and 40 soil types, 7 covers, 4 wilderness areas.

    The areas are the clients and no feature. path: covtype.data or covtype.data.gz of UCI, covtype.csv of scikit-multiflow or its archive
    scikit-multiflow-0.4.1.tar.gz; else scikit-learn's copy, which it downloads.
    """
    values, where = _downloaded() if path is None else _of_file(path)
    areas = values[:, MEASURES : MEASURES + len(AREAS)]
    cover = values[:, -1].astype(np.int32) - 1
    if (areas.sum(axis=1) != 1).any() or cover.min() < 0 or cover.max() >= len(COVERS):
        raise AtollError(f"{where} is not covtype: every row needs one wilderness area (columns 11 to 14) and a cover from 1 to {len(COVERS)} (the last).")
    return Table(
        name="covtype",
        x=np.concatenate([values[:, :MEASURES], values[:, MEASURES + len(AREAS) : -1]], axis=1),
        y=cover,
        labels=COVERS,
        owner=areas.argmax(axis=1),
        names=AREAS,
        by="wilderness area",
        standardise=np.arange(MEASURES + SOILS) < MEASURES,
        history=(f"covtype from {where}: {len(values):,} patches of forest",),
    )


def _of_file(path: str | Path) -> tuple[np.ndarray, Path]:
    file = given_file(path, "covtype")
    try:
        frame = multiflow_csv("covtype", path, "covtype")[1] if file.name.endswith((".csv", ".tar.gz")) else pl.read_csv(file, has_header=False)
        values = frame.select(pl.all().cast(pl.Float32)).to_numpy()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise AtollError(f"{file} is not covtype: {said(error)}.") from None
    if values.shape[1:] != (MEASURES + len(AREAS) + SOILS + 1,) or not len(values) or not np.isfinite(values).all():
        raise AtollError(f"{file} is not covtype: it has {values.shape[1]} columns, and {MEASURES + len(AREAS) + SOILS + 1} complete ones are needed.")
    return values, file


def _downloaded() -> tuple[np.ndarray, str]:
    from sklearn.datasets import fetch_covtype

    try:
        x, y = fetch_covtype(return_X_y=True, n_retries=0)  # each retry would be a warning on the way
    except OSError as error:
        raise AtollError(
            f"Source covtype could not be downloaded: {said(error)}. Give path=FILE: covtype.data.gz of UCI, or scikit-multiflow-0.4.1.tar.gz."
        ) from None
    return np.column_stack([x, y]).astype(np.float32), "scikit-learn"
