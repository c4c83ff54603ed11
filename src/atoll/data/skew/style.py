"""Groups of clients that draw in styles of their own, as domains of images do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.skew.images import blurred, check_images, within
from atoll.data.table import Table

# On values from 0 (the darkest of the data) to 1. In this order, so that a few groups differ most.
STYLES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "plain": lambda x: x,
    "negative": lambda x: 1 - x,
    "blurred": lambda x: blurred(x, 1 / 12),
    "two tones": lambda x: (x > 0.5).astype(np.float32),
    "faded": lambda x: 0.35 + 0.3 * x,
    "dark": lambda x: x**3,
}


@dataclass(frozen=True)
class Style:
    """k groups of clients, each with images in a style of its own: plain, negative, blurred, two tones, faded, dark (in this order, so k is at most 6).

    What is seen stays the same and so does its label: domains, made of one source.
    """

    k: int

    def __post_init__(self) -> None:
        if not 2 <= self.k <= len(STYLES):
            raise AtollError(f"Skew style:{self.k}: there are 2 to {len(STYLES)} groups, one for each of {', '.join(STYLES)}.")

    def __str__(self) -> str:
        return f"style:{self.k}"

    def check(self, table: Table) -> None:
        """AtollError where rows are no images."""
        check_images(table, str(self), "Use affine:0.5 for tabular rows.")

    def apply(self, table: Table, group: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """New x and y; group: int [rows]."""
        low, high = float(table.x.min()), float(table.x.max())
        x = table.x.copy()
        for g, change in enumerate(list(STYLES.values())[1 : self.k], start=1):
            rows = np.flatnonzero(group == g)
            shade = (table.x[rows].astype(np.float32) - low) / max(high - low, 1e-30)
            x[rows] = within(low + (high - low) * change(shade), low, high, x.dtype)
        return x, table.y
