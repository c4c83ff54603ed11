"""The user's own modules: flax.nnx, flax.linen and plain functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from atoll.core.errors import AtollError
from atoll.methods.fedavg import FedAvg
from atoll.models import own
from atoll.models.adapt import from_functions
from tests.harness import assert_same, federation, train


class Zebra(nnx.Module):
    """Blocks whose definition order is not alphabetic, with nested and bare parameters."""

    def __init__(self, *, rngs):
        self.zebra = nnx.Linear(3, 4, rngs=rngs)
        self.inner = nnx.List([nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)])
        self.gain = nnx.Param(jnp.ones(4))
        self.about = "not a block"
        self.ape = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.zebra(x))
        for layer in self.inner:
            x = nnx.relu(layer(x))
        return self.ape(x * self.gain[...])


class Boar(linen.Module):
    """The same in linen."""

    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Dense(4, name="zebra")(x))
        gain = self.param("gain", linen.initializers.ones, (4,))
        return linen.Dense(2, name="ape")(x * gain)


def functions():
    def init(key):
        return {"zebra": {"kernel": jax.random.normal(key, (3, 4))}, "ape": {"kernel": jnp.ones((4, 2))}}

    def apply(p, x):
        return jnp.tanh(x @ p["zebra"]["kernel"]) @ p["ape"]["kernel"]

    return init, apply


X = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)


@pytest.mark.parametrize(
    ("module", "name", "blocks"),
    [
        (Zebra, "Zebra", ("zebra", "inner", "gain", "ape")),
        (lambda rngs: Zebra(rngs=rngs), "<lambda>", ("zebra", "inner", "gain", "ape")),
        (Zebra(rngs=nnx.Rngs(0)), "Zebra", ("zebra", "inner", "gain", "ape")),
        (Boar(), "Boar", ("zebra", "gain", "ape")),
        (functions(), "apply", ("zebra", "ape")),
    ],
)
def test_blocks_and_outputs(module, name, blocks):
    model = own(module, (3,), 2)
    assert (model.name, model.blocks) == (name, blocks)
    w = model.init(jax.random.key(0))
    assert set(w.tree) == set(blocks)
    assert jax.jit(model.apply)(w, X).shape == (5, 2)
    out, after = model.train(w, X, jnp.ones(5))
    np.testing.assert_allclose(out, model.apply(w, X), rtol=1e-5)
    assert (after - w) @ (after - w) == 0
    shared, private = model.split(w, 1)
    assert set(private.tree) == {"ape"}
    if not isinstance(module, tuple):
        z = jax.jit(model.features)(shared, X)  # from the shared part alone, and first used inside a compiled program
        np.testing.assert_allclose(jax.jit(model.head)(private, z), model.apply(w, X), rtol=1e-5, atol=1e-6)


def test_outputs_are_the_modules_own():
    module = Zebra(rngs=nnx.Rngs(3))
    model = own(module, (3,), 2)
    np.testing.assert_allclose(model.apply(model.init(jax.random.key(9)), X), module(X), rtol=1e-6)  # an instance keeps its weights
    boar = Boar()
    model = own(boar, (3,), 2)
    w = model.init(jax.random.key(1))
    np.testing.assert_allclose(model.apply(w, X), boar.apply({"params": w.tree}, X), rtol=1e-6)


def test_a_sequential_has_its_layers_as_blocks():
    model = own(lambda rngs: nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), nnx.relu, nnx.Linear(4, 2, rngs=rngs)), (3,), 2, name="seq")
    assert model.blocks == ("layer0", "layer2")
    w = model.init(jax.random.key(0))
    shared, private = model.split(w, 1)
    np.testing.assert_allclose(model.head(private, model.features(shared, X)), model.apply(w, X), rtol=1e-5)


def test_linen_sequential():
    model = own(linen.Sequential([linen.Dense(4), linen.relu, linen.Dense(2)]), (3,), 2)
    assert model.blocks == ("layers_0", "layers_2")
    w = model.init(jax.random.key(0))
    np.testing.assert_allclose(model.head(w, model.features(w, X)), model.apply(w, X), rtol=1e-5)


class Scaled(nnx.Module):
    def __init__(self, rngs):
        self.body = nnx.Linear(3, 4, rngs=rngs)
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return 3 * self.head(self.body(x)) + 1


class Offering(Scaled):
    """Offers its features, which are not what the head is called with otherwise."""

    def features(self, x):
        return self.body(x)

    def __call__(self, x):
        return self.head(self.features(x))


class Backwards(nnx.Module):
    def __init__(self, rngs):
        self.head = nnx.Linear(4, 2, rngs=rngs)
        self.body = nnx.Linear(3, 4, rngs=rngs)

    def __call__(self, x):
        return self.head(self.body(x))


class LinenScaled(linen.Module):
    @linen.compact
    def __call__(self, x):
        return 3 * linen.Dense(2)(linen.Dense(4)(x))


class Bare(nnx.Module):
    def __init__(self, rngs):
        self.body = nnx.Linear(3, 2, rngs=rngs)
        self.shift = nnx.Param(jnp.ones(2))

    def __call__(self, x):
        return self.body(x) + self.shift[...]


@pytest.mark.parametrize("module", [Scaled, Backwards, LinenScaled(), Bare, functions()])
def test_what_cannot_be_cut_says_so_when_asked(module):
    model = own(module, (3,), 2)
    w = model.init(jax.random.key(0))
    assert model.apply(w, X).shape == (5, 2)
    with pytest.raises(AtollError, match=r"cannot be cut into features and head|bare parameter|made without"):
        jax.jit(model.features)(w, X)
    with pytest.raises(AtollError, match=r"cannot be cut into features and head|bare parameter|made without"):
        model.head(w, jnp.ones((5, 4)))


def test_a_features_method_is_taken():
    model = own(Offering, (3,), 2)
    w = model.init(jax.random.key(0))
    body = w.tree["body"]
    np.testing.assert_allclose(model.features(w, X), X @ body["kernel"] + body["bias"], rtol=1e-5, atol=1e-6)


def test_functions_with_features_and_head():
    init, apply = functions()
    model = from_functions(
        init, apply, (3,), 2, features=lambda p, x: jnp.tanh(x @ p["zebra"]["kernel"]), head=lambda p, z: z @ p["ape"]["kernel"]
    )
    w = model.init(jax.random.key(0))
    np.testing.assert_allclose(model.head(w, model.features(w, X)), model.apply(w, X), rtol=1e-6)


class NnxDropout(nnx.Module):
    def __init__(self, rngs):
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.drop(x))


class LinenDropout(linen.Module):
    @linen.compact
    def __call__(self, x, deterministic=True):
        return linen.Dense(2)(linen.Dropout(0.5)(x, deterministic=deterministic))


@pytest.mark.parametrize("module", [NnxDropout, LinenDropout()])
def test_dropout_draws_from_the_key(module):
    model = own(module, (3,), 2)
    w = model.init(jax.random.key(0))
    assert set(w.tree) == set(model.blocks)
    with pytest.raises(AtollError, match="pass a key"):
        model.train(w, X)
    outs = [model.train(w, X, key=jax.random.key(s))[0] for s in (1, 1, 2)]
    np.testing.assert_array_equal(outs[0], outs[1])
    assert (outs[0] != outs[2]).any()
    np.testing.assert_array_equal(model.apply(w, X), model.apply(w, X))


def test_a_model_with_dropout_trains():
    """Every batch brings a key of its own, so two runs are the same and the head moves."""
    x, y = np.arange(30, dtype=np.float32).reshape(10, 3) / 30, np.arange(10, dtype=np.int32) % 2
    fed = federation(x, y, [(6, 2, 2)])
    model = own(NnxDropout, (3,), 2)
    one, two = (train(FedAvg(batch=2, lr=0.5), fed, 2, models=(model,)).server for _ in range(2))
    assert_same(one, two)
    assert not np.allclose(one.tree["head"]["kernel"], model.init(jax.random.key(0)).tree["head"]["kernel"])


class Silent(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2)(linen.BatchNorm(use_running_average=False)(x))


class Empty(nnx.Module):
    def __call__(self, x):
        return x


@pytest.mark.parametrize(
    ("module", "shape", "outputs", "message"),
    [
        (Zebra, (3,), 5, "gives outputs of shape [2, 2] for a batch of 2 rows; task 'classification' with 5 outputs needs [2, 5]"),
        (Zebra, (4,), 2, "cannot be run on a batch of shape [2, 4]"),
        (Boar, (3,), 2, "give an instance"),
        (Silent(), (3,), 2, "does not say when it trains"),
        (lambda _: Empty(), (3,), 3, "nothing to train"),
        ((lambda _: [jnp.ones(3)], lambda _, x: x), (3,), 3, "init must return a dict"),
        (5, (3,), 2, "not of int"),
    ],
)
def test_what_does_not_fit_is_refused(module, shape, outputs, message):
    with pytest.raises(AtollError) as error:
        own(module, shape, outputs)
    assert message in str(error.value)


def test_sequence_modules_get_tokens():
    model = own(lambda rngs: nnx.Sequential(nnx.Embed(7, 4, rngs=rngs), nnx.Linear(4, 7, rngs=rngs)), (6,), 7, "sequence", name="tokens")
    assert model.apply(model.init(jax.random.key(0)), jnp.zeros((2, 6), jnp.int32)).shape == (2, 6, 7)


def test_noted_values_are_not_buffers():
    class Sower(nnx.Module):
        def __init__(self, rngs):
            self.head = nnx.Linear(3, 2, rngs=rngs)

        def __call__(self, x):
            self.seen = nnx.Intermediate(x)
            return self.head(x)

    model = own(Sower, (3,), 2)
    assert set(model.train(model.init(jax.random.key(0)), X)[1].tree) == {"head"}


@pytest.mark.parametrize("module", [Zebra, Boar()])
def test_modules_are_cut_before_a_block(module):
    model = own(module, (3,), 2)
    w = model.init(jax.random.key(0))
    lower, upper = model.split(w, ("ape",))
    z, _ = model.below(lower, X, "ape")
    np.testing.assert_allclose(model.above(upper, z, "ape")[0], model.apply(w, X), rtol=1e-5)
    with pytest.raises(AtollError, match="'gain'"):
        model.below(w, X, "gain")  # a bare parameter is never called


def test_functions_are_cut_before_the_head_only():
    init, apply = functions()
    model = from_functions(init, apply, (3,), 2, features=lambda p, x: jnp.tanh(x @ p["zebra"]["kernel"]), head=lambda p, z: z @ p["ape"]["kernel"])
    model.check_cut("ape")
    with pytest.raises(AtollError, match="before its last block 'ape' only"):
        model.check_cut("zebra")
