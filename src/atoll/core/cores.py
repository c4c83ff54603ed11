"""How many cores there are, and what follows from it."""

from __future__ import annotations

import os


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_lanes() -> int:
    """Parts of a cohort that can run at once: more of them than threads only cost. At least two, so that one core and two give the same."""
    return max(2, cores())
