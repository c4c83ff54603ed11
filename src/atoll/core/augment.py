"""Images a little shifted, turned, sheared and zoomed."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.ndimage import map_coordinates

from atoll.core.rows import Change


@dataclass(frozen=True)
class Strength:
    """How far images are changed at most, to either side."""

    shift: float  # share of the image's height and width
    rotate: float  # degrees
    shear: float  # pixels sideways for each pixel up
    zoom: float  # share of the size


def copies(key: Array, most: Strength) -> Change:
    """For Rows.repeated: copy c of row i is the row changed at random, always alike for the same key."""

    def one(x: Array, row: Array, copy: Array) -> Array:
        return augmented(x, jax.random.fold_in(jax.random.fold_in(key, row), copy), most)

    return jax.vmap(one)


def augmented(x: Array, key: Array, most: Strength) -> Array:
    """An image [height, width] or [height, width, channels], changed at random and uniformly up to `most`."""
    u = jax.random.uniform(key, (5,), minval=-1.0)
    angle, tangent, size = jnp.deg2rad(most.rotate) * u[0], most.shear * u[1], 1 + most.zoom * u[2]
    turn = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
    shear = jnp.eye(2).at[1, 0].set(tangent)
    return affine(x, turn @ shear / size, most.shift * u[3:] * jnp.array(x.shape[:2]))


def affine(x: Array, matrix: Array, shift: Array) -> Array:
    """The image whose pixel p [row, column], counted from the middle, is `x` at matrix @ p - shift: bilinear, and beyond its border as at the border."""
    middle = (jnp.array(x.shape[:2]) - 1) / 2
    pixels = jnp.stack(jnp.meshgrid(*map(jnp.arange, x.shape[:2]), indexing="ij"), -1) - middle  # [height, width, 2]
    at = jnp.moveaxis(pixels @ matrix.T - shift + middle, -1, 0)
    one = x[..., None] if x.ndim == 2 else x
    made = jax.vmap(lambda channel: map_coordinates(channel, list(at), order=1, mode="nearest"), 2, 2)(one)
    return made.reshape(x.shape)
