"""Data: sources, skews, splits, and the federation they make. Nothing here needs JAX."""

from __future__ import annotations

from atoll.data.building import build
from atoll.data.federation import Federation
from atoll.data.index_map import rebuilt
from atoll.data.loading import load
from atoll.data.resampling import resample
from atoll.data.sources import SOURCES

__all__ = ["SOURCES", "Federation", "build", "load", "rebuilt", "resample"]
