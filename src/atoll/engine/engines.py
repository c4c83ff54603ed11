"""Engines by name."""

from __future__ import annotations

from pathlib import Path

from atoll.core.errors import unknown
from atoll.core.federation import Facts
from atoll.data.federation import Federation
from atoll.engine.exchange import Exchange, Executor
from atoll.engine.loop import Loop
from atoll.engine.simulate import Simulate
from atoll.engine.wire import Wire

NAMES = ("simulate", "loop", "wire")


def make_engine(
    name: str, fed: Federation, facts: Facts, seed: int, *, threads: int | None = None, lanes: int = 8, state_folder: Path | None = None
) -> Exchange:
    """An engine for one run. `threads`, `lanes` and `state_folder` concern the simulator only."""
    executor: Executor
    if name == "simulate":
        executor = Simulate(fed, facts, seed, threads=threads, lanes=lanes, state_folder=state_folder)
    elif name == "loop":
        executor = Loop(fed, facts, seed)
    elif name == "wire":
        executor = Wire(fed, facts, seed)
    else:
        raise unknown("engine", name, NAMES)
    return Exchange(executor, facts)
