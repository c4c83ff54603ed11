"""The second half of an autoencoder: rows from the features that a model's lower blocks make of them."""

from __future__ import annotations

import functools
import math

import jax.numpy as jnp
from flax import nnx
from jax import Array

from atoll.core.model import Model
from atoll.models.dense import dense
from atoll.models.images import conv, image_shape
from atoll.models.zoo import as_model, size

HIDDEN = 64  # units before a vector
WIDTHS = (16, 8)  # channels of an image at a quarter and at half of its size


class VectorDecoder(nnx.Module):
    """d - 64 - values, with ReLU between."""

    def __init__(self, d: int, values: int, *, rngs: nnx.Rngs):
        self.dense = dense(d, HIDDEN, rngs=rngs)
        self.head = dense(HIDDEN, values, rngs=rngs)

    def __call__(self, z: Array) -> Array:
        return self.head(nnx.relu(self.dense(z)))


class ImageDecoder(nnx.Module):
    """d - an image of a quarter of the size, 16 channels - twice as large, 3x3x8 - twice as large, 3x3 - cut to size. ReLU between."""

    def __init__(self, d: int, shape: tuple[int, int, int], *, rngs: nnx.Rngs):
        self.shape = shape
        self.quarter = tuple(math.ceil(side / 4) for side in shape[:2])
        self.dense = dense(d, size(self.quarter) * WIDTHS[0], rngs=rngs)
        self.conv = conv(WIDTHS[0], WIDTHS[1], 3, rngs=rngs)
        self.head = conv(WIDTHS[1], shape[2], 3, rngs=rngs)

    def __call__(self, z: Array) -> Array:
        x = nnx.relu(self.dense(z)).reshape(len(z), *self.quarter, WIDTHS[0])
        x = nnx.relu(self.conv(_doubled(x)))
        return self.head(_doubled(x))[:, : self.shape[0], : self.shape[1]]


def _doubled(x: Array) -> Array:
    """[batch, height, width, channels] with every pixel as four."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


@functools.cache
def decoder(d: int, shape: tuple[int, ...]) -> Model:
    """From features [batch, d] to values [batch, values] of rows of this shape, flattened: convolutional for images, dense for all others."""
    if len(shape) in (2, 3):
        image = image_shape("decoder", shape, least=1)
        return as_model("decoder", lambda rngs: ImageDecoder(d, image, rngs=rngs), (d,), size(shape), "regression")
    return as_model("decoder", lambda rngs: VectorDecoder(d, size(shape), rngs=rngs), (d,), size(shape), "regression")
