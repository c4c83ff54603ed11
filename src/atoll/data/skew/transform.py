"""Changes to the rows of groups of clients: what they see (rotation) or what they call it (swapped labels)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.skew.images import check_images
from atoll.data.table import Table


@dataclass(frozen=True)
class Rotate:
    """k groups of clients; group g sees its images turned counterclockwise by g/k of a full turn (as in IFCA's rotated MNIST, k = 4)."""

    k: int

    def __post_init__(self) -> None:
        _check_groups(self.k, "rotate")

    def __str__(self) -> str:
        return f"rotate:{self.k}"

    def check(self, table: Table) -> None:
        """AtollError where the table's rows can't be rotated."""
        check_images(table, str(self), f"Use swap:{self.k} for groups.")
        shape = table.x.shape[1:]
        if shape[0] != shape[1]:
            raise AtollError(f"Skew {self}: images of {table.name} are {shape[0]}x{shape[1]}; only square ones can be rotated.")

    def apply(self, table: Table, group: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """New x and y; group: int [rows]."""
        x = table.x.copy()
        for g in range(1, self.k):
            rows = np.flatnonzero(group == g)
            x[rows] = _turned(table.x[rows], 360 * g / self.k)
        return x, table.y


@dataclass(frozen=True)
class Swap:
    """k groups of clients that name the labels differently: the same x means another y (label preference). Group 0 is unchanged.

    The permutations are drawn so that no two groups agree on any label that takes part; share: of the labels, drawn at random, that do.
    """

    k: int
    share: float = 1.0

    def __post_init__(self) -> None:
        _check_groups(self.k, "swap")
        if not 0 < self.share <= 1:
            raise AtollError(f"Skew swap: the share of labels that are swapped is {self.share:g} and must be above 0 and at most 1, as in swap:4,share=0.5.")

    def __str__(self) -> str:
        return f"swap:{self.k}" + ("" if self.share == 1 else f",share={self.share:g}")

    def check(self, table: Table) -> None:
        """AtollError where the table's labels can't be swapped."""
        if table.regression or table.y.ndim > 1:
            raise AtollError(f"Skew {self}: {table.name} has no labels to swap. It makes sense for classification only.")
        taking = self._taking_part(table)
        if self.k > taking:
            some = "" if self.share == 1 else f" of which {taking} are swapped,"
            raise AtollError(f"Skew {self}: {table.name} has {len(table.labels)} labels,{some} which allow {taking} groups at most.")

    def apply(self, table: Table, group: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """New x and y; group: int [rows]."""
        # A round in random order: group g calls each label by the one g places on. Steps below the number of labels never meet.
        order = rng.permutation(len(table.labels))[: self._taking_part(table)]
        place = np.full(len(table.labels), -1)
        place[order] = np.arange(len(order))
        return table.x, np.where(place[table.y] < 0, table.y, order[(place[table.y] + group) % len(order)]).astype(np.int32)

    def _taking_part(self, table: Table) -> int:
        return round(self.share * len(table.labels))


def _turned(x: np.ndarray, degrees: float) -> np.ndarray:
    """Images [rows, side, side, ...] turned counterclockwise; exact for quarter turns, else bilinear with the darkest value around."""
    if not len(x):
        return x
    if degrees % 90 == 0:
        return np.rot90(x, int(degrees // 90), axes=(1, 2))
    from scipy import ndimage

    turned = ndimage.rotate(x.astype(np.float32), degrees, axes=(2, 1), reshape=False, order=1, mode="constant", cval=float(x.min()))
    if x.dtype == np.uint8:
        turned = np.clip(np.rint(turned), 0, 255)
    return turned.astype(x.dtype)


def _check_groups(k: int, name: str) -> None:
    if not 2 <= k < math.inf:
        raise AtollError(f"Skew {name}:{k}: there must be at least 2 groups, as in {name}:4.")
