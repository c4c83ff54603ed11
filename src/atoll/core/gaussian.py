"""Independent Gaussians, one for each parameter: products and quotients by natural parameters, draws, and the Kullback-Leibler divergence."""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from tree_math import Vector


class Natural(NamedTuple):
    """exp(shift x - precision x^2 / 2) for each parameter, up to a constant: a density where the precision is positive, else a factor of one."""

    precision: Vector  # 1 / variance; a factor that says nothing has 0
    shift: Vector  # precision * mean


class Spread(NamedTuple):
    """A density by what it is drawn from."""

    mean: Vector
    log_std: Vector


def times(a: Natural, b: Natural) -> Natural:
    return Natural(a.precision + b.precision, a.shift + b.shift)


def over(a: Natural, b: Natural) -> Natural:
    return Natural(a.precision - b.precision, a.shift - b.shift)


def power(a: Natural, exponent: Any) -> Natural:
    return Natural(exponent * a.precision, exponent * a.shift)


def around(w: Vector, precision: Any) -> Natural:
    """With means w and one precision for all."""
    return Natural(0.0 * w + precision, precision * w)


def spread(a: Natural) -> Spread:
    return Spread(a.shift / a.precision, jax.tree.map(lambda p: -0.5 * jnp.log(p), a.precision))


def draw(q: Spread, key: Array) -> Vector:
    """One value of every parameter, differentiable in q."""
    leaves, tree = jax.tree.flatten(q.mean)
    with jax.disable_jit(False):  # many small operations: compiled even where programs are not
        noise = _noise(key, sum(leaf.size for leaf in leaves))
    ends = list(itertools.accumulate((leaf.size for leaf in leaves), initial=0))
    e = jax.tree.unflatten(tree, [noise[at : at + leaf.size].reshape(leaf.shape) for at, leaf in zip(ends, leaves, strict=False)])
    return jax.tree.map(lambda mean, log_std, e: mean + jnp.exp(log_std) * e, q.mean, q.log_std, e)


@functools.partial(jax.jit, static_argnums=1)
def _noise(key: Array, size: int) -> Array:
    return jax.random.normal(key, (size,))


def divergence(q: Spread, p: Natural) -> Array:
    """KL(q || p), summed over the parameters."""

    def of(mean: Array, log_std: Array, precision: Array, shift: Array) -> Array:
        far = precision * (jnp.exp(2 * log_std) + jnp.square(mean - shift / precision))
        return 0.5 * (far - 1 - jnp.log(precision) - 2 * log_std).sum()

    return jax.tree.reduce(jnp.add, jax.tree.map(of, q.mean, q.log_std, p.precision, p.shift), jnp.float32(0))


def factor(q: Spread, rest: Natural) -> Natural:
    """What must be multiplied to `rest` to give q's means, and q's precisions where these are at least rest's: a factor adds no doubt."""
    whole = jax.tree.map(lambda log_std, precision: jnp.maximum(jnp.exp(-2 * log_std), precision), q.log_std, rest.precision)
    return over(Natural(whole, whole * q.mean), rest)
