"""Turns a method's client program into a pure function of arrays that any engine can run: compiled over many clients, step by step, or at a real site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.local import row_losses
from atoll.core.method import at_rate, is_stateless, label, rate_of, the_same, welcome
from atoll.core.model import Model
from atoll.core.rows import Batch, Flat, Rows
from atoll.core.work import Work

SPLITS = ("train", "validation", "test")
SCORED = ("validation", "test", "mix")  # mix: rows of all clients, where there are such
MODELS = {"personal": "personalize", "global": "global_model", "before": "before"}  # what is scored -> the method's function that gives it


class Data(NamedTuple):
    """The rows an engine holds: all clients' in the simulator, one client's at a node."""

    flat: Flat
    start: dict[str, Array]  # split -> int32 [clients (+ 1)]; the last entry may be the pool of all seen clients' train rows
    count: dict[str, Array]
    room: dict[str, Array]  # split -> [most rows of a client, 0]: no bytes; its shape is known when a program is compiled
    public: Flat | None
    mix: Flat | None = None  # some test rows of all clients, on which a client's model is scored to see what it knows beyond the client's own


class Outcome(NamedTuple):
    """What one client's call gives the engine."""

    reply: Any
    state: Any  # the client's next private state, or ()
    flops: Array  # float32 scalar
    steps: Array  # int32 scalar, optimisation steps done


class Context(NamedTuple):
    """The arrays of one client's call (JAX or NumPy)."""

    id: Any  # int32, the client's number in the federation: names its randomness
    row: Any  # int32, where the client stands in Data's tables
    round: Any  # int32
    key: Array  # key of (seed, purpose, round); the client's id is folded in
    budget: Any  # float32 in (0, 1]: share of the asked work it can do
    common: Array  # the run's common key, from which the server's first model is drawn
    rate: Any = None  # float32, the method's learning rate where the program was compiled for any


@dataclass(frozen=True)
class Task:
    """One program of one method for one architecture, as engines compile and cache it."""

    method: Any
    program: Callable[..., Any]
    name: str
    model: Model
    chunk: int
    stateful: bool

    @property
    def where(self) -> str:
        return f"{label(self.method)}.{self.name}"

    @property
    def owner(self) -> Any:
        """The method whose program it is: `method`, or one that it has inside; None for a program of no method."""
        return getattr(self.program, "__self__", None)

    def of(self, other: Any) -> Task:
        """The task with another method in the owner's place."""
        return replace(self, method=other if self.owner is self.method else self.method, program=getattr(other, self.program.__name__))

    def __call__(self, data: Data, at: Context, shared: Any, mine: Any, state: Any, sites: list[float] | None = None) -> Outcome:
        if at.rate is not None:
            return self.of(at_rate(self.owner, at.rate))(data, at._replace(rate=None), shared, mine, state, sites)
        work = Work(sites)
        k = self._view(data, at, work, state)
        out = self.program(k, shared) if mine is None else self.program(k, shared, mine)
        if not self.stateful:
            return Outcome(_arrays(out, self.where), (), work.flops, work.steps)
        if type(out) is not tuple or len(out) != 2:
            raise AtollError(
                f"{self.where} must return (reply, private state), since {label(self.method)} keeps private state at its clients (it defines `join`), "
                f"but it returned {type(out).__name__}. Return k.state where nothing changes, or mark the program @stateless."
            )
        reply, new = out
        _same_structure(self.where, state, new)
        return Outcome(_arrays(reply, self.where), jax.tree.map(_like, state, new), work.flops, work.steps)

    def _view(self, data: Data, at: Context, work: Work, state: Any) -> Client:
        key = jax.random.fold_in(at.key, at.id)
        train = _rows(data, "train", at, key, work, self.model, self.chunk)
        public = None if data.public is None else _whole(data.public, at, key, work, self.model, self.chunk)
        given = {"state": state} if self.stateful else {}
        return Client(id=at.id, round=at.round, key=key, common_key=at.common, model=self.model, train=train, public=public, work=work, **given)


def _rows(data: Data, split: str, at: Context, key: Array, work: Work, model: Model, chunk: int) -> Rows:
    """The rows of a split of the client whose call `at` is; the mix is the same for all clients."""
    if split == "mix":
        assert data.mix is not None
        return _whole(data.mix, at, key, work, model, chunk)
    start, count, room = data.start[split][at.row], data.count[split][at.row], len(data.room[split])
    return Rows(data.flat, model.input_shape, start, count, key, at.budget, work, chunk, room)


def _whole(flat: Flat, at: Context, key: Array, work: Work, model: Model, chunk: int) -> Rows:
    """All rows of flat arrays."""
    n = flat.y.shape[0]
    return Rows(flat, model.input_shape, jnp.int32(0), jnp.int32(n), key, at.budget, work, chunk, n)


