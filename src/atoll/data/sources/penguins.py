"""Penguins of the Palmer archipelago, island by island."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from atoll.core.errors import AtollError
from atoll.data.building import encode
from atoll.data.sources.files import check_whole, given_file, package_file, said
from atoll.data.table import Table

GET = "pip install --no-deps palmerpenguins==0.1.6"
MEASURES = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")


def read(*, path: str | Path | None = None) -> Table:
    """333 penguins with all values, 4 measurements each, 3 species, owned by the island they live on. path: penguins.csv, else the package's."""
    file = given_file(path, "penguins") if path is not None else package_file("palmerpenguins", "data/penguins.csv")
    if file is None:
        raise AtollError(f"Source penguins needs the package palmerpenguins: {GET}. Or give path=FILE, penguins.csv.")
    try:
        every = pl.read_csv(file, columns=["species", "island", *MEASURES, "sex"], null_values=["NA", ""], infer_schema_length=None)
        full = every.drop_nulls()
        x = full.select(pl.col(*MEASURES).cast(pl.Float32)).to_numpy()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise AtollError(f"{file} is not the table of penguins: {said(error)}.") from None
    if path is None:
        check_whole(file, len(every), 344, "rows", GET)
    if not len(full):
        raise AtollError(f"{file} has no complete rows.")
    species, y = encode(full["species"].to_numpy())
    islands, owner = encode(full["island"].to_numpy())
    return Table(
        name="penguins",
        x=x,
        y=y,
        labels=species,
        owner=owner,
        names=islands,
        by="island",
        standardise=np.ones(len(MEASURES), bool),
        history=(f"Palmer penguins: {len(full):,} of {len(every):,} with all values, {len(islands)} islands",),
    )
