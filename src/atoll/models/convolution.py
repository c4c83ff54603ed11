"""Convolution and max-pooling that are fast on a CPU, with their gradients.

XLA's CPU convolution is fast (over 200 GFLOP/s a core) for images [batch, height, width, channels] and kernels [height, width, in, out] in
this very order without dilation, and some 50 times slower for the convolutions that JAX writes for the gradients, whose axes are permuted,
reversed or dilated. So the gradients are written here as convolutions of the fast kind, at the price of small transposes.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from atoll.models import winograd

ORDER = ("NHWC", "HWIO", "NHWC")
FEWEST_OUTPUTS = 32  # that XLA's fast library takes
LARGEST_UNROLLED = 49  # kernel positions: each is an operation of the compiled program
Padding = tuple[tuple[int, int], ...]  # (before, after) of height and width


def convolve(x: Array, kernel: Array, window_strides: Sequence[int], padding: Any, **options: Any) -> Array:
    """Stands in for lax.conv_general_dilated in nnx.Conv(conv_general_dilated=convolve): same arguments, same result.

    On a CPU a two-dimensional convolution without dilation or groups goes the fast way; everything else is XLA's own.
    """
    if jax.default_backend() != "cpu" or not _plain(x, options):
        return lax.conv_general_dilated(x, kernel, window_strides, padding, **options)
    strides = tuple(window_strides)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    if kernel.shape[:2] == (1, 1):
        return _pointwise(_pad(x, pads), kernel, strides)
    if strides == (1, 1):
        return _fast(x, kernel, pads)
    return _fast(*_unstrided(_pad(x, pads), kernel, strides), ((0, 0), (0, 0)))


def _plain(x: Array, options: dict[str, Any]) -> bool:
    dilations = (*(options.get("lhs_dilation") or ()), *(options.get("rhs_dilation") or ()))
    return x.ndim == 4 and options.get("feature_group_count", 1) == 1 and all(d == 1 for d in dilations)


def _pointwise(x: Array, kernel: Array, strides: tuple[int, ...]) -> Array:
    """A 1x1 kernel is a product of matrices on every pixel that the stride meets."""
    return x[:, :: strides[0], :: strides[1]] @ kernel[0, 0]


def _unstrided(x: Array, kernel: Array, strides: tuple[int, ...]) -> tuple[Array, Array]:
    """A padded image and kernel whose convolution with stride 1 equals the given one.

    Each tile of stride x stride pixels becomes one pixel with stride^2 times the channels, and so does the kernel, filled up with zeros.
    """
    (sh, sw), (_, height, width, _), (kh, kw, _, _) = strides, x.shape, kernel.shape
    rows, columns = (height - kh) // sh + 1, (width - kw) // sw + 1  # of the result
    tall, wide = -(-kh // sh), -(-kw // sw)  # the kernel in tiles
    x = _resize(x, 1, (rows + tall - 1) * sh, (columns + wide - 1) * sw)
    kernel = _resize(kernel, 0, tall * sh, wide * sw)
    c, o = kernel.shape[2:]
    x = x.reshape(-1, rows + tall - 1, sh, columns + wide - 1, sw, c).transpose(0, 1, 3, 2, 4, 5)
    kernel = kernel.reshape(tall, sh, wide, sw, c, o).transpose(0, 2, 1, 3, 4, 5)
    return x.reshape(*x.shape[:3], sh * sw * c), kernel.reshape(tall, wide, sh * sw * c, o)


def _resize(x: Array, axis: int, height: int, width: int) -> Array:
    """Cuts or fills with zeros at the end of the two axes from `axis` on."""
    config = [(0, 0, 0)] * x.ndim
    config[axis], config[axis + 1] = (0, height - x.shape[axis], 0), (0, width - x.shape[axis + 1], 0)
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _pad(x: Array, pads: Padding) -> Array:
    return x if pads == ((0, 0), (0, 0)) else jnp.pad(x, ((0, 0), *pads, (0, 0)))


def _fast(x: Array, kernel: Array, pads: Padding) -> Array:
    return _convolve.bind(x, kernel, pads=pads)


def _plainly(x: Array, kernel: Array, *, pads: Padding) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=ORDER)


def _on_cpu(x: Array, kernel: Array, *, pads: Padding) -> Array:
    """What the fast library refuses is brought into a shape that it takes (measured with jaxlib 0.10.2, 20 images, see the factors)."""
    (kh, kw, c, o), (rows, columns, _) = kernel.shape, _rows_columns_out(x, kernel, pads)
    if (x.shape[1] < kh or x.shape[2] < kw) and kh * kw <= LARGEST_UNROLLED:
        return _as_product(x, kernel, pads)  # images smaller than the kernel: 6.1 -> 0.17 ms for 5x5x32x64 on 4x4 pixels
    if c > 1 and c % 2:  # odd channels get one more: 2.2 -> 0.5 ms for 5x5x3x32 on 28x28
        x, kernel = _resize(x, 2, x.shape[2], c + 1), _resize(kernel, 2, c + 1, o)
    if o < FEWEST_OUTPUTS and kh * kw < rows * columns:  # 0.67 -> 0.16 ms for 5x5x1x6 on 28x28; not for kernels as large as the image
        kernel = _resize(kernel, 2, kernel.shape[2], FEWEST_OUTPUTS)
    if winograd.pays((x.shape[0], rows + kh - 1, columns + kw - 1, x.shape[3]), kernel.shape, (rows, columns)):
        return winograd.convolve(_pad(x, pads), kernel, rows, functools.partial(_plainly, pads=((0, 0), (0, 0))))[..., :o]
    return _plainly(x, kernel, pads=pads)[..., :o]


def _as_product(x: Array, kernel: Array, pads: Padding) -> Array:
    """Every kernel position's view of the image side by side, times the kernel as a matrix."""
    (kh, kw, c, o), (rows, columns, _) = kernel.shape, _rows_columns_out(x, kernel, pads)
    x = _pad(x, pads)
    views = [x[:, i : i + rows, j : j + columns] for i in range(kh) for j in range(kw)]
    return jnp.concatenate(views, axis=-1) @ kernel.reshape(kh * kw * c, o)