class Score(NamedTuple):
    """How one client's rows are predicted; axes [model: as MODELS; split: as SCORED, the mix where there is one].

    NaN stands for "no such model" and for what makes no sense.
    """

    rows: Array  # float32 [3, splits]
    correct: Array  # float32 [3, splits], sum over rows
    loss: Array  # float32 [3, splits], sum over rows
    balanced: Array  # float32 [3, splits], share of rows that are right, mean over the labels that the client's rows have; classification only
    auc: Array  # float32 [3, splits], area under the ROC curve, where there are two labels and the client has rows of both; with more as Evaluation.auc says


class Sums(NamedTuple):
    """What is summed over rows for a Score."""

    rows: Array
    correct: Array
    loss: Array
    right: Array  # float32 [labels], rows of each label that are right; [0] where there are no labels
    of: Array  # float32 [labels], rows of each label


class Scored(NamedTuple):
    """What an evaluation says of one client."""

    score: Score
    cluster: Array  # int32, -1 where the method has none


@dataclass(frozen=True)
class Evaluation:
    """Scores what a client predicts with. Adapting sees train rows only; validation rows, test rows and the mix are shown to `predict` alone."""

    method: Any
    model: Model
    chunk: int
    stateful: bool
    name: str = "personalize"
    auc: bool = False  # also with more than two labels: each against the others, mean over those that some of the client's rows have and some don't

    @property
    def where(self) -> str:
        return f"{label(self.method)}.{self.name}"

    @property
    def owner(self) -> Any:
        return self.method

    def of(self, other: Any) -> Evaluation:
        """The evaluation of another method."""
        return replace(self, method=other)

    def __call__(self, data: Data, at: Context, shared: Any, joined: Any, state: Any, sites: list[float] | None = None) -> Outcome:
        if at.rate is not None:
            return self.of(at_rate(self.owner, at.rate))(data, at._replace(rate=None), shared, joined, state, sites)
        work = Work(sites)
        task = Task(self.method, self._model, self.name, self.model, self.chunk, self.stateful)
        if self.stateful:
            join = Task(self.method, self.method.join, "join", self.model, self.chunk, stateful=False)
            fresh = at._replace(key=jax.random.wrap_key_data(joined.key_data))
            brought = welcome(self.method, shared)
            state = jax.lax.cond(joined.yes, lambda s: s, lambda s: jax.tree.map(_like, s, join(data, fresh, brought, None, ()).reply), state)
        k = task._view(data, at, work, state)
        tables = [self._score(k, self._model(name, k, shared), data, at, work) for name in MODELS.values()]
        cluster = self.method.cluster(k, shared) if hasattr(self.method, "cluster") else -1
        scored = Scored(jax.tree.map(lambda *leaves: jnp.stack(leaves), *tables), jnp.asarray(cluster, jnp.int32))
        return Outcome(scored, (), work.flops, work.steps)

    def _model(self, name: str, k: Client, shared: Any) -> Any:
        return getattr(self.method, name)(k, shared) if hasattr(self.method, name) else None

    def _score(self, k: Client, w: Any, data: Data, at: Context, work: Work) -> Score:
        splits = SCORED if data.mix is not None else SCORED[:2]
        if w is None:
            nothing = jnp.full(len(splits), jnp.nan)
            return Score(nothing, nothing, nothing, nothing, nothing)
        scores = []
        for split in splits:
            rows = _rows(data, split, at, k.key, work, self.model, self.chunk)
            sums = rows.sum(lambda batch: score_rows(k.model.task, self._predicted(k, w, batch), batch))
            scores.append(Score(sums.rows, sums.correct, sums.loss, _balanced(sums), self._auc(k, w, rows)))
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *scores)

    def _predicted(self, k: Client, w: Any, batch: Batch) -> Array:
        predict = getattr(self.method, "predict", None)
        return predict(k, w, batch.x) if predict else k.model.apply(w, batch.x)

    def _auc(self, k: Client, w: Any, rows: Rows) -> Array:
        labels = k.model.outputs
        if k.model.task != "classification" or not (labels == 2 or (self.auc and labels > 2)):
            return jnp.float32(jnp.nan)
        out, y = rows.map(lambda batch: (self._predicted(k, w, batch), batch.y))
        if labels == 2:
            return area(out[:, 1] - out[:, 0], y, rows.n)
        each = jax.vmap(lambda c, p: area(p, y == c, rows.n))(jnp.arange(labels), jax.nn.log_softmax(out).T)
        y = jnp.where(jnp.arange(len(y)) < rows.n, y, -1)
        n = (y[:, None] == jnp.arange(labels)).sum(axis=0)
        told = (n > 0) & (n < rows.n)
        return jnp.where(told, each, 0).sum() / told.sum()  # of a single label 0 / 0: not a number


