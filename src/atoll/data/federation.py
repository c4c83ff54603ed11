"""A federation: rows, who owns them, and how each owner's rows are split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Federation:
    """See the interfaces."""

    name: str
    x: np.ndarray
    y: np.ndarray
    start: dict[str, np.ndarray]
    count: dict[str, np.ndarray]
    names: tuple[str, ...]
    seen: int
    labels: tuple[str, ...]
    shift: np.ndarray | float
    scale: np.ndarray | float
    public: tuple[np.ndarray, np.ndarray] | None = None
    groups: np.ndarray | None = None
    history: tuple[str, ...] = ()
