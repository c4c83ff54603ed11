"""Ways to deal rows out to clients. Each is one draw and always ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.skew.repair import fill_up


@dataclass(frozen=True)
class Natural:
    """The clients that the data come with: people, writing forms, schools."""

    needs_labels = False

    def __str__(self) -> str:
        return "natural"


@dataclass(frozen=True)
class Iid:
    """Every client gets a random sample of all rows, all of the same size."""

    needs_labels = False

    def __str__(self) -> str:
        return "iid"

    def deal(self, y: np.ndarray, clients: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """Owner of every row, int64 [rows], and a note for the data sheet."""
        return _by_sizes(_shares(np.ones(clients), len(y)), rng), "rows dealt out at random in equal numbers"


@dataclass(frozen=True)
class Quantity:
    """Clients differ in size only: sizes follow a power law (the i-th largest has i^-power) or a log-normal law; rows are random.

    Every client first gets `least` rows (fewer, if there are too few rows for that); the others are dealt out in proportion.
    """

    power: float | None = None
    lognormal: float | None = None  # deviation of the logarithm of sizes
    least: int = 10

    needs_labels = False

    def __post_init__(self) -> None:
        if (self.power is None) == (self.lognormal is None):
            raise AtollError("Skew quantity needs either a power or a lognormal deviation: quantity:power=1.5 or quantity:lognormal=1.")
        value = self.power if self.lognormal is None else self.lognormal
        if value is None or not 0 <= value <= 10:
            raise AtollError(f"Skew quantity: {value} must be from 0 (all of one size) to 10.")
        _check_least(self.least, "quantity")

    def __str__(self) -> str:
        return f"quantity:power={self.power:g}" if self.power is not None else f"quantity:lognormal={self.lognormal:g}"

    def deal(self, y: np.ndarray, clients: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        if self.power is not None:
            weights = rng.permutation((np.arange(clients) + 1.0) ** -self.power)
        else:
            weights = np.exp((self.lognormal or 0) * rng.standard_normal(clients))
        least = min(self.least, len(y) // clients)
        sizes = least + _shares(weights, len(y) - least * clients)
        return _by_sizes(sizes, rng), f"sizes from {sizes.min()} to {sizes.max()}, rows at random"


@dataclass(frozen=True)
class Classes:
    """Every client has k classes (McMahan et al. 2017 had 2). All classes are used, each by as equal a number of clients as possible.

    The clients of a class share its rows equally, or with alpha in proportions drawn from a symmetric Dirichlet law (the extended Dirichlet partition of
    Li and Lyu 2023), of which each first gets 2 rows where there are as many.
    """

    k: int
    alpha: float | None = None

    needs_labels = True

    def __post_init__(self) -> None:
        if self.k < 1:
            raise AtollError(f"Skew classes:{self.k}: a client has at least one class, as in classes:2.")
        if self.alpha is not None and not 0 < self.alpha < math.inf:
            raise AtollError(f"Skew classes: alpha={self.alpha:g} must be a number above 0, as in classes:2,alpha=0.5.")

    def __str__(self) -> str:
        return f"classes:{self.k}" + ("" if self.alpha is None else f",alpha={self.alpha:g}")

    def deal(self, y: np.ndarray, clients: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        present = np.unique(y)
        if self.k > len(present):
            raise AtollError(f"Skew {self}: there are only {len(present)} classes. Use classes:{len(present)} or fewer.")
        if clients * self.k < len(present):
            raise AtollError(
                f"Skew {self}: {clients} clients with {self.k} classes each leave some of the {len(present)} classes without a client. "
                f"Use classes:{math.ceil(len(present) / clients)} or more, or at least {math.ceil(len(present) / self.k)} clients."
            )
        has = self._choose(len(present), clients, rng)
        owner = np.empty(len(y), np.int64)
        for c, label in enumerate(present):
            rows = rng.permutation(np.flatnonzero(y == label))
            holders = np.flatnonzero(has[:, c])
            if self.alpha is None:
                shares = np.array_split(rows, len(holders))
            else:
                first = min(2, len(rows) // len(holders))
                sizes = first + _shares(_proportions(self.alpha, len(holders), rng), len(rows) - first * len(holders))
                shares = np.split(rows, np.cumsum(sizes)[:-1])
            for client, share in zip(holders, shares, strict=True):
                owner[share] = client
        return owner, f"{self.k} classes per client, a class shared by {has.sum(axis=0).min()} to {has.sum(axis=0).max()} clients"

    def _choose(self, classes: int, clients: int, rng: np.random.Generator) -> np.ndarray:
        """bool [clients, classes]. Taking the k classes with most places left always works out (Gale and Ryser); ties are drawn."""
        left = np.full(classes, clients * self.k // classes)
        left[rng.permutation(classes)[: clients * self.k % classes]] += 1
        has = np.zeros((clients, classes), bool)
        for client in range(clients):
            chosen = np.lexsort((rng.random(classes), -left))[: self.k]
            has[client, chosen] = True
            left[chosen] -= 1
        return has


@dataclass(frozen=True)
class Dirichlet:
    """The rows of each class are dealt out in proportions drawn from a symmetric Dirichlet law (Hsu et al. 2019; as in NIID-Bench, per class).

    Small alpha: few clients have most of a class. It is one draw. Clients with fewer than `least` rows are then filled up with
    random rows of the largest clients, where others draw again until sizes happen to suffice.
    """

    alpha: float
    least: int = 10

    needs_labels = True

    def __post_init__(self) -> None:
        if not 0 < self.alpha < math.inf:
            raise AtollError(f"Skew dirichlet:{self.alpha:g}: alpha must be a number above 0, as in dirichlet:0.1.")
        _check_least(self.least, "dirichlet")

    def __str__(self) -> str:
        return f"dirichlet:{self.alpha:g}"

    def deal(self, y: np.ndarray, clients: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        owner = np.empty(len(y), np.int64)
        for label in np.unique(y):
            rows = rng.permutation(np.flatnonzero(y == label))
            ends = np.round(np.cumsum(_proportions(self.alpha, clients, rng)) * len(rows)).astype(np.int64)
            ends[-1] = len(rows)  # cumulated proportions end a rounding error away from 1
            owner[rows] = np.searchsorted(ends, np.arange(len(rows)), side="right")
        least = min(self.least, len(y) // clients)
        owner, moved = fill_up(owner, clients, least, rng)
        return owner, f"{moved} of {len(y)} rows moved so that every client has {least}"


def _proportions(alpha: float, clients: int, rng: np.random.Generator) -> np.ndarray:
    """A draw of the symmetric Dirichlet law, float64 [clients]."""
    drawn = rng.dirichlet(np.full(clients, alpha))
    if np.isfinite(drawn).all() and drawn.sum() > 0.5:
        return drawn
    # So small an alpha underflows. Its limit: one client has the whole class.
    return np.eye(clients)[rng.integers(clients)]


def _check_least(least: int, name: str) -> None:
    if least < 2:
        raise AtollError(f"Skew {name}: least={least} must be 2 or more, as every client needs a row to train and one to test.")


def _shares(weights: np.ndarray, rows: int) -> np.ndarray:
    """int64 [clients] that add up to `rows`, proportional to `weights` up to rounding (largest remainders are rounded up)."""
    exact = weights / weights.sum() * rows
    sizes = np.floor(exact).astype(np.int64)
    sizes[np.argsort(sizes - exact, kind="stable")[: rows - sizes.sum()]] += 1
    return sizes


def _by_sizes(sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