def area(margin: Array, y: Array, n: Array) -> Array:
    """Area under the ROC curve of the first `n` of margins [room] with labels y [room], 0 or 1: the chance that a row of label 1 has the larger margin than one
    of label 0, ties counting half. NaN without rows of both, and where a margin is not finite."""
    real = jnp.arange(len(margin)) < n
    ordered = jnp.sort(jnp.where(real, margin, jnp.inf))
    rank = (jnp.searchsorted(ordered, margin, side="left") + jnp.searchsorted(ordered, margin, side="right") + 1) / 2  # of equals the mean
    ones = real & (y == 1)
    positive, negative = ones.sum(), (real & ~ones).sum()
    found = (jnp.where(ones, rank, 0).sum() - positive * (positive + 1) / 2) / (positive * negative)
    return jnp.where((positive > 0) & (negative > 0) & (jnp.isfinite(margin) | ~real).all(), found, jnp.nan).astype(jnp.float32)


def _balanced(sums: Sums) -> Array:
    if not len(sums.of):
        return jnp.float32(jnp.nan)
    return jnp.sum(sums.right / jnp.maximum(sums.of, 1)) / jnp.sum(sums.of > 0)  # without rows 0 / 0: not a number


def score_rows(task: str, out: Array, batch: Batch) -> Sums:
    """Sums over the real rows of a batch. Regression: loss is the squared error and nothing is "correct"; sequences: every position is a row."""
    if task == "regression":
        error = jnp.square(out.reshape(batch.y.shape) - batch.y)
        return Sums(batch.mask.sum(), jnp.float32(jnp.nan), jnp.sum(error * batch.mask), jnp.zeros(0), jnp.zeros(0))
    hit = (out.argmax(axis=-1) == batch.y).astype(jnp.float32)
    finite = jnp.isfinite(out).all(axis=-1)
    hit = jnp.where(finite, hit, jnp.nan)  # a model that blew up has no accuracy, not the accuracy of class 0
    loss = row_losses(task, out, batch.y)
    if task == "sequence":
        length = batch.y.shape[1]
        hit, loss, rows = hit.sum(axis=-1), loss * length, batch.mask.sum() * length
    else:
        rows = batch.mask.sum()
    real = batch.mask > 0
    hit, right, of = jnp.where(real, hit, 0), jnp.zeros(0), jnp.zeros(0)
    if task == "classification":
        label = jax.nn.one_hot(batch.y, out.shape[-1]) * batch.mask[:, None]
        right, of = hit @ label, label.sum(axis=0)
    return Sums(rows, hit.sum(), jnp.where(real, loss, 0).sum(), right, of)


def for_any_rate(task: Any) -> tuple[Any, Any]:
    """(a Task or Evaluation that is the same for all learning rates, the rate to be given with its Context; None where the rate is compiled in).

    What is compiled for one rate then serves all: tuning and trying rates compile once.
    """
    rate = rate_of(task.owner)
    return (task, None) if rate is None else (task.of(the_same(at_rate(task.owner, 1.0))), np.float32(rate))


class Joined(NamedTuple):
    """Whether a client to be scored has joined before, and the key with which it would join."""

    yes: Any  # bool
    key_data: Any  # uint32


def is_stateful(method: Any, program: Callable[..., Any]) -> bool:
    return hasattr(method, "join") and not is_stateless(program)


def _arrays(reply: Any, where: str) -> Any:
    def array(path: Any, leaf: Any) -> Array:
        try:
            return jnp.asarray(leaf)
        except TypeError:
            raise AtollError(f"{where} replies with something that is no array: {jax.tree_util.keystr(path)} is a {type(leaf).__name__}.") from None

    return jax.tree_util.tree_map_with_path(array, reply)


def _like(old: Any, new: Any) -> Array:
    return jnp.asarray(new).astype(old.dtype)


def _same_structure(where: str, old: Any, new: Any) -> None:
    if jax.tree.structure(old) != jax.tree.structure(new):
        raise AtollError(f"{where} returns a private state of another form than `join` made: {jax.tree.structure(new)} instead of {jax.tree.structure(old)}.")
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(old), jax.tree.leaves(new), strict=True):
        if jnp.shape(a) != jnp.shape(b):
            at = jax.tree_util.keystr(path)
            raise AtollError(f"{where} returns a private state of another shape than `join` made: state{at} is {jnp.shape(b)} instead of {jnp.shape(a)}.")
