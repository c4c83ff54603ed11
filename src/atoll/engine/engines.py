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
    mix: int = 0,
    auc: bool = False,
) -> Exchange:
    """An engine for one run. `threads`, `lanes`, `together` and `state_folder` concern the simulator only; see Simulate. mix: test rows of all clients on which
    every client's model is scored too. auc: areas under the ROC curve also where there are more than two labels."""
    check_engine(name)
    executor: Executor
    if name == "simulate":
        executor = Simulate(fed, facts, seed, threads=threads, lanes=lanes, together=together, state_folder=state_folder, mix=mix)
    elif name == "loop":
        executor = Loop(fed, facts, seed, mix=mix)
    else:
        executor = Wire(fed, facts, seed, mix=mix)
    return Exchange(executor, facts, auc=auc)
