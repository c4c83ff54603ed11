"""Compiled programs. They are pure functions of arrays, so one that was compiled serves every run of the process that asks for the same.

Only the newest are kept: a long study meets many methods, and each only for a while.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from atoll.core.fold import Fold
from atoll.engine.compiled import LaneResult, Program, lane

KEPT = 64


@functools.lru_cache(maxsize=KEPT)
def compiled(program: Callable[..., Any]) -> Callable[..., Any]:
    """A program, compiled as it is. Equal programs (tasks of the same method, program and model) share one."""
    return jax.jit(program)


@functools.lru_cache(maxsize=KEPT)
def compiled_lane(program: Program, fold: Fold, size: int, together: int) -> Callable[..., LaneResult]:
    """A program, compiled for lanes of up to `size` clients."""
    return jax.jit(lane(program, fold, size, together))


@functools.lru_cache(maxsize=KEPT)
def compiled_merge(fold: Fold) -> Callable[[list[Any]], Any]:
    """The running folds of several lanes, merged in order."""
    return jax.jit(lambda totals: functools.reduce(fold.merge, totals))
