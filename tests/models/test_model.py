"""Vectors, cuts and modes of a model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tree_math import Vector

from atoll.core.errors import AtollError
from atoll.core.model import Model
from atoll.models import build

BATCH = build("resnet:norm=batch,width=2", (8, 8), 3)  # with buffers
MLP = build("mlp:5,4", (3,), 2)


def weights(model, seed=0):
    """Weights of the right shapes without the cost of compiling initialisers."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda s: jnp.asarray(rng.uniform(0.1, 1, s.shape), s.dtype), shapes)


def equal(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


W = weights(BATCH)


@settings(deadline=None, max_examples=40)
@given(st.one_of(st.integers(0, len(BATCH.firsts)), st.sets(st.sampled_from(BATCH.blocks)).map(tuple)))
def test_join_inverts_split(personal):
    shared, private = BATCH.split(W, personal)
    assert equal(BATCH.join(shared, private), W)
    assert equal(BATCH.join(private, shared), W)
    mine = BATCH.personal_blocks(personal)
    assert set(private.tree) - {"buffers"} == set(mine)
    assert set(shared.tree) - {"buffers"} == set(BATCH.blocks) - set(mine)
    assert BATCH.size(shared) + BATCH.size(private) == BATCH.size(W)
    for part in (shared, private):  # buffers go with their block, and an empty entry is left out
        assert set(part.tree.get("buffers", {})) == {b for b in part.tree if b.startswith("norm")}
        assert "buffers" not in part.tree or part.tree["buffers"]


def test_split_by_number_takes_the_last_blocks():
    assert MLP.blocks == ("dense1", "dense2", "head")
    for n, kept in ((0, ()), (1, ("head",)), (2, ("dense2", "head")), (3, MLP.blocks)):
        assert MLP.personal_blocks(n) == kept
    assert MLP.personal_blocks("head") == MLP.personal_blocks(["head"]) == ("head",)


def test_numbers_count_residual_pairs_with_their_norms():
    assert BATCH.personal_blocks(2) == ("short6", "conv6", "norm6", "conv7", "norm7", "head")
    assert BATCH.personal_blocks(5) == BATCH.blocks
    assert build("resnet:depth=14", (8, 8), 3).personal_blocks(2) == ("conv12", "norm12", "conv13", "norm13", "head")
    with pytest.raises(AtollError, match="has 5 blocks, which begin with conv1, conv2, short4"):
        BATCH.personal_blocks(6)


CUTS = [
    (MLP, ["dense2", "head"]),
    (build("lenet", (8, 8), 3), ["conv2", "dense1", "head"]),
    (build("cnn", (4, 4), 3), ["conv2", "dense"]),
    (build("steganalyser:2", (8, 9), 3), ["conv2", "dense"]),
    (build("lstm:3,layers=2", (5,), 4, "sequence"), ["layer1", "layer2", "head"]),
    (BATCH, ["norm1"]),
]


@pytest.mark.parametrize(("model", "blocks"), CUTS, ids=[model.name for model, _ in CUTS])
def test_a_model_is_its_lower_and_its_upper_part(model, blocks):
    """In training mode with a masked row: outputs, and the statistics of both parts together, are those of the whole; each part needs its own blocks only."""
    random, w = np.random.default_rng(1), weights(model)
    x = jnp.asarray(random.integers(0, 4, (3, 5)) if model.task == "sequence" else random.normal(size=(3, *model.input_shape)).astype(np.float32))
    mask = jnp.array([1.0, 1, 0])
    out, after = jax.jit(model.train)(w, x, mask)

    def both(w, block):
        lower, upper = model.split(w, model.blocks[model.blocks.index(block) :])
        z, lower = model.below(lower, x, block, True, mask)
        cut, upper = model.above(upper, z, block, True, mask)
        return cut, model.join(lower, upper)

    model.check_cut(blocks[0])
    for block in blocks:
        cut, joined = jax.jit(both, static_argnums=1)(w, block)
        np.testing.assert_allclose(cut, out, rtol=2e-4, atol=1e-5)
        for a, b in zip(jax.tree.leaves(joined), jax.tree.leaves(after), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_cuts_that_something_goes_around_are_refused():
    with pytest.raises(AtollError, match="cannot be cut before block 'conv4'"):
        BATCH.check_cut("conv4")
    with pytest.raises(AtollError, match="Unknown block"):
        BATCH.check_cut("conv99")


def test_split_and_join_refuse_with_advice():
    w = weights(MLP)
    with pytest.raises(AtollError, match=r"Unknown block of model 'mlp' 'haed'. Did you mean head\?"):
        MLP.split(w, ("haed",))
    with pytest.raises(AtollError, match="has 3 blocks"):
        MLP.split(w, 4)
    with pytest.raises(AtollError, match="has 3 blocks"):
        MLP.split(w, -1)
    shared, private = MLP.split(w, 1)
    with pytest.raises(AtollError, match="both have dense1, dense2"):
        MLP.join(shared, shared)
    with pytest.raises(AtollError, match="neither has dense1, dense2"):
        MLP.join(private, MLP.split(w, 0)[1])
    with pytest.raises(AtollError, match=r"lack head\. Join the parts first"):
        MLP.apply(shared, jnp.ones((1, 3)))


def test_split_inside_a_compiled_program():
    @jax.jit
    def there_and_back(w):
        return BATCH.join(*BATCH.split(w, 2))

    assert equal(there_and_back(W), W)


def test_weights_are_vectors():
    u, v = weights(MLP, 1), weights(MLP, 2)
    flat = [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(w)]) for w in (u, v)]
    np.testing.assert_allclose(u @ v, flat[0] @ flat[1], rtol=1e-5)
    np.testing.assert_allclose(MLP.apply(u + (v - u), jnp.ones((1, 3))), MLP.apply(v, jnp.ones((1, 3))), rtol=1e-5)
    assert MLP.size(u) == len(flat[0]) == 5 * 3 + 5 + 5 * 4 + 4 + 4 * 2 + 2
    assert isinstance(MLP.init(jax.random.key(0)), Vector)


