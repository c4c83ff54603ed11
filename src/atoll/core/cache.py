"""Where Atoll keeps what it can make or fetch again: compiled programs and downloads."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$ATOLL_CACHE, else $XDG_CACHE_HOME/atoll, else ~/.cache/atoll. It need not exist."""
    if own := os.environ.get("ATOLL_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "atoll"
