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


def check_engine(name: str) -> None:
    """AtollError for an unknown engine."""
    if name not in NAMES:
        raise unknown("engine", name, NAMES)


def make_engine(
    name: str,
    fed: Federation,
    facts: Facts,
    seed: int,
    *,
    threads: int | None = None,
    lanes: int | None = None,
    together: int | None = None,
    state_folder: Path | None = None,
) -> Exchange:
    """An engine for one run. `threads`, `lanes`, `together` and `state_folder` concern the simulator only; see Simulate."""
    check_engine(name)
    executor: Executor
    if name == "simulate":
        executor = Simulate(fed, facts, seed, threads=threads, lanes=lanes, together=together, state_folder=state_folder)
    elif name == "loop":
        executor = Loop(fed, facts, seed)
    else:
        executor = Wire(fed, facts, seed)
    return Exchange(executor, facts)
