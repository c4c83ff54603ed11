"""Local training that methods share: the losses of the tasks and mini-batch SGD with optional extra terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.model import BUFFERS, Model
from atoll.core.rows import Batch

Loss = Callable[[Client, Vector, Batch], tuple[Array, Vector]]  # -> (mean loss over real rows, w with the batch's buffers)


def row_losses(task: str, out: Array, y: Array) -> Array:
    """Loss of each row [batch]: cross-entropy for classification, its mean over positions for sequences, half the squared error for regression."""
    if task == "regression":
        return 0.5 * jnp.square(out.reshape(y.shape) - y)
    loss = optax.softmax_cross_entropy_with_integer_labels(out, y)
    return loss.mean(axis=-1) if task == "sequence" else loss


def masked_mean(values: Array, mask: Array) -> Array:
    """Mean of `values` [batch] over the rows whose mask is 1."""
    return jnp.sum(values * mask) / jnp.sum(mask)


def data_loss(k: Client, w: Vector, rows: Batch) -> tuple[Array, Vector]:
    """The task's loss of model `w` on a batch, in training mode."""
    out, w = k.model.train(w, rows.x, rows.mask, rows.key)
    return masked_mean(row_losses(k.model.task, out, rows.y), rows.mask), w


def gradient(k: Client, w: Vector, rows: Batch, loss: Loss = data_loss) -> tuple[Vector, Vector]:
    """(gradient of the loss in the parameters, w with the batch's buffers). The gradient of buffers is zero."""
    return jax.grad(lambda v: loss(k, v, rows), has_aux=True)(w)


def proximal(mu: Any, w: Vector, anchor: Vector, model: Any) -> Array:
    """mu/2 ||w - anchor||^2 over the parameters; buffers do not count."""
    difference = model.parameters(w) - model.parameters(anchor)
    return 0.5 * mu * (difference @ difference)


def with_proximal(loss: Loss, mu: Any, anchor: Vector) -> Loss:
    """`loss` plus mu/2 ||w - anchor||^2."""

    def total(k: Client, w: Vector, rows: Batch) -> tuple[Array, Vector]:
        value, buffered = loss(k, w, rows)
        return value + proximal(mu, w, anchor, k.model), buffered

    return total


def step(k: Client, w: Vector, direction: Vector, buffered: Vector, lr: Any) -> Vector:
    """w - lr * direction on the parameters, with the buffers of `buffered`."""
    return stepped(k.model, w, direction, buffered, lr)


def stepped(model: Model, w: Vector, direction: Vector, buffered: Vector, lr: Any) -> Vector:
    """As `step`, where there is no client."""
    if "buffers" not in w.tree:
        return w - lr * direction
    moved = model.parameters(w) - lr * model.parameters(direction)
    return Vector({**moved.tree, "buffers": buffered.tree["buffers"]})


def descend(k: Client, optimizer: Any, carry: Any, rows: Batch, loss: Loss = data_loss) -> Any:
    """One step of an optimizer of optax on a batch; carry = (w, its state). Buffers follow the batch."""
    w, moments = carry
    g, buffered = gradient(k, w, rows, loss)
    u, moments = optimizer.update(g, moments, w)
    return step(k, w, u, buffered, -1.0), moments


def sgd(
    k: Client,
    w: Vector,
    lr: Any,
    *,
    batch: int,
    epochs: float = 1,
    steps: Any = None,
    loss: Loss = data_loss,
    correction: Vector | None = None,
    key: Array | None = None,
    until: Callable[[Vector], Array] | None = None,
) -> tuple[Vector, Array]:
    """Local SGD from `w`: w <- w - lr (g(w) + correction) over shuffled mini-batches; returns (w, number of steps K, int32).

    batch: rows per step; 0 = the whole of the client's rows (one exact gradient step per epoch). epochs, steps, key, until: as in Rows.fold.
    `correction` (of the parameters) is added to every gradient (SCAFFOLD's c - c_i). Buffers follow the batches; they are never stepped or corrected.
    """

    def corrected(g: Vector) -> Vector:
        return g if correction is None else k.model.parameters(g) + correction

    def one(w: Vector, rows: Batch) -> Vector:
        g, buffered = gradient(k, w, rows, loss)
        return step(k, w, corrected(g), buffered, lr)

    if batch:
        return k.fold(one, w, batch=batch, epochs=epochs, steps=steps, key=key, until=until)

    def full(_: Array, w: Vector) -> Vector:
        g, buffered = full_gradient(k, w, loss)
        return step(k, w, corrected(g), buffered, lr)

    return k.repeat(full, w, epochs if steps is None else steps, until=until)


def sgd_part(k: Client, free: Vector, fixed: Vector, lr: Any, *, batch: int, epochs: float = 1, loss: Loss = data_loss, key: Array | None = None) -> Vector:
    """The blocks `free` of a model after SGD as in `sgd`, while its other blocks `fixed` are held still: parameters and buffers."""
    mine = tuple(block for block in free.tree if block != BUFFERS)

    def whole(k: Client, free: Vector, rows: Batch) -> tuple[Array, Vector]:
        value, buffered = loss(k, k.model.join(fixed, free), rows)
        return value, k.model.split(buffered, mine)[1]

    return sgd(k, free, lr, batch=batch, epochs=epochs, loss=whole, key=key)[0]


def full_gradient(k: Client, w: Vector, loss: Loss = data_loss) -> tuple[Vector, Vector]:
    """Gradient over all of the client's train rows, and w with buffers averaged over the passes."""
    return k.mean(lambda rows: gradient(k, w, rows, loss))


def fine_tune(k: Client, w: Vector, lr: Any, *, what: str, batch: int, epochs: float = 1, steps: Any = None, key: Array | None = None) -> Vector:
    """`w` after SGD on k's train rows. what: "all" of it moves, or its last block alone ("head") on the features of the rest as it predicts.

    The other numbers are as in `sgd`. With "head" the rest's BatchNorm statistics stay, and nothing is dropped out.
    """
    if what == "all":
        return sgd(k, w, lr, epochs=epochs, batch=batch, steps=steps, key=key)[0]
    base, head = k.model.split(w, 1)

    def loss(k: Client, head: Vector, rows: Batch) -> tuple[Array, Vector]:
        out = k.model.apply(k.model.join(base, head), rows.x)
        return masked_mean(row_losses(k.model.task, out, rows.y), rows.mask), head

    head, _ = sgd(k, head, lr, epochs=epochs, batch=batch, steps=steps, key=key, loss=loss)
    return k.model.join(base, head)
