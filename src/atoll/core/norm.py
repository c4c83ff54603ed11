"""BatchNorm layers: their part of a model, and their statistics over a client's own rows."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.model import BUFFERS, Model
from atoll.core.rows import Batch

LINEN = "batch_stats"  # where flax.linen keeps the statistics of a block


def split_norm(w: Vector) -> tuple[Vector, Vector]:
    """(the rest, BatchNorm layers): parameters that lie beside running statistics go with these, wherever in a block and whatever their names.

    Layers without statistics (LayerNorm, GroupNorm) belong to the rest.
    """
    buffers = w.tree.get(BUFFERS, {})
    rest, norm = {}, {}
    for block, part in w.tree.items():
        if block != BUFFERS:
            statistics = buffers.get(block, {})
            others, mine = _split(part, [statistics, statistics.get(LINEN, {})])
            rest |= {block: others} if others else {}
            norm |= {block: mine} if mine else {}
    return Vector(rest), Vector({**norm, BUFFERS: buffers} if buffers else norm)


def join_norm(rest: Vector, norm: Vector) -> Vector:
    """The inverse of `split_norm`."""
    return Vector(_join(rest.tree, norm.tree))


def _split(part: Any, statistics: list[Any]) -> tuple[Any, Any]:
    """(rest, norm) of a block's parameters; `statistics` are trees in which those of a layer stand where its parameters do."""
    if not isinstance(part, dict):
        return part, None
    here = any(not isinstance(leaf, dict) for tree in statistics for leaf in tree.values())
    rest, norm = {}, {}
    for name, inner in part.items():
        if not isinstance(inner, dict):
            (norm if here else rest)[name] = inner
            continue
        others, mine = _split(inner, [tree[name] for tree in statistics if isinstance(tree.get(name), dict)])
        rest |= {name: others} if others else {}
        norm |= {name: mine} if mine else {}
    return rest, norm


def _join(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    return {**a, **{name: _join(a[name], part) if name in a else part for name, part in b.items()}}


def shapes(model: Model) -> Vector:
    """The shapes of a model's weights."""
    return jax.eval_shape(model.init, jax.random.key(0))


def blank_buffers(model: Model) -> dict[str, Any]:
    """{"buffers": zeros} for a model with buffers, else {}."""
    buffers = shapes(model).tree.get(BUFFERS)
    return {} if buffers is None else {BUFFERS: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), buffers)}


def with_own_statistics(k: Client, model: Model, w: Vector) -> Vector:
    """w with BatchNorm statistics of the client's train rows: means, and variances within batches and between their means, weighted by rows.

    A buffer follows a batch with statistic s as b <- g b + (1 - g) s. Passing the same batch twice from b = 0 gives b1 = (1 - g) s and
    b2 = (1 + g) b1, so s = b1^2 / (2 b1 - b2) whatever the model's momentum g.
    """
    blank = blank_buffers(model)

    def follow(rows: Batch, buffers: dict[str, Any]) -> dict[str, Any]:
        return {BUFFERS: model.train(Vector({**w.tree, **buffers}), rows.x, rows.mask, rows.key)[1].tree[BUFFERS]}

    def statistic(rows: Batch) -> dict[str, Any]:
        first = follow(rows, blank)
        return jax.tree.map(lambda b1, b2: b1 * jnp.where(b1 == 0, 0, b1 / (2 * b1 - b2)), first, follow(rows, first))

    if not blank:
        return w
    within = k.mean(statistic)
    between = k.mean(lambda rows: _apart(statistic(rows), within))
    return Vector({**w.tree, **jax.tree.map(jnp.add, within, between)})


def _apart(batch: Any, all: Any) -> Any:
    """What the distance of a batch's means from those of all batches adds to the statistics: to variances its square, to others nothing."""
    if not isinstance(batch, dict):
        return jnp.zeros_like(batch)
    parts = {name: _apart(part, all[name]) for name, part in batch.items()}
    return {**parts, "var": jnp.square(batch["mean"] - all["mean"])} if {"mean", "var"} <= set(batch) else parts