def test_head_after_features_gives_the_outputs_from_parts_alone():
    x = jnp.ones((2, 3))
    w = weights(MLP)
    shared, private = MLP.split(w, 1)
    z = MLP.features(shared, x)
    assert z.shape == (2, 4)
    np.testing.assert_array_equal(MLP.head(private, z), MLP.apply(w, x))


def test_parameters_leave_buffers_out():
    assert set(BATCH.parameters(W).tree) == set(BATCH.blocks)
    assert equal(MLP.parameters(weights(MLP)), weights(MLP))


def test_gradients_match_finite_differences():
    model = build("lenet", (8, 8), 3)
    w = jax.tree.map(lambda leaf: leaf - 0.55, weights(model))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8)), jnp.float32)
    direction = jax.tree.map(lambda leaf: leaf - 0.55, weights(model, 1))

    def loss(w):
        return jnp.tanh(model.apply(w, x) / 100).sum()

    difference = (loss(w + 1e-3 * direction) - loss(w - 1e-3 * direction)) / 2e-3
    np.testing.assert_allclose(jax.grad(loss)(w) @ direction, difference, rtol=2e-2)


def test_hashable_by_identity_and_built_once():
    """A program compiled for a model is found again by it, so that a model asked for twice must be one."""
    assert build("mlp:5,5", (3,), 2) is build("mlp:5,5", (3,), 2)
    other = build("mlp:5,4", (3,), 3)
    assert len({MLP, other}) == 2
    assert other != MLP
    assert dataclasses.replace(MLP) != MLP
    apply = jax.jit(Model.apply, static_argnums=0)
    assert apply(MLP, weights(MLP), jnp.ones((1, 3))).shape == (1, 2)


def test_vmap_over_models_and_scan_over_steps():
    keys = jax.random.split(jax.random.key(0), 3)
    many = jax.vmap(MLP.init)(keys)
    x = jnp.ones((2, 3))
    each = jax.vmap(MLP.apply, (0, None))(many, x)
    np.testing.assert_allclose(each[1], MLP.apply(MLP.init(keys[1]), x), rtol=1e-5)

    def step(w, _):
        return w - 0.1 * jax.grad(lambda v: (MLP.train(v, x)[0] ** 2).sum())(w), None

    w, _ = jax.lax.scan(step, MLP.init(keys[0]), None, length=3)
    with jax.disable_jit():
        slow = MLP.init(keys[0])
        for _ in range(3):
            slow, _ = step(slow, None)
    np.testing.assert_allclose(MLP.apply(w, x), MLP.apply(slow, x), rtol=1e-4, atol=1e-6)


def test_a_model_needs_a_known_task_and_blocks():
    with pytest.raises(AtollError, match="Did you mean classification"):
        Model("m", ("a",), 1, (1,), "clasification", MLP.network)
    with pytest.raises(AtollError, match="no blocks"):
        Model("m", (), 1, (1,), "regression", MLP.network)
    with pytest.raises(AtollError, match="cannot name a block"):
        Model("m", ("buffers",), 1, (1,), "regression", MLP.network)


def test_narrow_models_are_corners_of_the_full_one():
    full = build("mlp:6,5", (3,), 2)
    half = full.narrow(0.5)
    assert half is full.narrow(0.5)
    assert half.narrow(1.0) is full
    wide, slim = (jax.eval_shape(m.init, jax.random.key(0)) for m in (full, half))
    assert [leaf.shape for leaf in jax.tree.leaves(slim)] == [(3,), (3, 3), (3,), (3, 3), (2,), (3, 2)]
    for small, large in zip(jax.tree.leaves(slim), jax.tree.leaves(wide), strict=True):
        assert all(n <= m for n, m in zip(small.shape, large.shape, strict=True))
    with pytest.raises(AtollError, match="cannot be made narrower"):
        BATCH.narrow(0.5)
