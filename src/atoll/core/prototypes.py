"""Prototypes: the mean feature of every label."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.fold import Sum
from atoll.core.method import label
from atoll.core.model import Model
from atoll.core.rows import Batch


class Prototypes(NamedTuple):
    C: Array  # [L, d] mean feature of each label
    n: Array  # [L] float32, rows it is the mean of; 0 = no such label has been seen

    @classmethod
    def none(cls, labels: int, d: int) -> Prototypes:
        return cls(jnp.zeros((labels, d)), jnp.zeros(labels))

    def renewed(self, by: Prototypes) -> Prototypes:
        """These, with those of `by` in their place where it has some."""
        there = by.n > 0
        return Prototypes(jnp.where(there[:, None], by.C, self.C), jnp.where(there, by.n, self.n))


def prototypes(k: Client, w: Vector) -> Prototypes:
    """Of k's train rows under `w`, in evaluation mode."""

    def sums(rows: Batch) -> tuple[Array, Array]:
        own = jax.nn.one_hot(rows.y, k.outputs) * rows.mask[:, None]
        return own.T @ k.model.features(w, rows.x), own.sum(axis=0)

    total, n = k.train.sum(sums)
    return Prototypes(total / jnp.maximum(n, 1)[:, None], n)


def _of(reply: Any) -> tuple[Array, Array]:
    return reply.n[:, None] * reply.C, reply.n


class _Pooled(Sum):
    """Prototypes of all replies' rows together."""

    def finish(self, total: Any) -> Prototypes:
        C, n = total  # noqa: N806
        return Prototypes(C / jnp.maximum(n, 1)[:, None], n)


pooled = _Pooled(_of)


def distance(z: Array, y: Array, p: Prototypes) -> Array:
    """[batch] mean over d of (z - C_y)^2, and 0 where there is no prototype of the row's label."""
    return jnp.where(p.n[y] > 0, jnp.square(z - p.C[y]).mean(axis=-1), 0)


def check_features(method: Any, model: Model) -> None:
    """AtollError for models without labels, or without features that can be trained."""
    if model.task != "classification":
        raise AtollError(f"{label(method)} needs labels, and model {model.name!r} is for {model.task}. It works for classification only.")
    if len(model.blocks) < 2:
        hint = "Take one with a hidden layer (mlp)."
        raise AtollError(f"{label(method)} compares features, and model {model.name!r} has none: its one layer is its output. {hint}")
