"""The plain models, and what all modules of the zoo share.

A zoo model is a flax.nnx module with a method `features` (everything below the last block) and a last block `head`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from flax import nnx
from jax import Array

from atoll.core.errors import AtollError, unknown
from atoll.core.model import Model
from atoll.models.dense import dense
from atoll.models.nnx_network import NnxNetwork

Make = Callable[[nnx.Rngs], nnx.Module]


def as_model(
    name: str,
    make: Make,
    input_shape: Sequence[int],
    outputs: int,
    task: str,
    narrower: Callable[[float], Model] | None = None,
    first: Callable[[str], bool] | None = None,
) -> Model:
    """A zoo module as a model. first: whether a block is the first of several that belong together; by default each stands for itself."""
    network = NnxNetwork(make, name)
    firsts = () if first is None else tuple(filter(first, network.blocks))
    return Model(name, network.blocks, outputs, tuple(input_shape), task, network, narrower, firsts)


class Softmax(nnx.Module):
    """One linear layer on the flattened input."""

    def __init__(self, inputs: int, outputs: int, bias: bool, *, rngs: nnx.Rngs):
        self.head = dense(inputs, outputs, bias=bias, rngs=rngs)

    def features(self, x: Array) -> Array:
        return x.reshape(x.shape[0], -1)

    def __call__(self, x: Array) -> Array:
        return self.head(self.features(x))


def softmax(input_shape: Sequence[int], outputs: int, task: str, *, bias: bool = True) -> Model:
    """Softmax regression, or linear regression for regression tasks."""
    refuse_sequence("softmax", task)
    if not isinstance(bias, bool):
        raise AtollError(f"softmax: bias is true or false, not {bias!r}.")
    return as_model("softmax", lambda rngs: Softmax(size(input_shape), outputs, bias, rngs=rngs), input_shape, outputs, task)


class Scaler(nnx.Module):
    """Divides by the width rate in training only, so that narrow and full models train on activations of the same size.

    Paper: HeteroFL (Diao, Ding, Tarokh, ICLR 2021).
    """

    def __init__(self, rate: float):
        self.rate = rate
        self.deterministic = False  # set by nnx's train() and eval()

    def __call__(self, x: Array) -> Array:
        return x if self.deterministic or self.rate == 1 else x / self.rate


class Mlp(nnx.Module):
    """Dense layers with ReLU: blocks dense1, dense2, ..., head; with `norm` a BatchNorm before each ReLU: dense1, norm1, dense2, norm2, ..., head."""

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, rate: float, norm: bool, *, rngs: nnx.Rngs):
        self.depth, self.norm = len(hidden), norm
        self.scale = Scaler(rate)
        for i, width in enumerate(hidden, start=1):
            setattr(self, f"dense{i}", dense(inputs, width, rngs=rngs))
            if norm:
                setattr(self, f"norm{i}", nnx.BatchNorm(width, momentum=0.9, rngs=rngs))
            inputs = width
        self.head = dense(inputs, outputs, rngs=rngs)

    def features(self, x: Array) -> Array:
        x = x.reshape(x.shape[0], -1)
        for i in range(1, self.depth + 1):
            x = self.scale(getattr(self, f"dense{i}")(x))
            x = nnx.relu(getattr(self, f"norm{i}")(x) if self.norm else x)
        return x

    def __call__(self, x: Array) -> Array:
        return self.head(self.features(x))


def mlp(input_shape: Sequence[int], outputs: int, task: str, *, hidden: int | Sequence[int] = (200,), rate: float = 1.0, norm: str = "none") -> Model:
    """Multi-layer perceptron with ReLU. `rate` multiplies the hidden widths (rounded up) for HeteroFL; norm "batch" puts BatchNorm layers between."""
    refuse_sequence("mlp", task)
    widths = tuple(hidden) if isinstance(hidden, Sequence) else (hidden,)
    if not all(whole(width) for width in widths):
        raise AtollError(f"mlp: hidden sizes are positive whole numbers, as in mlp:200,100, not {', '.join(map(str, widths))}.")
    if norm not in ("none", "batch"):
        raise unknown("norm of mlp", str(norm), ("none", "batch"))
    if norm == "batch" and rate != 1:
        raise AtollError(f"mlp: with norm=batch it has no width rate (rate={rate!r}). Leave one of them out.")

    def at(rate: float) -> Model:
        scaled = [narrowed("mlp", width, rate) for width in widths]
        narrower = narrow if norm == "none" else None
        return as_model("mlp", lambda rngs: Mlp(size(input_shape), scaled, outputs, rate, norm == "batch", rngs=rngs), input_shape, outputs, task, narrower)

    narrow = cache(at)
    return narrow(check_rate("mlp", rate))


def size(shape: Sequence[int]) -> int:
    """Number of values in a row of this shape."""
    return int(np.prod(shape))


def whole(value: object) -> bool:
    """Is this a positive whole number?"""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def check_rate(model: str, rate: float) -> float:
    """A width rate as a float. AtollError unless 0 < rate <= 1."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= 1:
        raise AtollError(f"{model}: a width rate lies in (0, 1], as in {model}:rate=0.5, not {rate!r}.")
    return float(rate)


def narrowed(model: str, width: int, rate: float) -> int:
    """A hidden width times a rate, rounded up."""
    return math.ceil(check_rate(model, rate) * width)


def refuse_sequence(model: str, task: str) -> None:
    """AtollError for a task that predicts at every position."""
    if task == "sequence":
        raise AtollError(f"{model} predicts one output per row, but the task is 'sequence' (one per position). Use gru or lstm.")
