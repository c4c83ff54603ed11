"""Recurrent character models: embedding, GRU or LSTM layers, one dense layer at every position (or at the last one, for classification).

For texts that are there as a whole, an LSTM that reads them in both directions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from atoll.core.errors import AtollError
from atoll.core.model import Model
from atoll.models.zoo import as_model, refuse_sequence, whole


class Recurrent(nnx.Module):
    """One recurrent layer over [batch, T, inputs], from a zero state. The input's share of all gates is one product for all positions."""

    def __init__(self, inputs: int, hidden: int, gates: int, *, rngs: nnx.Rngs):
        self.hidden = hidden
        self.input = nnx.Param(nnx.initializers.glorot_uniform()(rngs.params(), (inputs, gates * hidden)))
        square = nnx.initializers.orthogonal()
        self.recurrent = nnx.Param(jnp.concatenate([square(rngs.params(), (hidden, hidden)) for _ in range(gates)], axis=1))
        self.bias = nnx.Param(jnp.zeros(gates * hidden))

    def _over_time(self, x: Array, step: Callable[[Any, Array], tuple[Any, Array]], start: Any) -> Array:
        """Scans `step(state, gates)`, gates [batch, gates * hidden], over positions; the outputs [batch, T, hidden]."""
        gates = x @ self.input[...] + self.bias[...]
        return lax.scan(step, start, gates.swapaxes(0, 1))[1].swapaxes(0, 1)


class Gru(Recurrent):
    """Gated recurrent unit with the reset gate after the product (as in cuDNN): gates reset, update, new, and a bias inside the reset."""

    def __init__(self, inputs: int, hidden: int, *, rngs: nnx.Rngs):
        super().__init__(inputs, hidden, 3, rngs=rngs)
        self.inner = nnx.Param(jnp.zeros(hidden))

    def __call__(self, x: Array) -> Array:
        recurrent, inner = self.recurrent[...], self.inner[...]

        def step(h: Array, gates: Array) -> tuple[Array, Array]:
            r, z, n = jnp.split(gates, 3, axis=-1)
            hr, hz, hn = jnp.split(h @ recurrent, 3, axis=-1)
            z = jax.nn.sigmoid(z + hz)
            h = z * h + (1 - z) * jnp.tanh(n + jax.nn.sigmoid(r + hr) * (hn + inner))
            return h, h

        return self._over_time(x, step, jnp.zeros((x.shape[0], self.hidden)))


