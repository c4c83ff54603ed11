"""The simulator: client programs compiled over lanes of clients, lanes on worker threads.

A cohort is cut into a fixed number of lanes, whatever the number of threads, and lanes are folded in their order: results are bitwise the same
for any number of threads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from atoll.core.errors import AtollError
from atoll.core.federation import Facts
from atoll.core.fold import Fold
from atoll.core.keys import common_data, common_key, purpose_data, purpose_key
from atoll.core.method import is_on_host
from atoll.core.program import Context, Joined, Task
from atoll.data.federation import Federation
from atoll.engine.compiled import Cohort, LaneResult, lane
from atoll.engine.device import chunk_size, place
from atoll.engine.exchange import Job, Part
from atoll.engine.host import HostRows, run_host_job
from atoll.engine.runtime import default_threads
from atoll.engine.store import States


class Simulate:
    """Runs jobs compiled.

    threads: worker threads (default: all cores). lanes: parts of a cohort that can run at once; they decide the last bits of sums, so their
    number does not follow the machine. together: clients vectorised in one step (1: one after another, which is faster on a CPU).
    state_folder: keep private states in memory-mapped files there instead of in memory.
    """

    name = "simulate"

    def __init__(
        self, fed: Federation, facts: Facts, seed: int, *, threads: int | None = None, lanes: int = 8, together: int = 1, state_folder: Path | None = None
    ):
        if (threads is not None and threads < 1) or lanes < 1 or together < 1:
            raise AtollError(f"The simulator needs at least one thread, lane and client at a time (threads={threads}, lanes={lanes}, together={together}).")
        self.seed, self.lanes, self.together = seed, lanes, together
        self.data = place(fed)
        self.chunk = chunk_size(fed)
        self._rows = HostRows(fed)
        self._pool = ThreadPoolExecutor(threads or default_threads())
        self._compiled: dict[Any, Callable[..., LaneResult]] = {}
        self._merges: dict[Fold, Callable[..., Any]] = {}
        self._warm: set[Any] = set()
        self.states = States(facts, state_folder)

    def begin(self, method_label: str) -> None:
        """Another method starts: private states and compiled programs of the last one are dropped."""
        self.states.begin(method_label)
        self._compiled.clear()
        self._warm.clear()

    def close(self) -> None:
        self._pool.shutdown()

    def execute(self, job: Job) -> Part:
        """Runs a job's clients and stores their new private states."""
        if job.kind == "ask" and is_on_host(job.task.program):
            return run_host_job(job, self._rows, self.states, self.seed)
        lanes = self._lanes(job)
        m = len(job.ids)
        flops = np.concatenate([np.asarray(result.flops, np.float64)[: len(at)] for at, result in lanes])
        steps = np.concatenate([np.asarray(result.steps)[: len(at)] for at, result in lanes])
        for at, result in lanes:
            if job.kind == "join":
                self.states.scatter(job.architecture, job.ids[at], _cut(result.singles, len(at)))
            elif job.kind == "ask" and job.task.stateful:
                self.states.scatter(job.architecture, job.ids[at], _cut(result.states, len(at)))
        total, singles = None, None
        if job.fold.streamed:
            total = self._merge(job.fold, [result.total for _, result in lanes])
        elif job.kind != "join":
            singles = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:m], *[_cut(result.singles, len(at)) for at, result in lanes])
        return Part(total, singles, flops, steps, int(lanes[0][1].up))

    def joined(self, architecture: int, ids: np.ndarray) -> np.ndarray:
        return self.states.joined(architecture, ids)

    def private_bytes(self) -> int:
        return self.states.nbytes

    def dump_states(self, ids: list[int] | None = None) -> dict[int, Any]:
        return self.states.dump(ids)

    def load_states(self, states: dict[int, Any]) -> None:
        self.states.load(states)

    def _lanes(self, job: Job) -> list[tuple[np.ndarray, LaneResult]]:
        """(positions in the job, result) of every lane, in order."""
        m = len(job.ids)
        size = 1 << (-(-m // self.lanes) - 1).bit_length()  # room in a lane; a power of two, so that cohorts of all sizes share few compiled programs
        starts = np.linspace(0, m, min(m, self.lanes) + 1).round().astype(int)  # of lanes as equal as can be, so that threads end together
        filled = np.minimum(np.arange(size * self.lanes), m - 1)
        run = self._compile(job, size)
        mine = job.mine if job.kind != "evaluate" else Joined(job.mine, _repeat(purpose_key(self.seed, "join", 0), m))
        mine, shared = jax.tree.map(_placed, (jax.tree.map(lambda leaf: leaf[filled], mine), job.shared))
        keys = purpose_data(self.seed, job.task.name), common_data(self.seed)
        cohort = Cohort(job.ids[filled].astype(np.int32), job.budgets[filled], mine, shared, np.int32(job.round), *keys)

        def one(first: int, last: int) -> tuple[np.ndarray, LaneResult]:
            states = self._held(job, filled[first : first + size])
            return np.arange(first, last), jax.block_until_ready(run(self.data, cohort, states, np.int32(first), np.int32(last - first)))

        warm = (job.task, job.fold, size, jax.tree.structure(job.mine))
        if warm in self._warm:
            return list(self._pool.map(one, starts[:-1], starts[1:]))
        self._warm.add(warm)
        return [one(starts[0], starts[1]), *self._pool.map(one, starts[1:-1], starts[2:])]  # the first lane alone: it compiles, and once is enough

    def _held(self, job: Job, at: np.ndarray) -> Any:
        if job.kind == "join" or not job.task.stateful:
            return ()
        if job.kind == "ask":
            return self.states.gather(job.architecture, job.ids[at])
        return self.states.gather_or_zeros(job.architecture, job.ids[at], lambda: self._state_form(job))

    def _state_form(self, job: Job) -> Any:
        """Shapes of the private state that `join` would make, where no client has joined yet."""
        task = Task(job.task.method, job.task.method.join, "join", job.task.model, self.chunk, stateful=False)
        at = Context(np.int32(0), np.int32(0), np.int32(0), purpose_key(self.seed, "join", 0), np.float32(1), common_key(self.seed))
        return jax.eval_shape(lambda shared: task(self.data, at, shared, None, ()).reply, job.shared)

    def _compile(self, job: Job, size: int) -> Callable[..., LaneResult]:
        name = (job.task, job.fold, size)
        if name not in self._compiled:
            self._compiled[name] = jax.jit(lane(job.task, job.fold, size, self.together))
        return self._compiled[name]

    def _merge(self, fold: Fold, totals: list[Any]) -> Any:
        if len(totals) == 1:
            return totals[0]
        if fold not in self._merges:
            self._merges[fold] = jax.jit(lambda totals: functools.reduce(fold.merge, totals))
        return self._merges[fold](totals)


def _placed(leaf: Any) -> jax.Array:
    """On the device, once for all lanes. (Small arrays are cheaper handed to every lane as they are.)"""
    return leaf if isinstance(leaf, jax.Array) else jax.device_put(leaf)


def _cut(tree: Any, n: int) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:n], tree)


def _repeat(key: Any, n: int) -> np.ndarray:
    return np.repeat(np.asarray(jax.random.key_data(key))[None], n, axis=0)
