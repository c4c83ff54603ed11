"""Changes to what every client measures, each client its own: noise, another calibration of tabular values, another camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.skew.images import blurred, check_images, within
from atoll.data.table import Table


@dataclass(frozen=True)
class Noise:
    """Gaussian noise that grows with the client's number: client i = 0 ... N - 1 gets a deviation of level i / (N - 1).

    As in the code of NIID-Bench (Li et al., ICDE 2022), which draws noise anew whenever a row is read; here each row has it once and for all.

    The deviation is in what a model gets: for images of bytes 1 is the range from black to white, for standardised columns one deviation of the column over
    all rows. Nothing is cut off at black and white, so that the law is exact; rows of bytes become float32. Which values are columns of numbers is as for
    standardising; others (indicators) stay.
    """

    level: float

    def __post_init__(self) -> None:
        _check_strength(self.level, "noise")

    def __str__(self) -> str:
        return f"noise:{self.level:g}"

    def check(self, table: Table) -> None:
        """AtollError where the table's rows can't have noise."""
        _check_numbers(self, table)

    def apply(self, table: Table, owner: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """New x and y; owner: int [rows]."""
        if len(table.names) < 2:
            raise AtollError(f"Skew {self} gives the first client no noise and later ones more, and there is one client. Ask for at least 2 (--clients 20).")
        deviation = self.level * owner / (len(table.names) - 1)
        unit = np.where(_changed(table), _unit(table), 0).astype(np.float32)
        x = table.x.astype(np.float32)
        step = 4096  # rows at a time, for memory
        for first in range(0, len(x), step):
            part = x[first : first + step]
            drawn = rng.standard_normal(part.shape, dtype=np.float32)
            part += drawn * unit * _column(deviation[first : first + step], part.ndim)
        return x, table.y


@dataclass(frozen=True)
class Affine:
    """Every client's instruments are calibrated in a way of their own: value j of client i becomes m_j + e^(s a_ij) (x_j - m_j) + s b_ij d_j.

    m_j and d_j are mean and deviation of value j over all rows, a_ij and b_ij standard normal draws, s the strength. For tabular rows.
    """

    strength: float

    def __post_init__(self) -> None:
        _check_strength(self.strength, "affine")

    def __str__(self) -> str:
        return f"affine:{self.strength:g}"

    def check(self, table: Table) -> None:
        """AtollError where the table's rows can't be scaled and shifted."""
        _check_numbers(self, table)
        if table.x.ndim > 2:
            raise AtollError(f"Skew {self}: rows of {table.name} are images, whose pixels don't change one by one. Use camera:{self.strength:g}.")

    def apply(self, table: Table, owner: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """New x and y; owner: int [rows]."""
        mean, deviation = table.x.mean(axis=0, dtype=np.float64), table.x.std(axis=0, dtype=np.float64)
        clients = (len(table.names), *mean.shape)
        factor, offset = np.exp(self.strength * rng.standard_normal(clients)), self.strength * rng.standard_normal(clients) * deviation
        moved = mean + factor[owner] * (table.x - mean) + offset[owner]
        return np.where(_changed(table), moved, table.x).astype(np.float32), table.y


@dataclass(frozen=True)
class Camera:
    """Every client sees its images through a camera of its own: contrast, brightness and blur.

    With u, v uniform on -1..1, w uniform on 0..1 and the strength s: contrast 1 + s u around the middle of the range, brightness + s v / 2 of the range, then a
    Gaussian blur of deviation s w / 16 of the shorter side. Values stay inside the range of the data.
    """

    strength: float

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise AtollError(f"Skew camera:{self.strength:g}: the strength must be above 0 and at most 1, as in camera:0.5.")

    def __str__(self) -> str:
        return f"camera:{self.strength:g}"

    def check(self, table: Table) -> None:
        """AtollError where rows are no images."""
        check_images(table, str(self), f"Use affine:{self.strength:g} for tabular rows.")

    def apply(self, table: Table, owner: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """New x and y; owner: int [rows]."""
        low, high = float(table.x.min()), float(table.x.max())
        middle, span = (low + high) / 2, high - low
        x = table.x.copy()
        for client, (contrast, brightness, blur) in enumerate(self.settings(len(table.names), rng)):
            rows = np.flatnonzero(owner == client)
            seen = middle + contrast * (table.x[rows].astype(np.float32) - middle) + brightness * span
            x[rows] = within(blurred(np.clip(seen, low, high), blur), low, high, x.dtype)
        return x, table.y

    def settings(self, clients: int, rng: np.random.Generator) -> np.ndarray:
        """[clients, 3]: contrast (a factor), brightness (a share of the range), deviation of the blur (a share of the shorter side)."""
        drawn = rng.uniform(size=(clients, 3))
        return np.stack([1 + self.strength * (2 * drawn[:, 0] - 1), self.strength * (drawn[:, 1] - 0.5), self.strength * drawn[:, 2] / 16], axis=1)


def _check_numbers(skew: Noise | Affine, table: Table) -> None:
    if table.x.dtype == np.int32:
        raise AtollError(f"Skew {skew}: rows of {table.name} are tokens; it makes sense for rows of numbers only.")
    if table.exact:
        raise AtollError(f"Skew {skew}: source {table.name} is exact, and its rows must stay as they are.")
    if not _changed(table).any():
        raise AtollError(f"Skew {skew}: {table.name} has no columns of numbers, only indicators, which stay as they are.")


def _check_strength(value: float, name: str) -> None:
    if not 0 < value <= 100:
        raise AtollError(f"Skew {name}:{value:g}: the strength must be a number above 0 (and at most 100), as in {name}:0.1.")


def _changed(table: Table) -> np.ndarray:
    """bool, one per value of a row: which are numbers. Where a source marks values to be standardised, the others are indicators."""
    return np.ones(table.x.shape[1:], bool) if table.standardise is None else table.standardise


def _unit(table: Table) -> np.ndarray:
    """What of the raw values is 1 to a model, before anything is changed; one per value of a row."""
    unit = np.broadcast_to(1 / np.asarray(table.scale, np.float64), table.x.shape[1:])
    return unit if table.standardise is None else np.where(table.standardise, table.x.std(axis=0, dtype=np.float64), unit)


def _column(values: np.ndarray, dimensions: int) -> np.ndarray:
    return values.astype(np.float32).reshape(-1, *[1] * (dimensions - 1))
