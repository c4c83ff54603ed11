"""How much each parameter matters: the diagonal of the empirical Fisher information."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.local import row_losses
from atoll.core.rows import Batch


def importance(k: Client, w: Vector) -> Vector:
    """Mean over k's train rows of the squared gradient of each row's loss in the parameters, in evaluation mode.

    Of single rows: the square of a batch's mean gradient would be smaller by about the size of the batch.
    """

    def of_row(x: Array, y: Array) -> Vector:
        g = k.model.parameters(jax.grad(lambda w: row_losses(k.model.task, k.model.apply(w, x[None]), y[None])[0])(w))
        return g * g

    def of_batch(rows: Batch) -> Vector:
        return jax.tree.map(lambda leaf: jnp.tensordot(rows.mask, leaf, 1) / rows.mask.sum(), jax.vmap(of_row)(rows.x, rows.y))

    return k.mean(of_batch)