def _input_gradient(ct: Array, x: Any, kernel: Array, *, pads: Padding) -> Array:
    """[batch, rows, columns, out] -> [batch, height, width, in]: convolution with the kernel turned by 180 degrees, in and out swapped."""
    kh, kw = kernel.shape[:2]
    turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    return _fast(ct, turned, tuple((k - 1 - low, k - 1 - high) for k, (low, high) in zip((kh, kw), pads, strict=True)))


def _kernel_gradient(ct: Array, x: Array, kernel: Any, *, pads: Padding) -> Array:
    """[batch, rows, columns, out] -> [kh, kw, in, out]: a batch of `in` pictures with `batch` channels, convolved with the gradient `ct`."""
    if x.shape[3] == 1:
        padded = _pad(x, pads)[..., 0]
        kh, kw = (n - m + 1 for n, m in zip(padded.shape[1:], ct.shape[1:3], strict=True))
        if kh * kw <= LARGEST_UNROLLED:
            return _gray_kernel_gradient(ct, padded, kh, kw)
    return _fast(x.transpose(3, 1, 2, 0), ct.transpose(1, 2, 0, 3), pads).transpose(1, 2, 0, 3)


def _gray_kernel_gradient(ct: Array, x: Array, kh: int, kw: int) -> Array:
    """The same for one channel: every kernel position's view of the images, a row of a matrix each, times `ct`, which stays in its order."""
    _, rows, columns, o = ct.shape
    views = jnp.stack([x[:, i : i + rows, j : j + columns] for i in range(kh) for j in range(kw)])
    return (views.reshape(kh * kw, -1) @ ct.reshape(-1, o)).reshape(kh, kw, 1, o)


def _batched(arguments: tuple[Array, Array], axes: tuple[int | None, int | None], *, pads: Padding) -> tuple[Array, int]:
    """vmap: one batch of images after another where the kernels differ (XLA's grouped convolution is slow), else all images at once."""
    (x, kernel), (at_x, at_kernel) = arguments, axes
    if at_kernel is None:
        x = jnp.moveaxis(x, at_x or 0, 0)
        return _fast(x.reshape(-1, *x.shape[2:]), kernel, pads).reshape(*x.shape[:2], *_rows_columns_out(x, kernel, pads)), 0
    kernel = jnp.moveaxis(kernel, at_kernel, 0)
    if at_x is None:
        return lax.map(lambda k: _fast(x, k, pads), kernel), 0
    return lax.map(lambda pair: _fast(pair[0], pair[1], pads), (jnp.moveaxis(x, at_x, 0), kernel)), 0


# A bilinear primitive of our own: JAX derives forward mode, reverse mode and higher derivatives from the two gradients.
_convolve = Primitive("atoll_convolve")
_convolve.def_impl(jax.jit(_on_cpu, static_argnames="pads"))
_convolve.def_abstract_eval(lambda x, kernel, *, pads: x.update(shape=(x.shape[0], *_rows_columns_out(x, kernel, pads))))
mlir.register_lowering(_convolve, mlir.lower_fun(_plainly, multiple_results=False))
mlir.register_lowering(_convolve, mlir.lower_fun(_on_cpu, multiple_results=False), platform="cpu")
ad.defbilinear(_convolve, _input_gradient, _kernel_gradient)
batching.primitive_batchers[_convolve] = _batched


def _rows_columns_out(x: Any, kernel: Any, pads: Padding) -> tuple[int, int, int]:
    sides = [n + low + high - k + 1 for n, k, (low, high) in zip(x.shape[-3:-1], kernel.shape[:2], pads, strict=True)]
    return sides[0], sides[1], kernel.shape[3]


@jax.custom_jvp
def max_pool(x: Array) -> Array:
    """Maximum of each 2x2 tile of [batch, height, width, channels]; an odd last row or column is left out.

    Among equal pixels the first takes the gradient.
    """
    return _tiles(x).max((2, 4))


@max_pool.defjvp
def _max_pool_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    tiles, moved = _tiles(primals[0]), _tiles(tangents[0])
    top = tiles.max((2, 4))
    winner = _winner(tiles, top)[:, :, None, :, None]  # [batch, rows, 1, columns, 1, channels]
    number = lax.broadcasted_iota(winner.dtype, (1, 1, 2, 1, 2, 1), 2) * 2 + lax.broadcasted_iota(winner.dtype, (1, 1, 2, 1, 2, 1), 4)
    return top, jnp.where(winner == number, moved, 0).sum((2, 4))


def _tiles(x: Array) -> Array:
    """[batch, height, width, channels] -> [batch, rows, 2, columns, 2, channels]"""
    rows, columns = x.shape[1] // 2, x.shape[2] // 2
    return x[:, : 2 * rows, : 2 * columns].reshape(x.shape[0], rows, 2, columns, 2, x.shape[3])


def _winner(tiles: Array, top: Array) -> Array:
    """Number 0..3 of the first pixel of each tile that is its maximum."""
    third = jnp.where(tiles[:, :, 1, :, 0] == top, 2, 3)
    second = jnp.where(tiles[:, :, 0, :, 1] == top, 1, third)
    return jnp.where(tiles[:, :, 0, :, 0] == top, 0, second).astype(jnp.int8)
