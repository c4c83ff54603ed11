"""Programs marked @on_host: plain Python on NumPy rows, one client after another."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from atoll.core.errors import AtollError
from atoll.core.keys import host_generator
from atoll.core.method import label
from atoll.core.model import Model
from atoll.data.federation import Federation
from atoll.engine.device import nbytes
from atoll.engine.exchange import Job, Part
from atoll.engine.store import States


class HostClient:
    """The view of a client in an @on_host program: x [n, ...] float32 (normalised) or int32, y [n]; `random` is a NumPy generator of its own."""

    def __init__(self, id: int, round: int, x: np.ndarray, y: np.ndarray, random: np.random.Generator, model: Model, state: Any):
        self.id, self.round, self.x, self.y, self.n = id, round, x, y, len(y)
        self.random, self.model, self.outputs, self.state = random, model, model.outputs, state


class HostRows:
    """Train rows of clients as NumPy arrays."""

    def __init__(self, fed: Federation):
        self._fed = fed

    def __call__(self, client: int) -> tuple[np.ndarray, np.ndarray]:
        """Normalised x and y of one client, or of the pool of all seen clients (client = number of clients)."""
        fed = self._fed
        first, n = (0, int(fed.count["train"][: fed.seen].sum())) if client == len(fed.names) else (fed.start["train"][client], fed.count["train"][client])
        x, y = fed.x[first : first + n], fed.y[first : first + n]
        if x.dtype != np.int32:
            x = ((x.astype(np.float32) - fed.shift) * fed.scale).astype(np.float32)
        return x, y


def run_host_job(job: Job, rows: HostRows, states: States, seed: int) -> Part:
    """Runs an ask whose program is marked @on_host."""
    task = job.task
    replies = []
    for j, i in enumerate(job.ids):
        state = jax.tree.map(lambda leaf: leaf[0], states.gather(job.architecture, job.ids[j : j + 1])) if task.stateful else ()
        x, y = rows(int(i))
        k = HostClient(int(i), job.round, x, y, host_generator(seed, f"{task.name} {i}", job.round), task.model, state)
        mine = () if job.mine is None else (jax.tree.map(lambda leaf, j=j: np.asarray(leaf[j]), job.mine),)
        out = task.program(k, job.shared, *mine)
        if task.stateful:
            if type(out) is not tuple or len(out) != 2:
                raise AtollError(f"{task.where} must return (reply, private state), since {label(task.method)} keeps private state at its clients.")
            out, new = out
            states.scatter(job.architecture, job.ids[j : j + 1], jax.tree.map(lambda leaf: np.asarray(leaf)[None], new))
        replies.append(jax.tree.map(jnp.asarray, out))
    total, singles = None, None
    if job.fold.streamed:
        total = job.fold.start(replies[0])
        for reply in replies:
            total = job.fold.add(total, reply)
    else:
        singles = jax.tree.map(lambda *leaves: np.stack(leaves), *replies)
    m = len(job.ids)
    return Part(total, singles, np.zeros(m), np.zeros(m, np.int64), nbytes(replies[0]))
