"""Batch norm: padding rows do not count, statistics are kept apart, and HeteroFL's scaler."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from atoll.core.errors import AtollError
from atoll.models import build, own
from atoll.models.images import EPSILON, ScaledBatchNorm


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(3, momentum=0.9, rngs=rngs)
        self.head = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.norm(x))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
        return linen.Dense(2, name="head")(x)


def statistics(w):
    norm = w.tree["buffers"]["norm"]
    return norm.get("batch_stats", norm)


@pytest.mark.parametrize("module", [Nnx, Linen()])
def test_padding_rows_do_not_count(module):
    model = own(module, (3,), 2)
    w = model.init(jax.random.key(0))
    x = jnp.asarray(np.random.default_rng(0).normal(2, 3, size=(5, 3)), jnp.float32)
    real = jnp.array([1.0, 0, 1, 1, 0])
    out, after = jax.jit(model.train)(w, x, real)
    some, some_after = model.train(w, x[real == 1])
    np.testing.assert_allclose(out[real == 1], some, rtol=1e-4, atol=1e-5)
    rows = np.asarray(x)[np.asarray(real) == 1]
    for got in (statistics(after), statistics(some_after)):
        np.testing.assert_allclose(got["mean"], 0.1 * rows.mean(0), rtol=1e-4)  # 0.9 * 0 + 0.1 * mean
        np.testing.assert_allclose(got["var"], 0.9 + 0.1 * rows.var(0), rtol=1e-4)
    garbage = x.at[jnp.array([1, 4])].set(1e6)
    np.testing.assert_allclose(model.train(w, garbage, real)[0][real == 1], some, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("module", [Nnx, Linen()])
def test_evaluation_uses_buffers_and_no_gradient_reaches_them(module):
    model = own(module, (3,), 2)
    w = model.init(jax.random.key(0))
    x = jnp.asarray(np.random.default_rng(0).normal(2, 3, size=(5, 3)), jnp.float32)
    _, w = model.train(w, x)
    stats = statistics(w)
    z = (x - stats["mean"]) / jnp.sqrt(stats["var"] + 1e-5)
    np.testing.assert_allclose(model.features(w, x), z, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.apply(w, x[:1]), model.apply(w, x)[:1], rtol=1e-4, atol=1e-5)
    losses = (
        lambda v: model.train(v, x)[0].sum(),
        lambda v: model.apply(v, x).sum(),
        lambda v: statistics(model.train(v, x)[1])["mean"].sum(),
    )
    for loss in losses:
        gradient = jax.grad(loss)(w)
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient.tree["buffers"]))
    features, after = model.train_features(w, x, jnp.ones(5))
    np.testing.assert_allclose(features, model.features(w, x, train=True), rtol=1e-5)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(model.train(w, x)[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_image_models_mask_all_pixels_of_a_row():
    model = build("resnet:norm=batch,width=2", (8, 8), 3)
    w = model.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (4, 8, 8))
    train = jax.jit(model.train)
    out, after = train(w, x.at[3].set(100.0), jnp.array([1, 1, 1, 0]))
    same, same_after = train(w, x.at[3].set(-7.0), jnp.array([1, 1, 1, 0]))
    np.testing.assert_allclose(out[:3], same[:3], rtol=1e-4, atol=1e-5)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(same_after), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(w), strict=True))


def test_group_norm_has_no_buffers():
    assert "buffers" not in jax.eval_shape(build("resnet", (8, 8), 3).init, jax.random.key(0)).tree


def test_heterofl_scaler_before_the_norm():
    rate = 0.25
    h = jnp.asarray(np.random.default_rng(0).normal(1e-3, 2e-3, size=(6, 3)), jnp.float32)  # so small that epsilon matters
    norm, full = (ScaledBatchNorm(3, r, rngs=nnx.Rngs(0)) for r in (rate, 1.0))
    norm.train()
    scaled = h / rate
    wanted = (scaled - scaled.mean(0)) / jnp.sqrt(scaled.var(0) + EPSILON)
    np.testing.assert_allclose(norm(h), wanted, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(norm.mean[...], 0.1 * h.mean(0), rtol=1e-4)  # statistics of h itself
    np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * h.var(0), rtol=1e-4)
    norm.eval()
    full.eval()
    full.mean[...], full.var[...] = norm.mean[...], norm.var[...]
    np.testing.assert_array_equal(norm(h), full(h))  # evaluation does not scale


def test_mlp_scaler():
    model = build("mlp:4,rate=0.5", (3,), 2)
    w = model.init(jax.random.key(0))
    x = jnp.ones((1, 3))
    hidden = jax.nn.relu(x @ w.tree["dense1"]["kernel"] + w.tree["dense1"]["bias"])
    np.testing.assert_allclose(model.features(w, x), hidden, rtol=1e-5)
    np.testing.assert_allclose(model.features(w, x, train=True), hidden / 0.5, rtol=1e-5)


def test_mlp_with_batch_norm():
    model = build("mlp:4,norm=batch", (3,), 2)
    assert model.blocks == ("dense1", "norm1", "head")
    x = jnp.asarray(np.random.default_rng(0).normal(2, 3, size=(5, 3)), jnp.float32)
    _, w = model.train(model.init(jax.random.key(0)), x)
    stats, hidden = w.tree["buffers"]["norm1"], x @ w.tree["dense1"]["kernel"] + w.tree["dense1"]["bias"]
    z = jax.nn.relu((hidden - stats["mean"]) / jnp.sqrt(stats["var"] + 1e-5))
    np.testing.assert_allclose(model.features(w, x), z, rtol=1e-4, atol=1e-5)
    for wrong, message in (("mlp:4,norm=group", "Known: batch, none"), ("mlp:4,norm=batch,rate=0.5", "no width rate")):
        with pytest.raises(AtollError, match=message):
            build(wrong, (3,), 2)
    with pytest.raises(AtollError, match="width rate"):
        model.narrow(0.5)
