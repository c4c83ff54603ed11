"""The dense layer's product against the plain one: values, first and second derivatives, vectorised or not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atoll.models.dense import LARGEST_BATCH, multiply

AXES = (((1,), (0,)), ((), ()))


def draw(batch: int, seed: int = 0):
    a, b = jax.random.split(jax.random.key(seed))
    return jax.random.normal(a, (batch, 7)), jax.random.normal(b, (7, 5))


def loss(product, x, kernel):
    return jnp.sum(jnp.sin(product(x, kernel)))


def fast(x, kernel):
    return multiply(x, kernel, AXES)


@pytest.mark.parametrize("batch", [1, 20, LARGEST_BATCH + 1])
@pytest.mark.parametrize("by", [0, 1])
def test_gradients_are_those_of_the_plain_product(batch, by):
    x, kernel = draw(batch)
    np.testing.assert_allclose(fast(x, kernel), x @ kernel, rtol=1e-5, atol=1e-6)
    got, want = (jax.grad(lambda *a, p=p: loss(p, *a), by)(x, kernel) for p in (fast, jnp.matmul))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_second_derivatives_are_those_of_the_plain_product():
    """Reverse over reverse and forward over reverse: Per-FedAvg needs both."""
    x, kernel = draw(6)
    v = jnp.ones_like(kernel)

    def both(product):
        g = jax.grad(lambda k: loss(product, x, k))
        return jax.grad(lambda k: jnp.vdot(g(k), v))(kernel), jax.jvp(g, (kernel,), (v,))[1]

    for got, want in zip(both(fast), both(jnp.matmul), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
def test_vectorised(axes):
    x, kernel = draw(4)
    many = [jnp.stack([a, 2 * a, -a]) if axis == 0 else a for a, axis in zip((x, kernel), axes, strict=True)]
    for f in (lambda p: p, lambda p: jax.grad(lambda *a: loss(p, *a), 1)):
        np.testing.assert_allclose(jax.vmap(f(fast), axes)(*many), jax.vmap(f(jnp.matmul), axes)(*many), rtol=1e-5, atol=1e-5)
