"""The simulator: client programs compiled over lanes of clients, lanes on worker threads.

A cohort is dealt out to lanes, the longest clients first and each to the lane with the least work so far, and lanes are folded in their order. Neither
depends on the number of threads, so results are bitwise the same for any.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from atoll.core.cores import cores, default_lanes
from atoll.core.errors import AtollError
from atoll.core.federation import Facts
from atoll.core.keys import common_data, common_key, purpose_data, purpose_key
from atoll.core.method import is_on_host, welcome
from atoll.core.model import Model
from atoll.core.program import Context, Joined, Task, for_any_rate
from atoll.data.federation import Federation
from atoll.engine.compiled import Cohort, LaneResult
from atoll.engine.device import chunk_size, place
from atoll.engine.exchange import Job, Part
from atoll.engine.host import HostRows, run_host_job
from atoll.engine.preview import Preview
from atoll.engine.programs import compiled_lane, compiled_merge
from atoll.engine.store import States

TINY, VECTORISED = 2_000, 5  # models of so few parameters are computed for up to so many clients at a time (measured; larger ones get slower so)


class Simulate:
    """Runs jobs compiled.

    threads: worker threads (default: all cores). lanes: parts of a cohort that can run at once (default: one per core, two at least); they decide the
    last bits of sums, so a run records their number. together: clients vectorised in one step; by default up to five for tiny models and one, which is
    faster on a CPU, for all others. state_folder: keep private states in memory-mapped files there instead of in memory.
    """

    name = "simulate"

    def __init__(
        self,
        fed: Federation,
        facts: Facts,
        seed: int,
        *,
        threads: int | None = None,
        lanes: int | None = None,
        together: int | None = None,
        state_folder: Path | None = None,
        mix: int = 0,
    ):
        if any(n is not None and n < 1 for n in (threads, lanes, together)):
            raise AtollError(f"The simulator needs at least one thread, lane and client at a time (threads={threads}, lanes={lanes}, together={together}).")
        self.seed, self.lanes, self.together, self.threads = seed, lanes or default_lanes(), together, threads or cores()
        self._fed, self._placed = fed, place(fed, mix)
        self.chunk = chunk_size(fed)
        self._preview = Preview(seed)
        self.enter(0)
        self._pool = ThreadPoolExecutor(max(1, self.threads - 1))  # the calling thread works too
        self._warm: set[Any] = set()
        self.states = States(facts, state_folder)

    def begin(self, method_label: str) -> None:
        """Another method starts: private states of the last one are dropped."""
        self.states.begin(method_label)
        self._warm.clear()

    def enter(self, phase: int) -> None:
        """From now on clients have the rows of this phase of the federation."""
        self.phase, self.data, self._rows = phase, self._placed[phase], HostRows(self._fed.phases[phase])
        self._lengths = np.asarray(self.data.count["train"])  # of clients and the pool, in rows

    def close(self) -> None:
        self._pool.shutdown()

    def execute(self, job: Job) -> Part:
        """Runs a job's clients and stores their new private states."""
        if job.kind == "ask" and is_on_host(job.task.program):
            return run_host_job(job, self._rows, self.states, self.seed)
        lanes = self._lanes(job)
        for at, result in lanes:
            if job.kind == "join":
                self.states.scatter(job.architecture, job.ids[at], _cut(result.singles, len(at)))
            elif job.kind == "ask" and job.task.stateful:
                self.states.scatter(job.architecture, job.ids[at], _cut(result.states, len(at)))
        back = np.argsort(np.concatenate([at for at, _ in lanes]))

        def in_order(*leaves: Any) -> np.ndarray:
            return np.concatenate([np.asarray(leaf)[: len(at)] for (at, _), leaf in zip(lanes, leaves, strict=True)])[back]

        total, singles = None, None
        if job.fold.streamed:
            totals = [result.total for _, result in lanes]
            total = totals[0] if len(totals) == 1 else compiled_merge(job.fold)(totals)
        elif job.kind != "join":
            singles = jax.tree.map(in_order, *[result.singles for _, result in lanes])
        flops, steps = (in_order(*(getattr(result, name) for _, result in lanes)) for name in ("flops", "steps"))
        return Part(total, singles, flops.astype(np.float64), steps, int(lanes[0][1].up))

    def preview(self, job: Job, welcome: Any) -> tuple[np.ndarray, int]:
        """(FLOPs [m], bytes of a reply) of a job, without doing it."""
        return self._preview(job, welcome, lambda i: (self.data, i, self.states.of(job.architecture, i)))

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
        lanes = deal(self._lengths[job.ids] * job.budgets, self.lanes)
        longest = max(map(len, lanes))
        size = 1 << (longest - 1).bit_length()  # room in a lane; a power of two, so that cohorts of all sizes share few compiled programs
        order, first = np.concatenate(lanes), np.cumsum([0, *map(len, lanes)])
        room = np.append(order, np.full(size * self.lanes - m, order[-1]))  # so that every lane can be cut out at full size
        together = self.together or _together(job.task.model, longest)
        task, rate = for_any_rate(job.task)
        run = compiled_lane(task, job.fold, size, together)
        mine = job.mine if job.kind != "evaluate" else Joined(job.mine, _repeat(purpose_key(self.seed, "join", 0), m))
        mine, shared = jax.tree.map(_placed, (jax.tree.map(lambda leaf: leaf[room], mine), job.shared))
        keys = purpose_data(self.seed, job.task.name), common_data(self.seed)
        cohort = Cohort(job.ids[room].astype(np.int32), job.budgets[room], mine, shared, np.int32(job.round), *keys, rate)

        def one(n: int) -> LaneResult:
            states = self._held(job, room[first[n] : first[n] + size])
            return jax.block_until_ready(run(self.data, cohort, states, np.int32(first[n]), np.int32(len(lanes[n]))))

        warm = (job.task, job.fold, size, together, jax.tree.structure(job.mine))
        results = {} if warm in self._warm else {0: one(0)}  # the first lane alone: it compiles, and once is enough
        self._warm.add(warm)
        self._share(one, range(len(results), len(lanes)), results)
        return [(lane, results[n]) for n, lane in enumerate(lanes)]

    def _share(self, one: Callable[[int], LaneResult], numbers: range, results: dict[int, LaneResult]) -> None:
        """results[n] = one(n) for all numbers: every thread, this one included, takes the next that nobody has taken."""
        left = iter(numbers)  # next() of a range's iterator is one step of the interpreter, so no two threads get the same

        def work() -> None:
            for n in left:
                results[n] = one(n)

        helpers = [self._pool.submit(work) for _ in range(min(self.threads, len(numbers)) - 1)]
        try:
            work()
        finally:
            for helper in helpers:
                helper.result()

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
        return jax.eval_shape(lambda shared: task(self.data, at, welcome(job.task.method, shared), None, ()).reply, job.shared)


