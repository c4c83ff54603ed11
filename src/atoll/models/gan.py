"""A small conditional GAN for rows of any shape: two dense networks that are told the label.

Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014; Mirza, Osindero, "Conditional Generative Adversarial Nets", arXiv 1411.1784, 2014.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from tree_math import Vector

from atoll.core.model import Model
from atoll.models.zoo import mlp, size

BLUR = 0.5  # deviation of the noise on all that D sees, where rows span -1 to 1: on few rows D would else learn them by heart, and G one row of each label


class Generator(NamedTuple):
    """What makes rows; values lie in the range that they had among the rows trained on."""

    w: Vector
    middle: Array  # [values] of the range
    half: Array  # [values] half its width


@dataclass(frozen=True)
class ConditionalGan:
    """The two networks' form. A generator G turns noise z and a label y into a row, a discriminator D says whether a row of label y is real."""

    shape: tuple[int, ...]  # of a row
    labels: int
    noise: int  # length of z
    hidden: int  # units of each network's hidden layer

    @functools.cached_property
    def G(self) -> Model:  # noqa: N802 - the paper's letters
        return mlp((self.noise + self.labels,), size(self.shape), "regression", hidden=self.hidden)

    @functools.cached_property
    def D(self) -> Model:  # noqa: N802
        return mlp((size(self.shape) + self.labels,), 1, "regression", hidden=self.hidden)

    def init(self, key: Array) -> Generator:
        """A generator that has learned nothing."""
        values = size(self.shape)
        return Generator(self.G.init(key), jnp.zeros(values), jnp.ones(values))

    def make(self, of: Generator, z: Array, y: Array) -> Array:
        """Rows [batch, ...] from noise z [batch, noise] and labels y [batch]."""
        return (of.middle + of.half * self._made(of.w, z, y)).reshape(len(y), *self.shape)

    @functools.partial(jax.jit, static_argnames=("self", "steps", "batch"))
    def fit(self, x: Array, y: Array, key: Array, *, steps: int, batch: int, lr: float) -> Generator:
        """A generator trained on rows x [rows, ...] with labels y [rows], each label drawn equally often: Adam's `steps` on D and on G in turn.

        D is to tell x|y from G(z|y): max E log D(x|y) + E log(1 - D(G(z|y)|y)). G is to be taken for real: max E log D(G(z|y)|y).
        """
        x = x.reshape(len(y), -1)
        middle, half = (x.max(0) + x.min(0)) / 2, (x.max(0) - x.min(0)) / 2
        x = (x - middle) / jnp.where(half > 0, half, 1)  # -1 to 1; a value that is always the same is 0
        ends = jnp.cumsum(1 / jnp.bincount(y, length=self.labels)[y])  # of intervals, one per row, as long for all labels together
        adam: Any = optax.adam(lr, b1=0.5)

        def one(t: Array, carry: Any) -> Any:
            g, d, of_g, of_d = carry
            draw, noise, *blur = jax.random.split(jax.random.fold_in(key, t), 5)
            i = jnp.searchsorted(ends, jax.random.uniform(draw, (batch,)) * ends[-1]).clip(max=len(y) - 1)
            z = jax.random.normal(noise, (batch, self.noise))

            def seen(d: Vector, rows: Array, n: int) -> Array:
                return self._judged(d, rows + BLUR * jax.random.normal(blur[n], rows.shape), y[i])

            def loss_of_d(d: Vector) -> Array:
                return jnp.mean(jax.nn.softplus(-seen(d, x[i], 0)) + jax.nn.softplus(seen(d, self._made(g, z, y[i]), 1)))

            step, of_d = adam.update(jax.grad(loss_of_d)(d), of_d)
            d = d + step

            def loss_of_g(g: Vector) -> Array:
                return jnp.mean(jax.nn.softplus(-seen(d, self._made(g, z, y[i]), 2)))

            step, of_g = adam.update(jax.grad(loss_of_g)(g), of_g)
            return g + step, d, of_g, of_d

        for_g, for_d = jax.random.split(key)
        g, d = self.G.init(for_g), self.D.init(for_d)
        g, *_ = jax.lax.fori_loop(0, steps, one, (g, d, adam.init(g), adam.init(d)))
        return Generator(g, middle, half)

    def _made(self, g: Vector, z: Array, y: Array) -> Array:
        """[batch, values] between -1 and 1."""
        return jnp.tanh(self.G.apply(g, self._told(z, y)))

    def _judged(self, d: Vector, x: Array, y: Array) -> Array:
        """[batch] log D / (1 - D) of rows [batch, values]."""
        return self.D.apply(d, self._told(x, y))[:, 0]

    def _told(self, values: Array, y: Array) -> Array:
        return jnp.concatenate([values, jax.nn.one_hot(y, self.labels)], axis=1)
