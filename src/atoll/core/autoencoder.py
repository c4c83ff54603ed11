"""A denoising autoencoder of rows: short codes from which the rows, some of whose values were hidden, can be made again."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.local import masked_mean
from atoll.core.rows import Batch

HALVES = ("encoder", "decoder")


def fresh(key: Array, values: int, hidden: int, code: int) -> Vector:
    """values -> hidden -> code -> hidden -> values; ReLU at the hidden units, nothing at the code. Weights as by He et al., no biases at first."""
    sizes = {"encoder": (values, hidden, code), "decoder": (code, hidden, values)}
    draw = jax.nn.initializers.he_normal()
    keys = jax.random.split(key, (2, 2))
    return Vector({half: [_layer(draw, keys[n, m], *sizes[half][m : m + 2]) for m in range(2)] for n, half in enumerate(HALVES)})


def codes(w: Vector, x: Array) -> Array:
    """[batch, code] of rows x [batch, ...]."""
    if jnp.issubdtype(x.dtype, jnp.integer):
        raise AtollError("An autoencoder makes codes of numbers, and these rows are tokens. Use a source whose rows are numbers.")
    return _half(w.tree["encoder"], x.reshape(len(x), -1))


def denoise(k: Client, w: Vector, lr: float, *, batch: int, epochs: int, hidden: float) -> Vector:
    """w after epochs of Adam at a client: each value is hidden (set to 0) with probability `hidden`, and the squared error is that of the whole row."""
    adam: Any = optax.adam(lr)

    def error(w: Vector, rows: Batch) -> Array:
        x = rows.x.reshape(len(rows.x), -1)
        seen = jax.random.bernoulli(rows.key, 1 - hidden, x.shape)
        again = _half(w.tree["decoder"], codes(w, jnp.where(seen, x, 0)))
        return masked_mean(jnp.square(again - x).mean(axis=1), rows.mask)

    def step(carry: Any, rows: Batch) -> Any:
        w, moments = carry
        u, moments = adam.update(jax.grad(error)(w, rows), moments, w)
        return w + u, moments

    (w, _), _ = k.fold(step, (w, adam.init(w)), batch=batch, epochs=epochs)
    return w


def _layer(draw: Any, key: Array, inputs: int, outputs: int) -> dict[str, Array]:
    return {"kernel": draw(key, (inputs, outputs)), "bias": jnp.zeros(outputs)}


def _half(layers: Any, x: Array) -> Array:
    first, last = layers
    return jax.nn.relu(x @ first["kernel"] + first["bias"]) @ last["kernel"] + last["bias"]
