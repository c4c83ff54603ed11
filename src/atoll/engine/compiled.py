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
    """What all lanes of a job are given; arrays have a first axis [clients], filled up to whole lanes."""

    ids: Any  # int32, also their places in Data's tables
    budgets: Any  # float32
    mine: Any  # per-client messages, or None
    shared: Any
    round: Any  # int32
    key_data: Any  # uint32, of the key into which the round is folded
    common_data: Any  # uint32
    rate: Any = None  # float32, the method's learning rate where the program is compiled for any


class LaneResult(NamedTuple):
    """What a lane gives back."""

    total: Any  # running fold, or None
    singles: Any  # stacked replies [lane, ...] where the fold must see them, else None
    states: Any  # new private states [lane, ...]
    flops: Array  # float32 [lane]
    steps: Array  # int32 [lane]
    up: Array  # int32 scalar, bytes of one reply


Program = Callable[[Data, Context, Any, Any, Any, list[float]], Outcome]


def lane(program: Program, fold: Fold, size: int, together: int = 1) -> Callable[..., LaneResult]:
    """`run(data, cohort, states, first, count) -> LaneResult`, to be jitted: runs `count` <= `size` clients of the cohort from `first` on.

    states: the private states of these clients [size, ...], or (). The number of clients done is dynamic: nothing is computed for filling.
    Keys come as their data (uint32): with typed keys among its arguments JAX dispatches through Python and holds the interpreter's lock meanwhile.

    together: clients computed at once by vectorisation (for accelerators and tiny models; on a CPU one after another is faster).
    """

    def run(data: Data, cohort: Cohort, states: Any, first: Array, count: Array) -> LaneResult:
        key = jax.random.fold_in(jax.random.wrap_key_data(cohort.key_data), cohort.round)
        common = jax.random.wrap_key_data(cohort.common_data)

        sites: list[float] = []  # the program is traced twice, its loops are analysed once

        def client(j: Array) -> Outcome:
            i = first + j
            at = Context(cohort.ids[i], cohort.ids[i], cohort.round, key, cohort.budgets[i], common, cohort.rate)
            return program(data, at, cohort.shared, _pick(cohort.mine, i), _pick(states, j), sites)

        def one(j: Array, so_far: LaneResult) -> LaneResult:
            return _book(fold, so_far, j, client(j))

        def several(g: Array, so_far: LaneResult) -> LaneResult:
            j = g * together + jnp.arange(together)
            outcomes = jax.vmap(client)(jnp.minimum(j, count - 1))
            real = jnp.minimum(together, count - g * together)
            return jax.lax.fori_loop(0, real, lambda i, so: _book(fold, so, j[i], _pick(outcomes, i)), so_far)

        empty = _empty(fold, jax.eval_shape(client, jnp.int32(0)), size, states)
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
        if _form(total) != _form(after):
            raise AtollError(f"The fold {fold} changes the form of its running total from {total} to {after}.")
    else:
        total = None
    singles = None if fold.streamed else jax.tree.map(lambda s: jnp.zeros((size, *s.shape), s.dtype), out.reply)
    room = states if jax.tree.leaves(out.state) else out.state
    return LaneResult(total, singles, room, jnp.zeros(size, jnp.float32), jnp.zeros(size, jnp.int32), jnp.int32(nbytes(out.reply)))


def _form(tree: Any) -> Any:
    """Structure, shapes and types, to be compared: vectors themselves compare entry by entry."""
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


def _pick(tree: Any, j: Array) -> Any:
    return jax.tree.map(lambda leaf: leaf[j], tree)
