"""The debugging engine: nothing is compiled, clients run one by one, and an error says method, program, client and round."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from atoll.core.errors import AtollError
from atoll.core.federation import Facts
from atoll.core.keys import common_key, purpose_key
from atoll.core.method import is_on_host, welcome
from atoll.core.program import Context, Joined
from atoll.data.federation import Federation
from atoll.engine.device import chunk_size, nbytes, place
from atoll.engine.exchange import Job, Part
from atoll.engine.host import HostRows, run_host_job
from atoll.engine.preview import Preview
from atoll.engine.store import States


class ProgramError(AtollError):
    """A client program failed; the cause is chained."""


class Loop:
    """Runs jobs step by step in Python. Slow; breakpoints and prints in client programs work."""

    name = "loop"

    def __init__(self, fed: Federation, facts: Facts, seed: int, *, mix: int = 0):
        self.seed = seed
        self._fed, self._placed = fed, place(fed, mix)
        self.chunk = chunk_size(fed)
        self.enter(0)
        self._preview = Preview(seed)
        self._sites: dict[Any, list[float]] = {}
        self.states = States(facts)

    def begin(self, method_label: str) -> None:
        self.states.begin(method_label)
        self._sites.clear()

    def enter(self, phase: int) -> None:
        """From now on clients have the rows of this phase of the federation."""
        self.phase, self.data, self._rows = phase, self._placed[phase], HostRows(self._fed.phases[phase])

    def close(self) -> None:
        pass

    def execute(self, job: Job) -> Part:
        if job.kind == "ask" and is_on_host(job.task.program):
            return run_host_job(job, self._rows, self.states, self.seed)
        outcomes = [self._client(job, j) for j in range(len(job.ids))]
        for j, out in enumerate(outcomes):
            new = out.reply if job.kind == "join" else out.state
            if job.kind == "join" or (job.kind == "ask" and job.task.stateful):
                self.states.scatter(job.architecture, job.ids[j : j + 1], jax.tree.map(lambda leaf: np.asarray(leaf)[None], new))
        replies = [out.reply for out in outcomes]
        total, singles = fold_replies(job, replies)
        flops = np.array([float(out.flops) for out in outcomes])
        return Part(total, singles, flops, np.array([int(out.steps) for out in outcomes]), nbytes(replies[0]))

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

    def _client(self, job: Job, j: int) -> Any:
        i = int(job.ids[j])
        at = Context(
            jnp.int32(i),
            jnp.int32(i),
            jnp.int32(job.round),
            purpose_key(self.seed, job.task.name, job.round),
            jnp.float32(job.budgets[j]),
            common_key(self.seed),
        )
        mine = None if job.mine is None else jax.tree.map(lambda leaf: jnp.asarray(leaf[j]), job.mine)
        if job.kind == "evaluate":
            mine = Joined(mine, jax.random.key_data(purpose_key(self.seed, "join", 0)))
        sites = self._sites.setdefault((job.task, i, str(jax.tree.map(jnp.shape, (job.shared, mine)))), [])  # a loop costs what its message's size says
        try:
            with jax.disable_jit():
                return job.task(self.data, at, _arrays(job.shared), mine, self._state(job, j), sites)
        except AtollError:
            raise
        except Exception as error:
            raise ProgramError(f"{job.task.where} failed at client {i} in round {job.round}: {type(error).__name__}: {error}") from error

    def _state(self, job: Job, j: int) -> Any:
        if job.kind == "join" or not job.task.stateful:
            return ()
        ids = job.ids[j : j + 1]
        if not self.states.joined(job.architecture, ids)[0]:
            # an evaluation of a client that has not joined: it joins for this evaluation alone, from the same key as it would for good
            return fresh_state(job, self.data, int(job.ids[j]), int(job.ids[j]), self.seed)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), self.states.gather(job.architecture, ids))


def fresh_state(job: Job, data: Any, client: int, row: int, seed: int) -> Any:
    """What `join` would make for a client, from what the evaluation shares."""
    from atoll.core.program import Task

    task = Task(job.task.method, job.task.method.join, "join", job.task.model, job.task.chunk, stateful=False)
    at = Context(jnp.int32(client), jnp.int32(row), jnp.int32(0), purpose_key(seed, "join", 0), jnp.float32(1), common_key(seed))
    return task(data, at, _arrays(welcome(job.task.method, job.shared)), None, ()).reply


def fold_replies(job: Job, replies: list[Any]) -> tuple[Any, Any]:
    """(running total, None) for a streamed fold, else (None, stacked replies)."""
    if job.kind == "join":
        return None, None
    if not job.fold.streamed:
        return None, jax.tree.map(lambda *leaves: np.stack(leaves), *replies)
    total = job.fold.start(replies[0])
    for reply in replies:
        total = job.fold.add(total, reply)
    return total, None


def _arrays(tree: Any) -> Any:
    return jax.tree.map(jnp.asarray, tree)
