"""Aligning domains: moments of features, and CORAL, which makes the covariances of two domains alike.

Sun, Feng, Saenko, "Return of Frustratingly Easy Domain Adaptation", AAAI 2016 (the closed form); Sun, Saenko, "Deep CORAL", ECCV workshops 2016 (the loss).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.local import masked_mean, row_losses, sgd
from atoll.core.method import label
from atoll.core.model import Model
from atoll.core.rows import Batch


class Moments(NamedTuple):
    """Mean and covariance of some rows; a reply, for the fold `pooled`."""

    mean: Array  # [d]
    covariance: Array  # [d, d], divided by n - 1; zero for fewer than two rows
    weight: Array  # n, float32

    @classmethod
    def none(cls, d: int) -> Moments:
        """Those of no rows."""
        return cls(jnp.zeros(d), jnp.zeros((d, d)), jnp.float32(0))


@dataclass(frozen=True)
class Pooled:
    """Moments of all rows in one place, from the moments of parts: within the parts and between their means (Chan, Golub, LeVeque, 1983)."""

    streamed: ClassVar[bool] = True
    linear: ClassVar[bool] = False

    def start(self, reply: Any) -> Moments:
        return Moments.none(reply.mean.shape[0])

    def add(self, total: Moments, reply: Moments) -> Moments:
        return self.merge(total, reply)

    def merge(self, left: Moments, right: Moments) -> Moments:
        n = left.weight + right.weight
        share = right.weight / jnp.maximum(n, 1)
        apart = right.mean - left.mean
        within = _scatter(left) + _scatter(right)
        between = left.weight * share * jnp.outer(apart, apart)
        return Moments(left.mean + share * apart, (within + between) / jnp.maximum(n - 1, 1), n)

    def finish(self, total: Moments) -> Moments:
        return total


pooled = Pooled()


def _scatter(m: Moments) -> Array:
    return jnp.maximum(m.weight - 1, 0) * m.covariance


def moments(k: Client, features: Callable[[Batch], Array]) -> Moments:
    """Of `features(batch)` [batch, ..., d] over k's train rows, in two passes: first the mean, then the covariance around it."""

    def total(rows: Batch) -> tuple[Array, Array]:
        z, mask = _points(features(rows), rows.mask)
        return mask @ z, mask.sum()

    z, n = k.train.sum(total)
    mean = z / jnp.maximum(n, 1)

    def around(rows: Batch) -> Array:
        z, mask = _points(features(rows), rows.mask)
        return _outer(z - mean, mask)

    return Moments(mean, k.train.sum(around) / jnp.maximum(n - 1, 1), n)


def feature_size(model: Model, w: Vector) -> int:
    """d, the number of values of a feature (the input of the last block)."""
    return feature_shape(model, w)[-1]


def feature_shape(model: Model, w: Vector) -> tuple[int, ...]:
    """Shape of one row's input of the last block. Models of texts take tokens and refuse numbers, whatever their task."""

    def of(kind: Any) -> tuple[int, ...]:
        return jax.eval_shape(model.features, w, jax.ShapeDtypeStruct((1, *model.input_shape), kind)).shape[1:]

    if model.task == "sequence":
        return of(jnp.int32)
    try:
        return of(jnp.float32)
    except ValueError:
        return of(jnp.int32)


def covariance(z: Array, mask: Array) -> Array:
    """[d, d] of features z [batch, ..., d] over the rows whose mask is 1, divided by their number less one; zero for fewer than two."""
    z, mask = _points(z, mask)
    n = mask.sum()
    return _outer(z - mask @ z / jnp.maximum(n, 1), mask) / jnp.maximum(n - 1, 1)


def _points(z: Array, mask: Array) -> tuple[Array, Array]:
    """Features [points, d] and mask [points]: every position of a sequence is a point."""
    positions = z.size // (z.shape[0] * z.shape[-1])
    return z.reshape(-1, z.shape[-1]), jnp.repeat(mask, positions)


def _outer(z: Array, mask: Array) -> Array:
    return (z * mask[:, None]).T @ z


def coral_loss(C_S: Array, C_T: Array) -> Array:  # noqa: N803 - the paper's letters
    """||C_S - C_T||_F^2 / (4 d^2) of two covariances [d, d]."""
    return jnp.sum(jnp.square(C_S - C_T)) / (4 * C_S.shape[0] ** 2)


def alignment(C_S: Array, C_T: Array, ridge: float = 0.0) -> Array:  # noqa: N803
    """A = C_S^{-1/2} C_T^{1/2} [d, d]: source features z @ A have the target's covariance. `ridge` is added to both diagonals (CORAL's paper adds 1);
    without it C_S must have full rank."""
    eye = ridge * jnp.eye(C_S.shape[0])
    return _power(C_S + eye, -0.5) @ _power(C_T + eye, 0.5)


def _power(C: Array, exponent: float) -> Array:  # noqa: N803
    """Of a symmetric matrix without negative eigenvalues; those that rounding made negative count as 0."""
    values, vectors = jnp.linalg.eigh(C)
    return (vectors * jnp.maximum(values, 0) ** exponent) @ vectors.T


def check_upper(method: Any, model: Model) -> None:
    """AtollError where the blocks that `method.upper` leaves free are none, or where no feature depends on them."""
    free = model.personal_blocks(method.upper)
    where = f"{label(method)}(upper={method.upper!r}) on model {model.name!r}"
    if not free:
        raise AtollError(f"{where} leaves no block to train. Its blocks: {', '.join(model.blocks)}.")
    if method.eta > 0 and free == model.blocks[-1:]:
        hint = "Take a larger upper" if len(model.blocks) > 1 else "Take a model with a hidden layer (mlp)"
        raise AtollError(f"{where} aligns the input of the last block, which nothing that is trained can change: {hint}, or eta=0.")


def adapted(k: Client, w: Vector, source: Moments, *, upper: Any, eta: float, lr: float, epochs: int, batch: int) -> Vector:
    """`w` with its `upper` blocks trained on k's rows by SGD on the task's loss + eta * CORAL between the source's features and those of the batch.

    Features are the input of the last block. All other blocks stay as they are, buffers too. Where the source or a batch has fewer than two rows there is
    nothing to align.
    """
    lower, free = k.model.split(w, upper)

    def loss(k: Client, free: Vector, rows: Batch) -> tuple[Array, Vector]:
        z, buffered = k.model.train_features(k.model.join(lower, free), rows.x, rows.mask, rows.key)
        out = k.model.head(k.model.join(lower, free), z)
        known = (source.weight > 1) & (rows.mask.sum() > 1)
        align = jnp.where(known, eta * coral_loss(source.covariance, covariance(z, rows.mask)), 0)
        value = masked_mean(row_losses(k.model.task, out, rows.y), rows.mask) + align
        return value, _free(k.model, free, buffered)

    free, _ = sgd(k, free, lr, epochs=epochs, batch=batch, loss=loss)
    return k.model.join(lower, free)


def _free(model: Model, free: Vector, buffered: Vector) -> Vector:
    """`free` with its buffers from `buffered`."""
    if "buffers" not in free.tree:
        return free
    return Vector({**free.tree, "buffers": {block: buffered.tree["buffers"][block] for block in free.tree["buffers"]}})
