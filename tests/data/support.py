"""What tests of the data part share."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.data.federation import SPLITS, Federation


@contextmanager
def refuses(*words: str) -> Iterator[None]:
    """The block raises an AtollError of one line that has all these words."""
    with pytest.raises(AtollError) as caught:
        yield
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


def owners(fed: Federation) -> np.ndarray:
    """int [rows], the client that owns each row."""
    owner = np.full(len(fed.y), -1)
    for split in SPLITS:
        for client, (first, n) in enumerate(zip(fed.start[split], fed.count[split], strict=True)):
            assert (owner[first : first + n] == -1).all()
            owner[first : first + n] = client
    assert (owner >= 0).all()
    return owner


def numbered(rows: int, values: int = 1) -> np.ndarray:
    """x float32 [rows, values] whose first value is the number of the row, so that every row can be followed."""
    return np.repeat(np.arange(rows, dtype=np.float32)[:, None], values, axis=1)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """A PNG file of pixels [height, width, channels] without filters."""
    height, width, channels = pixels.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    parts = (b"IHDR", struct.pack(">2I5B", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b"")
    chunks = [struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
