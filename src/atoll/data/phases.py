"""Makes a federation that changes over the rounds: one phase for every window and concept that its clients pass through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.drift import Drift
from atoll.data.federation import Federation
from atoll.data.randomness import generator
from atoll.data.skew.temporal import Concept, Window
from atoll.data.table import Table

State = tuple[int, tuple[int, float]]  # window, (concept, share of rows that follow the next)


def changing(table: Table, window: Window | None, concept: Concept | None, seed: int, make: Callable[[Table], Federation]) -> Federation:
    """The federation of a table whose rows all have an owner, made phase by phase with `make`. Scaling is that of the first phase throughout."""
    if window is None and concept is None:
        return make(table)
    every = _every(window, concept)
    periods, again = _periods(window, concept)
    distinct = list(dict.fromkeys(periods))
    windows = None if window is None else window.cut(table, generator(seed, "window"))
    moved = {mix: table if concept is None else _moved(table, concept, mix, seed) for _, mix in distinct}
    tables = [moved[mix] if window is None else moved[mix].take(_rows(table, windows == number, number, window)) for number, mix in distinct]
    first = make(tables[0])
    later = tuple(make(replace(one, standardise=None, shift=first.shift, scale=first.scale)) for one in tables[1:])
    about = tuple(_words(state, window, concept) for state in distinct)
    skews = ", ".join(str(skew) for skew in (window, concept) if skew is not None)
    order = tuple(distinct.index(state) for state in periods)
    line = f"{skews}: {len(periods)} periods of {every} rounds" + (", then again from the first" if again else ", then as in the last")
    timed = window is not None and table.time is not None
    if window is not None:
        line += "; rows in order of time" if timed else "; rows in random order, as they have no times"
    return replace(first, name=f"{first.name}, {skews}", history=(*first.history, line), drift=Drift(every, later, order, again, about))


def _every(window: Window | None, concept: Concept | None) -> int:
    if window is not None and concept is not None and window.every != concept.every:
        raise AtollError(f"Skews {window} and {concept} move on after different numbers of rounds. Give both the same `every`.")
    return (window or concept).every  # type: ignore[union-attr]


def _periods(window: Window | None, concept: Concept | None) -> tuple[list[State], bool]:
    """The state in each period, and whether they begin again after the last."""
    states = concept.states if concept else [(0, 0.0)]
    recurring = concept is not None and concept.kind == "recurring"
    if window is None:
        return [(0, state) for state in states], recurring
    n = max(window.k, len(states)) if not recurring else window.k
    return [(min(t, window.k - 1), states[t % len(states) if recurring else min(t, len(states) - 1)]) for t in range(n)], False


def _moved(table: Table, concept: Concept, mix: tuple[int, float], seed: int) -> Table:
    """The table under a concept."""
    assert table.owner is not None
    clients = len(table.names)
    chosen = np.zeros(clients, bool)
    chosen[generator(seed, "who changes").permutation(clients)[: max(1, round(concept.share * clients))]] = True
    early = generator(seed, "who changes early").random(len(table.y))
    return concept.apply(table, mix, chosen[table.owner], early, generator(seed, "concepts"))


def _rows(table: Table, rows: np.ndarray, number: int, window: Window) -> np.ndarray:
    """The rows (bool) of a window. AtollError where a client has too few in it to train and to test."""
    assert table.owner is not None
    held = np.bincount(table.owner[rows], minlength=len(table.names))
    few = np.flatnonzero(held < 2)
    if len(few):
        mend = "Take fewer windows" + ("" if window.by == "client" or table.time is None else ", or cut each client's rows by themselves (by=client)")
        n, of = held[few[0]], f"{len(few)} of {len(held)} clients have fewer than 2"
        raise AtollError(f"Skew {window}: client {table.names[few[0]]!r} has {n} row{'' if n == 1 else 's'} in window {number + 1} ({of}). {mend}.")
    return rows


def _words(state: State, window: Window | None, concept: Concept | None) -> str:
    number, (at, share) = state
    parts = [] if window is None else [f"window {number + 1}"]
    if concept is not None:
        parts.append(f"concept {at + 1}" + (f", {100 * share:.0f} % of rows in concept {at + 2}" if share else ""))
    return ", ".join(parts)