class Lstm(Recurrent):
    """Long short-term memory: gates input, forget, new, output. The forget gate starts at bias 1 (Jozefowicz et al., ICML 2015)."""

    def __init__(self, inputs: int, hidden: int, *, rngs: nnx.Rngs):
        super().__init__(inputs, hidden, 4, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(4 * hidden).at[hidden : 2 * hidden].set(1))

    def __call__(self, x: Array) -> Array:
        recurrent = self.recurrent[...]

        def step(state: tuple[Array, Array], gates: Array) -> tuple[tuple[Array, Array], Array]:
            h, c = state
            i, f, g, o = jnp.split(gates + h @ recurrent, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((x.shape[0], self.hidden))
        return self._over_time(x, step, (zero, zero))


class CharacterModel(nnx.Module):
    """Blocks embedding, layer1, ..., head."""

    def __init__(self, cell: type, vocabulary: int, outputs: int, sizes: tuple[int, int, int], every: bool, *, rngs: nnx.Rngs):
        embedding, hidden, self.depth = sizes
        self.every = every
        self.embedding = nnx.Embed(vocabulary, embedding, rngs=rngs)
        inputs = embedding
        for i in range(1, self.depth + 1):
            setattr(self, f"layer{i}", cell(inputs, hidden, rngs=rngs))
            inputs = hidden
        self.head = nnx.Linear(hidden, outputs, rngs=rngs)

    def features(self, x: Array) -> Array:
        h = self.embedding(x)  # [batch, T, embedding]
        for i in range(1, self.depth + 1):
            h = getattr(self, f"layer{i}")(h)
        return h if self.every else h[:, -1]

    def __call__(self, x: Array) -> Array:
        return self.head(self.features(x))


class BiLstm(nnx.Module):
    """Two LSTM layers side by side, one of which reads from the end: [batch, T, inputs] -> [batch, T, 2 hidden]."""

    def __init__(self, inputs: int, hidden: int, *, rngs: nnx.Rngs):
        self.onward = Lstm(inputs, hidden, rngs=rngs)
        self.backward = Lstm(inputs, hidden, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return jnp.concatenate([self.onward(x), self.backward(x[:, ::-1])[:, ::-1]], axis=-1)


class TextModel(nnx.Module):
    """Blocks embedding, layer1, ..., head: one output per text. Features are the mean over its characters; token 0 fills up short texts and is none."""

    def __init__(self, vocabulary: int, outputs: int, sizes: tuple[int, int, int], *, rngs: nnx.Rngs):
        embedding, hidden, self.depth = sizes
        self.embedding = nnx.Embed(vocabulary, embedding, rngs=rngs)
        inputs = embedding
        for i in range(1, self.depth + 1):
            setattr(self, f"layer{i}", BiLstm(inputs, hidden, rngs=rngs))
            inputs = 2 * hidden
        self.head = nnx.Linear(inputs, outputs, rngs=rngs)

    def features(self, x: Array) -> Array:
        h = self.embedding(x)
        for i in range(1, self.depth + 1):
            h = getattr(self, f"layer{i}")(h)
        there = (x != 0).astype(h.dtype)[..., None]
        return (h * there).sum(axis=1) / jnp.maximum(there.sum(axis=1), 1)

    def __call__(self, x: Array) -> Array:
        return self.head(self.features(x))


def gru(input_shape: Sequence[int], outputs: int, task: str, *, hidden: int = 100, layers: int = 1, embedding: int = 8, vocabulary: int = 0) -> Model:
    """Character model with GRU layers. `vocabulary` (number of tokens) defaults to `outputs` for next-character tasks."""
    return _characters("gru", Gru, input_shape, outputs, task, (embedding, hidden, layers), vocabulary)


def lstm(input_shape: Sequence[int], outputs: int, task: str, *, hidden: int = 100, layers: int = 2, embedding: int = 8, vocabulary: int = 0) -> Model:
    """Character model with LSTM layers, by default the two of Li et al. (FedProx, MLSys 2020); otherwise as gru."""
    return _characters("lstm", Lstm, input_shape, outputs, task, (embedding, hidden, layers), vocabulary)


def bilstm(input_shape: Sequence[int], outputs: int, task: str, *, hidden: int = 50, layers: int = 1, embedding: int = 8, vocabulary: int = 0) -> Model:
    """Classifier of texts with LSTM layers in both directions. `vocabulary` is the number of tokens; token 0 fills up short texts."""
    refuse_sequence("bilstm", task)
    sizes = (embedding, hidden, layers)
    tokens = _checked("bilstm", input_shape, task, sizes, vocabulary, outputs)
    return as_model("bilstm", lambda rngs: TextModel(tokens, outputs, sizes, rngs=rngs), input_shape, outputs, task)


def _characters(name: str, cell: type, input_shape: Sequence[int], outputs: int, task: str, sizes: tuple[int, int, int], vocabulary: int) -> Model:
    tokens, every = _checked(name, input_shape, task, sizes, vocabulary, outputs), task == "sequence"
    return as_model(name, lambda rngs: CharacterModel(cell, tokens, outputs, sizes, every, rngs=rngs), input_shape, outputs, task)


def _checked(name: str, input_shape: Sequence[int], task: str, sizes: tuple[int, int, int], vocabulary: int, outputs: int) -> int:
    """The number of tokens."""
    if len(input_shape) != 1:
        raise AtollError(f"{name} takes rows of tokens [T], not rows of shape {'x'.join(map(str, input_shape))}.")
    for option, value in zip(("embedding", "hidden", "layers"), sizes, strict=True):
        if not whole(value):
            raise AtollError(f"{name}: {option} is a positive whole number, not {value!r}.")
    if task != "sequence" and not vocabulary:
        raise AtollError(f"{name}: for {task} say how many different tokens there are, as in {name}:vocabulary=90.")
    tokens = vocabulary or outputs
    if not whole(tokens):
        raise AtollError(f"{name}: vocabulary is the number of different tokens, not {vocabulary!r}.")
    return tokens
