"""The models that come with Atoll, as flax.nnx modules: `features` is everything below the last block, `head` the last block."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache


import numpy as np
from flax import nnx
from jax import Array

from atoll.core.errors import AtollError
from atoll.core.model import Model
from atoll.models.convolution import convolve, max_pool
from atoll.models.nnx_network import NnxNetwork


def as_model(name: str, make: Callable[[nnx.Rngs], nnx.Module], input_shape: Sequence[int], outputs: int, task: str, narrower=None) -> Model:
    """A zoo module as a model."""
    network = NnxNetwork(make, name)
    return Model(name, network.blocks, outputs, tuple(input_shape), task, network, narrower)


class Softmax(nnx.Module):
    """One linear layer on the flattened input."""

    def __init__(self, inputs: int, outputs: int, bias: bool, *, rngs: nnx.Rngs):
        self.head = nnx.Linear(inputs, outputs, use_bias=bias, rngs=rngs)

    def features(self, x: Array) -> Array:
        return x.reshape(x.shape[0], -1)

    def __call__(self, x: Array) -> Array:
        return self.head(self.features(x))


def softmax(input_shape: Sequence[int], outputs: int, task: str, *, bias: bool = True) -> Model:
    """Softmax regression, or linear regression for regression tasks."""
    refuse_sequence("softmax", task)
    return as_model("softmax", lambda rngs: Softmax(size(input_shape), outputs, bias, rngs=rngs), input_shape, outputs, task)


class Scaler(nnx.Module):
    """Divides by the width rate in training only, so that narrow and full models train on activations of the same size (HeteroFL)."""

    def __init__(self, rate: float):
        self.rate = rate
        self.deterministic = False  # set by nnx's train() and eval()

    def __call__(self, x: Array) -> Array:
        return x if self.deterministic else x / self.rate


class Mlp(nnx.Module):
    """Dense layers with ReLU: blocks dense1, dense2, ..., head."""

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, rate: float, *, rngs: nnx.Rngs):
        self.depth = len(hidden)
        self.scale = Scaler(rate)
        for i, width in enumerate(hidden, start=1):
            setattr(self, f"dense{i}", nnx.Linear(inputs, width, rngs=rngs))
            inputs = width
        self.head = nnx.Linear(inputs, outputs, rngs=rngs)

    def features(self, x: Array) -> Array:
        x = x.reshape(x.shape[0], -1)
        for i in range(1, self.depth + 1):
            x = nnx.relu(self.scale(getattr(self, f"dense{i}")(x)))
        return x

    def __call__(self, x: Array) -> Array:
        return self.head(self.features(x))


def mlp(input_shape: Sequence[int], outputs: int, task: str, *, hidden: int | Sequence[int] = (200,), rate: float = 1.0) -> Model:
    """Multi-layer perceptron with ReLU. `rate` multiplies the hidden widths (rounded up) for HeteroFL."""
    refuse_sequence("mlp", task)
    widths = tuple(hidden) if isinstance(hidden, Sequence) else (hidden,)
    if not all(isinstance(w, int) and w > 0 for w in widths):
        raise AtollError(f"mlp: hidden sizes are positive whole numbers, as in mlp:200,100, not {', '.join(map(str, widths))}.")

    def at(rate: float) -> Model:
        scaled = [narrowed("mlp", w, rate) for w in widths]
        return as_model("mlp", lambda rngs: Mlp(size(input_shape), scaled, outputs, rate, rngs=rngs), input_shape, outputs, task, narrow)

    narrow = cache(at)
    return narrow(float(rate))


def size(shape: Sequence[int]) -> int:
    """Number of values in a row of this shape."""
    return int(np.prod(shape))


def narrowed(model: str, width: int, rate: float) -> int:
    """A hidden width times a rate, rounded up. AtollError unless 0 < rate <= 1."""
    if not 0 < rate <= 1:
        raise AtollError(f"{model}: a width rate lies in (0, 1], as in {model}:rate=0.5, not {rate}.")
    return math.ceil(rate * width)


def refuse_sequence(model: str, task: str) -> None:
    """AtollError for a task that predicts at every position."""
    if task == "sequence":
        raise AtollError(f"{model} predicts one output per row, but the task is 'sequence' (one per position). Use gru or lstm.")


class McMahanCnn(nnx.Module):
    """5x5x32 - pool - 5x5x64 - pool - 512 - outputs, same padding (McMahan et al., AISTATS 2017)."""

    def __init__(self, input_shape: Sequence[int], outputs: int, *, rngs: nnx.Rngs):
        height, width, channels = image_shape("cnn", input_shape, least=4)
        self.conv1 = conv(channels, 32, 5, rngs=rngs)
        self.conv2 = conv(32, 64, 5, rngs=rngs)
        self.dense = nnx.Linear(height // 4 * (width // 4) * 64, 512, rngs=rngs)
        self.head = nnx.Linear(512, outputs, rngs=rngs)

    def features(self, x: Array) -> Array:
        x = nnx.relu(max_pool(self.conv1(as_image(x))))
        x = nnx.relu(max_pool(self.conv2(x)))
        return nnx.relu(self.dense(x.reshape(x.shape[0], -1)))

    def __call__(self, x: Array) -> Array:
        return self.head(self.features(x))


def cnn(input_shape: Sequence[int], outputs: int, task: str) -> Model:
    """McMahan's CNN: 1,663,370 parameters for 28x28x1 images and 10 classes."""
    refuse_sequence("cnn", task)
    return as_model("cnn", lambda rngs: McMahanCnn(input_shape, outputs, rngs=rngs), input_shape, outputs, task)


def conv(inputs: int, outputs: int, side: int, *, stride: int = 1, padding: str = "SAME", bias: bool = True, rngs: nnx.Rngs) -> nnx.Conv:
    """A square convolution that is fast on the CPU, too."""
    return nnx.Conv(
        inputs, outputs, (side, side), stride, padding=padding, use_bias=bias, conv_general_dilated=convolve, rngs=rngs
    )


def image_shape(model: str, input_shape: Sequence[int], least: int) -> tuple[int, int, int]:
    """(height, width, channels) of an image with or without a channel axis. AtollError if it is none, or smaller than the model can take."""
    if len(input_shape) not in (2, 3) or min(input_shape[:2]) < least:
        shape = "x".join(map(str, input_shape))
        raise AtollError(f"{model} takes images [height, width] or [height, width, channels] of at least {least}x{least} pixels, not rows of shape {shape}.")
    return (input_shape[0], input_shape[1], input_shape[2] if len(input_shape) == 3 else 1)


def as_image(x: Array) -> Array:
    """[batch, height, width] -> [batch, height, width, 1]; images with channels stay."""
    return x[..., None] if x.ndim == 3 else x
