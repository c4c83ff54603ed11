"""A dense layer's product of matrices whose weight gradient is fast on a CPU for small batches.

The gradient x^T ct is a sum of outer products, one for each row. Written so, the compiler adds it up in the very loop that steps the weights, and it is
never stored; as a product of matrices it takes a pass over memory more, and the small ones are slow besides. Measured with the step, batch 20:
784-10 9 us instead of 19, 200-10 2.7 instead of 5.7, 60-20 2.4 instead of 2.9; 784-200 the same, and the whole step of the 784-200-10 net 4 % less.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
from flax import nnx
from jax import Array, lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

LARGEST_BATCH = 32  # whose gradient is written as a sum of outer products: one term of the compiled program for each row


def dense(inputs: int, outputs: int, *, bias: bool = True, rngs: nnx.Rngs) -> nnx.Linear:
    """A dense layer that is fast on a CPU, too."""
    return nnx.Linear(inputs, outputs, use_bias=bias, dot_general=multiply, rngs=rngs)


def multiply(x: Array, kernel: Array, dimension_numbers: Any = None, **options: Any) -> Array:
    """Stands in for lax.dot_general in nnx.Linear(dot_general=multiply): x [batch, in] @ kernel [in, out]."""
    if x.ndim != 2 or x.shape[0] > LARGEST_BATCH or jax.default_backend() != "cpu":
        return lax.dot_general(x, kernel, dimension_numbers, **options)
    return _multiply.bind(x, kernel)


def _plainly(x: Array, kernel: Array) -> Array:
    return x @ kernel


def _input_gradient(ct: Array, x: Any, kernel: Array) -> Array:
    """[batch, out] -> [batch, in]"""
    return ct @ kernel.T


def _kernel_gradient(ct: Array, x: Array, kernel: Any) -> Array:
    """[batch, out], [batch, in] -> [in, out]"""
    with jax.disable_jit(False):  # compiled even where programs are not
        return _outer_products(x, ct)


@functools.partial(jax.jit, inline=True)
def _outer_products(x: Array, ct: Array) -> Array:
    x, ct = lax.optimization_barrier((x, ct))  # what made them (activations) would else be done again for every weight
    total = x[0][:, None] * ct[0]
    for row in range(1, x.shape[0]):
        total = total + x[row][:, None] * ct[row]
    return total


def _batched(arguments: tuple[Array, Array], axes: tuple[int | None, int | None]) -> tuple[Array, int]:
    return jax.vmap(_plainly, axes)(*arguments), 0


_multiply = Primitive("atoll_dense")
_multiply.def_impl(jax.jit(_plainly))
_multiply.def_abstract_eval(lambda x, kernel: x.update(shape=(x.shape[0], kernel.shape[1])))
mlir.register_lowering(_multiply, mlir.lower_fun(_plainly, multiple_results=False))
ad.defbilinear(_multiply, _input_gradient, _kernel_gradient)
batching.primitive_batchers[_multiply] = _batched
