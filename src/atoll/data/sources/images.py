"""Image files as arrays, and images made smaller or larger."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from atoll.core.errors import AtollError

DRIVERS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".bmp": "bmp", ".tif": "tiff", ".tiff": "tiff", ".webp": "webp"}  # ending -> tensorstore's name


def decoded(file: Path) -> np.ndarray:
    """An image file as uint8 [height, width, channels]. AtollError for one that can't be read, or has not 8 bits per value."""
    import tensorstore

    try:
        spec = {"driver": DRIVERS[file.suffix.lower()], "kvstore": {"driver": "file", "path": str(file.resolve())}}
        pixels = tensorstore.open(spec).result().read().result()
    except KeyError:
        raise AtollError(f"{file} ends in {file.suffix!r}; images that can be read end in {', '.join(DRIVERS)}.") from None
    except ValueError as error:
        raise AtollError(f"{file} can't be read as an image: {str(error).splitlines()[0]}.") from None
    if pixels.dtype != np.uint8:
        raise AtollError(f"{file} has pixels of type {pixels.dtype}; images of 8 bits are needed.")
    return pixels


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image [h, w] or [h, w, channels] as float64 of another size: each new pixel is the mean over the area that it covers in the old one."""
    down, across = _overlap(image.shape[0], height), _overlap(image.shape[1], width)
    flat = image.reshape(*image.shape[:2], -1).astype(np.float64)
    return np.einsum("ih,hwc,jw->ijc", down, flat, across, optimize=True).reshape(height, width, *image.shape[2:])


def _overlap(old: int, new: int) -> np.ndarray:
    """[new, old], rows that sum to 1: which share of a new pixel's stretch each old pixel covers."""
    ends = np.arange(new + 1) * old / new
    shared = np.minimum(ends[1:, None], np.arange(1, old + 1)) - np.maximum(ends[:-1, None], np.arange(old))
    return np.clip(shared, 0, 1) * new / old
