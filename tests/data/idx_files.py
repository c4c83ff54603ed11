"""Small files of MNIST's form."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from atoll.data.sources.idx import NAMES


def idx(array: np.ndarray) -> bytes:
    """An array of bytes in idx form."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.astype(np.uint8).tobytes()


def write_set(folder: Path, *, zipped: bool = True, side: int = 5, train: int = 60, test: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Writes the four files; returns all x and y, train first."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (train + test, side, side)), np.arange(train + test) % 10
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(NAMES, (x[:train], y[:train], x[train:], y[train:]), strict=True):
        content = idx(array)
        (folder / f"{name}{'.gz' if zipped else ''}").write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    return x, y
