"""Randomness of the data part: a generator per purpose, so that one step's draws never shift another's."""

from __future__ import annotations

from zlib import crc32

import numpy as np


def generator(seed: int, purpose: str) -> np.random.Generator:
    """NumPy's generator for one purpose ("split", "dirichlet", ...) under a seed >= 0."""
    return np.random.default_rng([seed, crc32(purpose.encode())])
