"""The rehearsal for deployment: every message is encoded to named byte arrays and every client is a node with rows and state of its own.

A node gets bytes and gives bytes. There is no memory in common to peek at, so a method that cheats fails on a laptop and not at the sites.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from atoll.core.errors import AtollError
from atoll.core.federation import Facts
from atoll.core.keys import common_key, host_generator, purpose_key
from atoll.core.method import is_on_host
from atoll.core.program import Context, Data, Joined, for_any_rate
from atoll.data.federation import Federation
from atoll.engine.codec import decode, encode
from atoll.engine.device import chunk_size, longest, mixed, nbytes, place_one
from atoll.engine.exchange import Job, Part
from atoll.engine.host import HostClient, HostRows
from atoll.engine.loop import fold_replies, fresh_state
from atoll.engine.preview import Preview
from atoll.engine.programs import compiled


class Node:
    """One client: its rows, its private state (as bytes, as it would lie on its disk), and the programs it was asked to run."""

    def __init__(self, client: int, seed: int):
        self.client, self._seed = client, seed
        self.state: bytes | None = None

    def own(self, data: Data, rows: Callable[[int], Any]) -> None:
        """Takes the place of the rows that it had; `rows` gives them to programs on the host."""
        self.data, self._rows = data, rows

    def answer(self, job: Job, message: bytes, budget: float, run: Callable[..., Any], rate: Any) -> tuple[bytes, float, int]:
        """Runs the job's program, compiled as `run` for any learning rate or for its own (then rate is None), on a message; returns (reply, FLOPs, steps).

        The new private state stays here.
        """
        shared, mine = decode(message)
        if job.kind == "ask" and is_on_host(job.task.program):
            return self._on_host(job, shared, mine)
        at = Context(
            np.int32(self.client),
            np.int32(0),
            np.int32(job.round),
            purpose_key(self._seed, job.task.name, job.round),
            np.float32(budget),
            common_key(self._seed),
            rate,
        )
        state: Any = ()
        if job.kind != "join" and job.task.stateful:
            state = decode(self.state) if self.state is not None else fresh_state(job, self.data, self.client, 0, self._seed)
        if job.kind == "evaluate":
            mine = Joined(np.bool_(True), jax.random.key_data(purpose_key(self._seed, "join", 0)))
        out = run(self.data, at, shared, mine, state)
        if job.kind == "join":
            self.state = encode(out.reply)
        elif job.kind == "ask" and job.task.stateful:
            self.state = encode(out.state)
        reply = encode(None if job.kind == "join" else out.reply)
        return reply, float(out.flops), int(out.steps)

    def _on_host(self, job: Job, shared: Any, mine: Any) -> tuple[bytes, float, int]:
        task = job.task
        state = decode(self.state) if task.stateful and self.state is not None else ()
        random = host_generator(self._seed, f"{task.name} {self.client}", job.round)
        x, y = self._rows(self.client)
        k = HostClient(self.client, job.round, x, y, random, task.model, state)
        out = task.program(k, shared) if mine is None else task.program(k, shared, mine)
        if task.stateful:
            out, new = out
            self.state = encode(new)
        return encode(out), 0.0, 0


class Wire:
    """Runs jobs by sending bytes to nodes."""

    name = "wire"

    def __init__(self, fed: Federation, facts: Facts, seed: int, *, mix: int = 0):
        self.seed = seed
        self.chunk = chunk_size(fed)
        self._fed, self._sizes, self._mixed = fed, longest(fed), mixed(fed, mix)
        self._nodes = [Node(i, seed) for i in range(facts.clients)]
        self._preview = Preview(seed)
        self.enter(0)

    def begin(self, method_label: str) -> None:
        for node in self._nodes:
            node.state = None

    def enter(self, phase: int) -> None:
        """From now on clients have the rows of this phase of the federation."""
        self.phase, fed = phase, self._fed.phases[phase]
        rows = HostRows(fed)
        for i, node in enumerate(self._nodes):
            node.own(place_one(fed, i, self._sizes, self._mixed[phase]), rows)

    def close(self) -> None:
        pass

    def execute(self, job: Job) -> Part:
        task, rate = for_any_rate(job.task)
        run = compiled(task)
        replies, flops, steps = [], [], []
        for j, i in enumerate(job.ids):
            mine = None if job.mine is None else jax.tree.map(lambda leaf, j=j: leaf[j], job.mine)
            reply, done, count = self._node(int(i)).answer(job, encode((job.shared, mine)), float(job.budgets[j]), run, rate)
            replies.append(decode(reply))
            flops.append(done)
            steps.append(count)
        total, singles = fold_replies(job, replies)
        return Part(total, singles, np.array(flops), np.array(steps, np.int64), nbytes(replies[0]))

    def preview(self, job: Job, welcome: Any) -> tuple[np.ndarray, int]:
        """(FLOPs [m], bytes of a reply) of a job, without doing it."""

        def of(i: int) -> tuple[Data, int, Any]:
            node = self._node(i)
            return node.data, 0, None if node.state is None else decode(node.state)

        return self._preview(job, welcome, of)

    def joined(self, architecture: int, ids: np.ndarray) -> np.ndarray:
        return np.array([self._node(int(i)).state is not None for i in ids])

    def private_bytes(self) -> int:
        return sum(nbytes(decode(node.state)) for node in self._nodes if node.state is not None)

    def dump_states(self, ids: list[int] | None = None) -> dict[int, Any]:
        wanted = range(len(self._nodes)) if ids is None else ids
        return {i: decode(state) for i in wanted if (state := self._node(i).state) is not None}

    def load_states(self, states: dict[int, Any]) -> None:
        for i, state in states.items():
            self._node(i).state = encode(state)

    def _node(self, i: int) -> Node:
        if i < len(self._nodes):
            return self._nodes[i]
        raise AtollError("The wire engine has no pool of all rows: each node holds its own. The Pooled baseline runs in the engines simulate and loop only.")
