"""Our convolution against XLA's, with all derivatives; max-pooling against flax's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from atoll.core.work import body_flops
from atoll.models import winograd
from atoll.models.convolution import ORDER, convolve, max_pool


def ours(x, kernel, stride=1, padding="SAME"):
    return convolve(x, kernel, (stride, stride), padding, dimension_numbers=ORDER)


def xla(x, kernel, stride=1, padding="SAME"):
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=ORDER)


def noise(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def close(a, b):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5 * max(1.0, float(jnp.abs(right).max())))


CASES = [  # image, channels, kernel side, stride, padding
    ((8, 8), 1, 5, 1, "SAME"),
    ((9, 7), 3, 3, 1, "VALID"),
    ((9, 7), 3, 2, 1, ((2, 1), (0, 3))),
    ((8, 8), 3, 3, 2, "SAME"),
    ((9, 7), 1, 3, 2, "SAME"),
    ((9, 7), 2, 5, 3, "VALID"),
    ((8, 9), 2, 2, 2, ((1, 2), (0, 1))),
    ((9, 8), 3, 1, 2, "SAME"),
]


@pytest.mark.parametrize(("size", "channels", "side", "stride", "padding"), CASES)
def test_equals_xla_with_gradients(size, channels, side, stride, padding):
    x, kernel = noise(0, 2, *size, channels), noise(1, side, side, channels, 4)
    ct = noise(2, *jax.eval_shape(lambda: xla(x, kernel, stride, padding)).shape)

    @jax.jit
    def both(x, kernel, ct):
        results = (jax.vjp(lambda x, k, f=f: f(x, k, stride, padding), x, kernel) for f in (ours, xla))
        return [(value, back(ct)) for value, back in results]

    close(*both(x, kernel, ct))


BY_WINOGRAD = [  # images, side, in, out, kernel side, padding
    (20, 14, 32, 64, 5, "SAME"),
    (20, 12, 48, 64, 3, "SAME"),
    (6, 14, 64, 64, 5, "VALID"),
    (20, 8, 64, 64, 3, ((2, 0), (1, 1))),
]


@pytest.mark.parametrize(("batch", "side", "c", "o", "k", "padding"), BY_WINOGRAD)
def test_winograds_way_is_taken_and_equals_xla_with_gradients(monkeypatch, batch, side, c, o, k, padding):
    taken, inner = [], winograd.convolve
    monkeypatch.setattr(winograd, "convolve", lambda x, kernel, rows, plainly: taken.append(kernel.shape) or inner(x, kernel, rows, plainly))
    x, kernel = noise(0, batch, side, side, c), noise(1, k, k, c, o)
    ct = noise(2, *jax.eval_shape(lambda: xla(x, kernel, 1, padding)).shape)
    by_us, by_xla = (jax.jit(lambda x, k, ct, f=f: jax.vjp(lambda x, k: f(x, k, 1, padding), x, k)[1](ct))(x, kernel, ct) for f in (ours, xla))
    close(jax.jit(lambda x, k: ours(x, k, 1, padding))(x, kernel), xla(x, kernel, 1, padding))
    close(by_us, by_xla)
    assert len(taken) == 3  # the result and both gradients


@pytest.mark.parametrize(("m", "r"), [(2, 3), (2, 5), (3, 2), (5, 2)])
def test_winograds_products_are_the_filter(m, r):
    a, g, b = winograd.matrices(m, r)
    assert len(g) == m + r - 1
    for d in np.eye(m + r - 1):
        for taps in np.eye(r):
            np.testing.assert_allclose(a @ ((g @ taps) * (b @ d)), [d[i : i + r] @ taps for i in range(m)], atol=1e-12)


def test_our_primitive_is_used_and_counted():
    jaxpr = jax.make_jaxpr(ours)(noise(0, 2, 8, 8, 3), noise(1, 3, 3, 3, 4))
    assert "atoll_convolve" in str(jaxpr)
    counted = body_flops(lambda x, k: ours(x, k, padding="VALID"), (noise(0, 2, 8, 8, 3), noise(1, 3, 3, 3, 4)))
    assert counted == 2 * (2 * 6 * 6) * (3 * 3 * 3) * 4  # multiply and add for each output and kernel entry, and none for filling


def test_gradients_are_convolutions_of_the_fast_kind():
    def loss(x, kernel):
        return (ours(x, kernel) ** 2).sum()

    text = jax.jit(jax.grad(loss, (0, 1))).lower(noise(0, 2, 8, 8, 3), noise(1, 3, 3, 3, 4)).as_text()
    layouts = {line.split("dim_numbers = ")[1].split(", window")[0] for line in text.splitlines() if "stablehlo.convolution" in line}
    assert layouts == {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"}
    assert "lhs_dilate = [1, 1]" in text or "lhs_dilate" not in text


def test_second_derivatives_forward_and_reverse():
    x, kernel = noise(0, 2, 5, 5, 2), noise(1, 3, 3, 2, 3)

    def loss(convolution):
        return lambda x, k: (convolution(x, k, 2) ** 3).sum()

    for derivative in (lambda f: jax.hessian(f, 1)(x, kernel), lambda f: jax.jvp(jax.grad(f, (0, 1)), (x, kernel), (x, kernel))[1]):
        close(derivative(loss(ours)), derivative(loss(xla)))


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0), (3, 4)])
def test_vmap(axes):
    def stacked(a, axis):
        return a if axis is None else jnp.stack([a, 2 * a, -a], axis)

    x, kernel = stacked(noise(0, 2, 6, 6, 2), axes[0]), stacked(noise(1, 3, 3, 2, 3), axes[1])
    for function in (lambda f: f, lambda f: jax.grad(lambda x, k: (f(x, k) ** 2).sum(), (0, 1))):
        close(jax.vmap(function(ours), axes)(x, kernel), jax.vmap(function(xla), axes)(x, kernel))


def test_inside_loops_and_without_jit():
    x, kernel = noise(0, 2, 6, 6, 2), noise(1, 3, 3, 2, 2)
    looped = lax.fori_loop(0, 3, lambda _, x: ours(x, kernel), x)
    with jax.disable_jit():
        close(looped, ours(ours(ours(x, kernel), kernel), kernel))


def test_dilation_and_groups_go_to_xla():
    x, kernel = noise(0, 1, 8, 8, 4), noise(1, 3, 3, 2, 4)
    options = {"dimension_numbers": ORDER, "feature_group_count": 2, "rhs_dilation": (2, 2)}
    close(convolve(x, kernel, (1, 1), "SAME", **options), lax.conv_general_dilated(x, kernel, (1, 1), "SAME", **options))


def test_nnx_conv_takes_it():
    x = noise(0, 2, 7, 7, 3)
    plain = nnx.Conv(3, 4, (3, 3), 2, rngs=nnx.Rngs(0))
    fast = nnx.Conv(3, 4, (3, 3), 2, conv_general_dilated=convolve, rngs=nnx.Rngs(0))
    close(fast(x), plain(x))


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (2, 2)])
def test_max_pool_equals_flax(size):
    x = jnp.round(2 * noise(0, 2, *size, 3))  # rounded: many ties
    weight = noise(1, 2, size[0] // 2, size[1] // 2, 3)

    def flax_pool(x):
        return nnx.max_pool(x, (2, 2), (2, 2))

    close(max_pool(x), flax_pool(x))
    gradient = jax.grad(lambda x: (max_pool(x) * weight).sum())(x)
    close(gradient, jax.grad(lambda x: (flax_pool(x) * weight).sum())(x))
    np.testing.assert_allclose(gradient.sum(), weight.sum(), rtol=1e-5)  # one winner takes all of it
    assert (gradient != 0).sum() == weight.size


def test_max_pool_forward_mode():
    x, moved = noise(0, 2, 4, 4, 3), noise(1, 2, 4, 4, 3)
    small = 1e-3
    difference = (max_pool(x + small * moved) - max_pool(x)) / small
    np.testing.assert_allclose(jax.jvp(max_pool, (x,), (moved,))[1], difference, atol=2e-2)
