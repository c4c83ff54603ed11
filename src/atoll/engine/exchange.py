"""What all engines do alike: newcomers join first, clients of one architecture and message shape run together, traffic is booked, replies are folded.

How such a group of clients is run is an *executor's* business: compiled over lanes (simulate), step by step (loop), or through messages (wire).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from atoll.core.errors import AtollError
from atoll.core.federation import Call, Effort, Facts, Traffic
from atoll.core.fold import Alike, Apart, Fold, stack
from atoll.core.program import Evaluation, Scored, Task, is_stateful
from atoll.engine.device import nbytes

SCORED_AT_ONCE = 4096  # clients: their private states are laid side by side, and all of a large federation's would not fit


@dataclass(frozen=True)
class Job:
    """One program to run on clients of one architecture with messages of one shape."""

    task: Any  # Task, or Evaluation for kind "evaluate"
    kind: Literal["ask", "join", "evaluate"]  # ask: state in and out; join: the reply becomes the state; evaluate: state in, nothing kept
    fold: Fold
    architecture: int
    ids: np.ndarray  # int64 [m]
    shared: Any
    mine: Any  # tree with leading axis [m], or None
    round: int
    budgets: np.ndarray  # float32 [m]


@dataclass(frozen=True)
class Part:
    """What running a job gave."""

    total: Any  # running fold, where the fold is streamed
    singles: Any  # replies stacked [m, ...], where it is not
    flops: np.ndarray  # float64 [m]
    steps: np.ndarray  # int64 [m]
    up: int  # bytes of one reply


class Executor(Protocol):
    """Runs jobs and keeps private states."""

    name: str
    chunk: int
    phase: int  # of the federation: which rows clients have

    def begin(self, method_label: str) -> None: ...
    def enter(self, phase: int) -> None: ...
    def execute(self, job: Job) -> Part: ...
    def preview(self, job: Job, welcome: Any) -> tuple[np.ndarray, int]: ...
    def joined(self, architecture: int, ids: np.ndarray) -> np.ndarray: ...
    def private_bytes(self) -> int: ...
    def dump_states(self, ids: list[int] | None = None) -> dict[int, Any]: ...
    def load_states(self, states: dict[int, Any]) -> None: ...
    def close(self) -> None: ...


class Exchange:
    """An engine: an executor and the bookkeeping around it."""

    def __init__(self, executor: Executor, facts: Facts, *, auc: bool = False):
        self.executor, self.facts, self.auc = executor, facts, auc

    def run(self, call: Call, traffic: Traffic) -> Any:
        """One ask: returns the folded reply and books bytes, FLOPs and steps per client."""
        stateful = is_stateful(call.method, call.program)
        if stateful:
            self._welcome(call, traffic)
        parts: list[tuple[np.ndarray, Part]] = []
        for architecture, group in self._by_architecture(call.ids):
            task = Task(call.method, call.program, call.name, self.facts.models[architecture], self.executor.chunk, stateful)
            for where, mine in _by_shape(call.each, group):
                job = Job(task, "ask", call.fold, architecture, call.ids[where], call.shared, mine, call.round, call.budgets[where])
                part = self.executor.execute(job)
                down = nbytes(call.shared) + (0 if mine is None else nbytes(mine) // len(where))
                self._book(traffic, job.ids, part, down, part.up)
                parts.append((where, part))
        return fold_parts(call.fold, parts, len(call.ids))

    def effort(self, call: Call) -> Effort:
        """What the ask costs each client, before it is made. Joining is not counted."""
        stateful = is_stateful(call.method, call.program)
        flops, down, up = np.zeros(len(call.ids)), np.zeros(len(call.ids), np.int64), np.zeros(len(call.ids), np.int64)
        for architecture, group in self._by_architecture(call.ids):
            task = Task(call.method, call.program, call.name, self.facts.models[architecture], self.executor.chunk, stateful)
            for where, mine in _by_shape(call.each, group):
                job = Job(task, "ask", call.fold, architecture, call.ids[where], call.shared, mine, call.round, call.budgets[where])
                flops[where], up[where] = self.executor.preview(job, call.welcome)
                down[where] = nbytes(call.shared) + (0 if mine is None else nbytes(mine) // len(where))
        return Effort(flops, down, up)

    def evaluate(self, method: Any, ids: np.ndarray, shared: Any, round: int) -> tuple[Scored, np.ndarray]:
        """(scores [clients, model, split] and clusters [clients], joined [clients]) of what `ids` predict with. Leaves no trace at the clients."""
        stateful = hasattr(method, "join")
        joined = np.ones(len(ids), bool)  # a method without private states has nothing to join
        parts: list[tuple[np.ndarray, Part]] = []
        for architecture, group in self._by_architecture(ids):
            yes = self.executor.joined(architecture, ids[group]) if stateful else np.zeros(len(group), bool)
            if stateful:
                joined[group] = yes
            task = Evaluation(method, self.facts.models[architecture], self.executor.chunk, stateful, auc=self.auc)
            for first in range(0, len(group), SCORED_AT_ONCE):
                at, known = (whole[first : first + SCORED_AT_ONCE] for whole in (group, yes))
                job = Job(task, "evaluate", stack, architecture, ids[at], shared, known, round, np.ones(len(at), np.float32))
                parts.append((at, self.executor.execute(job)))
        return jax.tree.map(np.asarray, fold_parts(stack, parts, len(ids))), joined

    def _welcome(self, call: Call, traffic: Traffic) -> None:
        known = call.welcome is call.shared  # then the ask itself brings what newcomers join from
        for architecture, group in self._by_architecture(call.ids):
            ids = call.ids[group]
            new = ids[~self.executor.joined(architecture, ids)]
            if len(new):
                task = Task(call.method, call.method.join, "join", self.facts.models[architecture], self.executor.chunk, stateful=False)
                job = Job(task, "join", stack, architecture, new, call.welcome, None, 0, np.ones(len(new), np.float32))
                self._book(traffic, new, self.executor.execute(job), 0 if known else nbytes(call.welcome), 0)

    def _book(self, traffic: Traffic, ids: np.ndarray, part: Part, down: int, up: int) -> None:
        sent = ids < self.facts.clients  # the pool of all rows lies where the server is
        traffic.down[ids] += down * sent
        traffic.up[ids] += up * sent
        traffic.flops[ids] += part.flops
        traffic.steps[ids] += part.steps

    def _by_architecture(self, ids: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """(architecture, positions in `ids` of its clients) for each architecture that occurs."""
        kinds = self.facts.architecture[ids]
        for kind in np.unique(kinds):
            yield int(kind), np.flatnonzero(kinds == kind)


def _by_shape(each: Any, group: np.ndarray) -> Iterator[tuple[np.ndarray, Any]]:
    """(positions, stacked messages) for every shape of message among the clients at positions `group`."""
    if each is None:
        yield group, None
        return
    if not isinstance(each, list):
        yield group, jax.tree.map(lambda leaf: leaf[group], each)
        return
    shapes: dict[Any, list[int]] = {}
    for at in group:
        leaves, tree = jax.tree.flatten(each[at])
        shapes.setdefault((tree, tuple(jnp.shape(leaf) for leaf in leaves)), []).append(int(at))
    for where in shapes.values():
        yield np.array(where), jax.tree.map(lambda *leaves: jnp.stack(leaves), *[each[at] for at in where])


def fold_parts(fold: Fold, parts: list[tuple[np.ndarray, Part]], count: int) -> Any:
    """The result of a fold over the parts of a cohort of `count` clients; single replies come back in the order in which clients were asked."""
    if fold.streamed:
        total = parts[0][1].total
        for _, part in parts[1:]:
            total = fold.merge(total, part.total)
        return fold.finish(total)
    if isinstance(fold, Apart):
        return [Alike(at, part.singles) for at, part in parts]
    forms = {jax.tree.structure(part.singles) for _, part in parts} | {tuple(np.shape(leaf)[1:] for leaf in jax.tree.leaves(part.singles)) for _, part in parts}
    if len(forms) > 2:
        raise AtollError(
            f"{type(fold).__name__} stacks replies, and these have different shapes. Fold them with one that puts them together, such as ElementMean."
        )
    where = np.concatenate([at for at, _ in parts])
    back = np.argsort(where)
    if (back == np.arange(count)).all() and len(parts) == 1:
        return fold.finish(parts[0][1].singles)
    stacked = jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves])[back], *[part.singles for _, part in parts])
    return fold.finish(stacked)