def deal(work: np.ndarray, lanes: int) -> list[np.ndarray]:
    """Positions of clients, dealt out to at most `lanes` lanes: the longest first, each to the lane with the least work so far."""
    dealt: list[list[int]] = [[] for _ in range(min(lanes, len(work)))]
    loads = [(0.0, lane) for lane in range(len(dealt))]  # a heap
    for at in np.argsort(-work, kind="stable").tolist():
        load, lane = loads[0]
        heapq.heapreplace(loads, (load + float(work[at]) + 1, lane))
        dealt[lane].append(at)
    return [np.array(lane) for lane in dealt]


def _together(model: Model, clients: int) -> int:
    """Clients to vectorise in a lane of `clients`: groups as equal as can be."""
    return -(-clients // -(-clients // VECTORISED)) if _size(model) <= TINY else 1


@functools.lru_cache(maxsize=64)
def _size(model: Model) -> int:
    """Number of the model's parameters."""
    return model.size(jax.eval_shape(model.init, jax.random.key(0)))


def _placed(leaf: Any) -> jax.Array:
    """On the device, once for all lanes. (Small arrays are cheaper handed to every lane as they are.)"""
    return leaf if isinstance(leaf, jax.Array) else jax.device_put(leaf)


def _cut(tree: Any, n: int) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:n], tree)


def _repeat(key: Any, n: int) -> np.ndarray:
    return np.repeat(np.asarray(jax.random.key_data(key))[None], n, axis=0)
