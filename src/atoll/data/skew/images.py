"""What changes of images share."""

from __future__ import annotations

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.table import Table


def check_images(table: Table, skew: str, instead: str) -> None:
    """AtollError where rows are no images [height, width] or [height, width, channels]; instead: what to do about it."""
    shape = table.x.shape[1:]
    if len(shape) not in (2, 3) or table.x.dtype == np.int32:
        raise AtollError(f"Skew {skew}: only images can be changed so, and rows of {table.name} have shape {list(shape)}. {instead}")


def blurred(x: np.ndarray, share: float) -> np.ndarray:
    """Images [rows, height, width, ...] float32 under a Gaussian blur whose deviation is this share of the shorter side."""
    from scipy import ndimage

    deviation = share * min(x.shape[1:3])
    return ndimage.gaussian_filter(x, (0, deviation, deviation, *[0] * (x.ndim - 3)), mode="nearest") if len(x) and deviation > 0 else x


def within(x: np.ndarray, low: float, high: float, dtype: np.dtype) -> np.ndarray:
    """x inside the range, as the type of the source's images (bytes are rounded)."""
    x = np.clip(x, low, high)
    return (np.rint(x) if dtype == np.uint8 else x).astype(dtype)
