"""Linear models as one vector per label, for methods that need them: rows with a 1 for the bias, labels as signs, weights back and forth."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.errors import AtollError
from atoll.core.model import Model
from atoll.core.norm import shapes


def check_linear(who: str, model: Model) -> None:
    """AtollError where outputs are not x @ kernel + bias (the bias may be missing) of one block."""
    head = shapes(model).tree.get(model.blocks[0], {})
    ok = len(shapes(model).tree) == 1 and isinstance(head, dict) and set(head) in ({"kernel", "bias"}, {"kernel"})
    if ok and head["kernel"].shape == (int(np.prod(model.input_shape)), model.outputs):
        random = np.random.default_rng(0)
        w = jax.tree.map(lambda s: jnp.asarray(random.normal(size=s.shape), jnp.float32), shapes(model)).tree[model.blocks[0]]
        x = jnp.asarray(random.normal(size=(2, *model.input_shape)), jnp.float32)
        plain = x.reshape(2, -1) @ w["kernel"] + w.get("bias", 0.0)
        if np.allclose(model.apply(Vector({model.blocks[0]: w}), x), plain, rtol=1e-3, atol=1e-3):
            return
    raise AtollError(f"{who} needs a linear model: what it proves and solves holds for x @ w alone, and model {model.name!r} is another. Take --model softmax.")


def columns(model: Model) -> tuple[int, int]:
    """(vectors, their length): two labels need one vector, L > 2 one each; with a bias a vector is one longer than a row."""
    return (1 if model.outputs == 2 else model.outputs), int(np.prod(model.input_shape)) + _bias(model)


def lifted(model: Model, x: Array) -> Array:
    """Rows x [batch, ...] as [batch, length]: flat, and with a 1 where the model has a bias."""
    x = x.reshape(len(x), -1)
    return jnp.concatenate([x, jnp.ones((len(x), 1))], axis=1) if _bias(model) else x


def signs(model: Model, y: Array) -> Array:
    """Labels y [batch] as [batch, vectors]: 1 for the vector's own label, -1 for the others. A single vector is that of label 1."""
    own = jax.nn.one_hot(y, model.outputs)
    return 2 * (own[:, 1:] if model.outputs == 2 else own) - 1


def as_model(model: Model, w: Array) -> Vector:
    """The model whose outputs are x @ w' for w [vectors, length]; for two labels they differ by that."""
    both = jnp.concatenate([-w, w]) / 2 if model.outputs == 2 else w
    parts = {"kernel": both[:, :-1].T, "bias": both[:, -1]} if _bias(model) else {"kernel": both.T}
    return Vector({model.blocks[0]: parts})


def _bias(model: Model) -> bool:
    return "bias" in shapes(model).tree[model.blocks[0]]
