"""What an ask would cost its clients, before it is made: for the clock, which must know who answers in time.

A program is compiled without its reply, so the compiler leaves out the training and what remains are the counts of its loops.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from atoll.core.keys import common_key, purpose_key
from atoll.core.method import is_on_host
from atoll.core.program import Context, Data, Task, for_any_rate
from atoll.engine.device import nbytes
from atoll.engine.exchange import Job
from atoll.engine.programs import KEPT


class Preview:
    """Counts of jobs."""

    def __init__(self, seed: int):
        self.seed = seed

    def __call__(self, job: Job, welcome: Any, of: Callable[[int], tuple[Data, int, Any]]) -> tuple[np.ndarray, int]:
        """(FLOPs [m], bytes of one reply). `of(client)` gives its data, its row in their tables and its private state (None: it has not joined).

        A program marked @on_host has no counted operations, and the size of its reply is not known before it runs: both count as none.
        """
        task = job.task
        if is_on_host(task.program):
            return np.zeros(len(job.ids)), 0
        flops, up = np.zeros(len(job.ids)), 0
        general, rate = for_any_rate(task)
        for j, i in enumerate(job.ids.tolist()):
            data, row, state = of(i)
            mine = None if job.mine is None else jax.tree.map(lambda leaf, j=j: leaf[j], job.mine)
            at = Context(
                np.int32(i), np.int32(row), np.int32(job.round), purpose_key(self.seed, task.name, job.round), job.budgets[j], common_key(self.seed), rate
            )  # fmt: skip
            whose = rate if task.owner is task.method else None  # joining is the method's own program, also where this one is of a method inside it
            fresh = at._replace(round=np.int32(0), key=purpose_key(self.seed, "join", 0), budget=np.float32(1), rate=whose)
            run = _effort(general, joins=task.stateful and state is None)
            count, size = run(data, at, fresh, job.shared, mine, state if task.stateful else (), welcome)
            flops[j], up = float(count), int(size)
        return flops, up


@functools.lru_cache(maxsize=KEPT)
def _effort(task: Task, joins: bool) -> Callable[..., tuple[Any, int]]:
    """(FLOPs, bytes of the reply) of a task, compiled."""

    def run(data: Data, at: Context, fresh: Context, shared: Any, mine: Any, state: Any, welcome: Any) -> tuple[Any, int]:
        if joins:
            join = Task(task.method, task.method.join, "join", task.model, task.chunk, stateful=False)
            state = join(data, fresh, welcome, None, ()).reply
        out = task(data, at, shared, mine, state)
        return out.flops, nbytes(out.reply)

    return jax.jit(run)
