"""Compiles a client program into a *lane*: one function that runs some clients one after another and folds their replies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from atoll.core.errors import AtollError
from atoll.core.fold import Fold
from atoll.core.program import Context, Data, Outcome
from atoll.engine.device import nbytes


class Cohort(NamedTuple):
    """The clients of one lane; arrays have a first axis [lane], of which `count` entries are real."""

    ids: Any  # int32, also their places in Data's tables
    budgets: Any  # float32
    mine: Any  # per-client messages, or None
    states: Any  # private states, or ()


class LaneResult(NamedTuple):
    """What a lane gives back."""

    total: Any  # running fold, or None
    singles: Any  # stacked replies [lane, ...] where the fold must see them, else None
    states: Any  # new private states [lane, ...]
    flops: Array  # float32 [lane]
    steps: Array  # int32 [lane]
    up: Array  # int32 scalar, bytes of one reply


Program = Callable[[Data, Context, Any, Any, Any], Outcome]


def lane(program: Program, fold: Fold, together: int = 1) -> Callable[..., LaneResult]:
    """`run(data, cohort, count, shared, round, key_data, common_data) -> LaneResult`, to be jitted. The number of clients done is dynamic: nothing is padded.

    Keys come as their data (uint32): with typed keys among its arguments JAX dispatches through Python and holds the interpreter's lock meanwhile.

    together: clients computed at once by vectorisation (for accelerators and tiny models; on a CPU one after another is faster).
    """

    def run(data: Data, cohort: Cohort, count: Array, shared: Any, round: Array, key_data: Array, common_data: Array) -> LaneResult:
        key, common = jax.random.wrap_key_data(key_data), jax.random.wrap_key_data(common_data)

        def client(j: Array) -> Outcome:
            at = Context(cohort.ids[j], cohort.ids[j], round, key, cohort.budgets[j], common)
            return program(data, at, shared, _pick(cohort.mine, j), _pick(cohort.states, j))

        def one(j: Array, so_far: LaneResult) -> LaneResult:
            return _book(fold, so_far, j, client(j))

        def several(g: Array, so_far: LaneResult) -> LaneResult:
            j = g * together + jnp.arange(together)
            outcomes = jax.vmap(client)(jnp.minimum(j, count - 1))
            real = jnp.minimum(together, count - g * together)
            return jax.lax.fori_loop(0, real, lambda i, so: _book(fold, so, j[i], _pick(outcomes, i)), so_far)

        size = cohort.ids.shape[0]
        empty = _empty(fold, jax.eval_shape(client, jnp.int32(0)), size, cohort.states)
        if together > 1:
            return jax.lax.fori_loop(0, (count + together - 1) // together, several, empty)
        return jax.lax.fori_loop(0, count, one, empty)

    return run


def _book(fold: Fold, so_far: LaneResult, j: Array, out: Outcome) -> LaneResult:
    return LaneResult(
        fold.add(so_far.total, out.reply) if fold.streamed else None,
        None if fold.streamed else jax.tree.map(lambda all, one: all.at[j].set(one), so_far.singles, out.reply),
        jax.tree.map(lambda all, one: all.at[j].set(one), so_far.states, out.state),
        so_far.flops.at[j].set(out.flops),
        so_far.steps.at[j].set(out.steps),
        so_far.up,
    )


def _empty(fold: Fold, out: Outcome, size: int, states: Any) -> LaneResult:
    if fold.streamed:
        total = fold.start(out.reply)
        after = jax.eval_shape(fold.add, total, out.reply)
        if jax.tree.map(lambda a: (a.shape, a.dtype), total) != jax.tree.map(lambda a: (a.shape, a.dtype), after):
            raise AtollError(f"The fold {fold} changes the form of its running total from {total} to {after}.")
    else:
        total = None
    singles = None if fold.streamed else jax.tree.map(lambda s: jnp.zeros((size, *s.shape), s.dtype), out.reply)
    room = states if jax.tree.leaves(out.state) else out.state
    return LaneResult(total, singles, room, jnp.zeros(size, jnp.float32), jnp.zeros(size, jnp.int32), jnp.int32(nbytes(out.reply)))


def _pick(tree: Any, j: Array) -> Any:
    return jax.tree.map(lambda leaf: leaf[j], tree)
