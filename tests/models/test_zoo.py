"""The models of the zoo: published sizes, shapes for every task, names and options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.signal import correlate2d

from atoll.core.errors import AtollError
from atoll.models import TABLE, build, parse
from atoll.models.steganalyser import Steganalyser, residual_filters


def shapes(model):
    return jax.eval_shape(model.init, jax.random.key(0))


SIZES = [
    ("softmax", (28, 28), 7_850),
    ("softmax:bias=false", (28, 28), 7_840),
    ("mlp", (28, 28), 159_010),
    ("mlp:200,200", (28, 28), 199_210),  # McMahan's 2NN
    ("lenet", (28, 28), 61_706),  # LeNet-5 with a full second convolution
    ("lenet", (32, 32, 3), 62_006),
    ("cnn", (28, 28), 1_663_370),
    ("cnn", (28, 28, 1), 1_663_370),
    ("resnet:depth=20,norm=batch", (32, 32, 3), 269_722 + 16 * 32 + 32 * 64),  # ResNet-20 plus two 1x1 shortcuts
    ("heterofl", (28, 28), 1_556_874),
    ("heterofl:0.5", (28, 28), 391_370),
    ("heterofl:0.25", (28, 28), 98_922),
    ("heterofl:0.125", (28, 28), 25_274),
    ("heterofl:0.0625", (28, 28), 6_594),
    ("steganalyser", (32, 32), 6 * 8 * 9 + 8 + 8 * 16 * 9 + 16 + 16 * 16 + 16 + 16 * 10 + 10),
    ("lstm", (80,), 90 * 8 + 4 * 100 * (8 + 100 + 1) + 4 * 100 * (100 + 100 + 1) + 101 * 90),
    ("gru", (80,), 90 * 8 + 3 * 100 * (8 + 100 + 1) + 100 + 101 * 90),
]


@pytest.mark.parametrize(("name", "shape", "size"), SIZES)
def test_number_of_parameters(name, shape, size):
    text = len(shape) == 1
    model = build(name, shape, 90 if text else 10, "sequence" if text else "classification")
    assert model.size(shapes(model)) == size


SMALL = [
    ("softmax", (8, 8), "classification"),
    ("softmax", (5,), "regression"),
    ("mlp:4", (8, 8, 3), "classification"),
    ("lenet", (8, 8), "classification"),
    ("lenet", (20, 21), "classification"),
    ("cnn", (8, 9, 2), "classification"),
    ("resnet", (8, 8), "classification"),
    ("resnet:norm=batch", (9, 11, 3), "regression"),
    ("heterofl:0.0625", (8, 8), "classification"),
    ("steganalyser:3,hidden=4", (9, 12), "classification"),
    ("gru:6", (5,), "sequence"),
    ("lstm:6,vocabulary=9", (5,), "classification"),
    ("bilstm:6,vocabulary=9,layers=2", (5,), "classification"),
]


@pytest.mark.parametrize(("name", "shape", "task"), SMALL)
def test_shapes_and_parts(name, shape, task):
    outputs = 1 if task == "regression" else 7
    model = build(name, shape, outputs, task)
    x = jax.ShapeDtypeStruct((3, *shape), jnp.int32 if len(shape) == 1 and task != "regression" else jnp.float32)
    w = shapes(model)
    wanted = (3, shape[0], outputs) if task == "sequence" else (3, outputs)
    assert jax.eval_shape(model.apply, w, x).shape == wanted
    out, after = jax.eval_shape(model.train, w, x, jnp.ones(3))
    assert out.shape == wanted
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, w)
    shared, private = jax.eval_shape(lambda w: model.split(w, 1), w)
    z = jax.eval_shape(model.features, shared, x)
    assert z.shape[:-1] == wanted[:-1]
    assert jax.eval_shape(model.head, private, z).shape == wanted
    z, kept = jax.eval_shape(model.train_features, shared, x)
    assert set(kept.tree) == set(shared.tree)
    assert set(w.tree) - {"buffers"} == set(model.blocks)
    assert model.blocks[-1] == "head"


@pytest.mark.parametrize("name", ["lenet", "gru:6"])
def test_outputs_are_the_head_of_the_features(name):
    text = name.startswith("gru")
    model = build(name, (8,) if text else (8, 8), 5, "sequence" if text else "classification")
    w = model.init(jax.random.key(0))
    x = jnp.arange(16).reshape(2, 8) % 5 if text else jax.random.normal(jax.random.key(1), (2, 8, 8))
    np.testing.assert_allclose(model.head(w, model.features(w, x)), model.apply(w, x), rtol=1e-5)
    np.testing.assert_allclose(model.train(w, x)[0], model.apply(w, x), rtol=1e-5)  # neither dropout nor batch norm


def test_linear_regression_is_a_product():
    model = build("softmax", (3,), 1, "regression")
    w = model.init(jax.random.key(0))
    x = jnp.asarray([[1.0, 2.0, 3.0]])
    np.testing.assert_allclose(model.apply(w, x), x @ w.tree["head"]["kernel"] + w.tree["head"]["bias"], rtol=1e-6)
    assert set(shapes(build("softmax", (3,), 1, "regression", bias=False)).tree["head"]) == {"kernel"}


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_recurrent_layers_by_hand(name):
    model = build(f"{name}:4,layers=1", (6,), 5, "sequence")
    w = model.init(jax.random.key(0))
    tree = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.1, w.tree)  # so that no bias is zero
    tokens = np.array([[0, 1, 2, 3, 4, 0], [4, 4, 1, 0, 2, 3]])
    layer, h, c = tree["layer1"], np.zeros((2, 4)), np.zeros((2, 4))
    for t in range(6):
        gates = np.split(tree["embedding"]["embedding"][tokens[:, t]] @ layer["input"] + layer["bias"], 4 if name == "lstm" else 3, axis=1)
        back = np.split(h @ layer["recurrent"], len(gates), axis=1)
        if name == "gru":
            r, z = sigmoid(gates[0] + back[0]), sigmoid(gates[1] + back[1])
            h = z * h + (1 - z) * np.tanh(gates[2] + r * (back[2] + layer["inner"]))
        else:
            i, f, g, o = (a + b for a, b in zip(gates, back, strict=True))
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        w = type(w)(jax.tree.map(jnp.asarray, tree))
        np.testing.assert_allclose(model.features(w, jnp.asarray(tokens))[:, t], h, rtol=1e-4, atol=1e-5)


def test_forget_gate_starts_open():
    bias = build("lstm:3", (4,), 5, "sequence").init(jax.random.key(0)).tree["layer1"]["bias"]
    np.testing.assert_array_equal(bias, [0] * 3 + [1] * 3 + [0] * 6)


def test_residuals_by_hand():
    """Against SciPy's correlation, cut off at 3 grey levels; no residual on a flat image, and of the linear filters none but the first two on a slope."""
    bank = residual_filters()[:, :, 0]
    x = np.random.default_rng(0).integers(0, 256, (7, 9)).astype(np.float32)
    net = Steganalyser((7 + 2, 9), 2, 1, 1, 3.0, 255.0, rngs=nnx.Rngs(0))
    got = net.residuals(jnp.asarray(x)[None] / 255)[0]
    for i in range(6):
        np.testing.assert_allclose(got[..., i], np.clip(correlate2d(x, bank[..., i], "valid"), -3, 3), atol=2e-3)
    slope = np.add.outer(0.3 * np.arange(8), 0.7 * np.arange(8))
    flat = net.residuals(jnp.asarray(np.stack([np.full((8, 8), 99.0), slope]) / 255))
    np.testing.assert_allclose(flat[0], 0, atol=1e-3)
    np.testing.assert_allclose(flat[1, ..., 2:], 0, atol=1e-4)
    np.testing.assert_allclose(flat[1, 0, 0, :2], [0.7, 0.3], atol=1e-4)
    assert abs(bank).max(axis=(0, 1)).tolist() == [1] * 6


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("mlp", "mlp", {}),
        ("mlp:200", "mlp", {"hidden": 200}),
        (" mlp : 200, 100 ,rate=0.5", "mlp", {"hidden": (200, 100), "rate": 0.5}),
        ("resnet:norm=batch,depth=14", "resnet", {"norm": "batch", "depth": 14}),
        ("softmax:bias=False", "softmax", {"bias": False}),
        ("heterofl:0.25", "heterofl", {"rate": 0.25}),
    ],
)
def test_names_are_parsed(text, name, options):
    assert parse(text) == (name, options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mpl", "Unknown model 'mpl'. Did you mean mlp?"),
        ("resnet:nrom=batch", "Unknown option of model resnet 'nrom'. Did you mean norm?"),
        ("resnet:14", "has no name; write resnet:option=value"),
        ("cnn:depth=3", "Model cnn has no options, but 'depth' is given"),
        ("mlp:rate=.5,rate=1", "'rate' is given twice"),
        ("mlp:20,hidden=30", "'hidden' is given twice"),
    ],
)
def test_names_are_refused_with_advice(text, message):
    with pytest.raises(AtollError) as error:
        parse(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "shape", "task", "message"),
    [
        ("mlp:0", (8, 8), "classification", "positive whole numbers"),
        ("mlp:2.5", (8, 8), "classification", "positive whole numbers"),
        ("mlp:rate=2", (8, 8), "classification", "a width rate lies in (0, 1]"),
        ("heterofl:wide", (8, 8), "classification", "a width rate lies in (0, 1]"),
        ("resnet:norm=btach", (8, 8), "classification", "Did you mean batch?"),
        ("resnet:depth=9", (8, 8), "classification", "6n + 2"),
        ("resnet:width=3", (8, 8), "classification", "even number"),
        ("softmax:bias=5", (8, 8), "classification", "bias is true or false"),
        ("cnn", (784,), "classification", "not rows of shape 784"),
        ("cnn", (2, 2), "classification", "at least 4x4"),
        ("cnn", (8, 8), "sequence", "Use gru or lstm"),
        ("steganalyser", (8, 8, 3), "classification", "grey images"),
        ("steganalyser:threshold=0", (8, 8), "classification", "above 0"),
        ("gru", (8, 8), "sequence", "rows of tokens [T]"),
        ("gru", (8,), "classification", "gru:vocabulary=90"),
        ("gru:0", (8,), "sequence", "hidden is a positive whole number"),
        ("mlp", (8,), "clasification", "Did you mean classification?"),
    ],
)
def test_bad_options_are_refused_with_advice(text, shape, task, message):
    with pytest.raises(AtollError) as error:
        build(text, shape, 5, task)
    assert message in str(error.value)


def test_options_as_arguments_win():
    assert [leaf.shape for leaf in jax.tree.leaves(shapes(build("mlp:9", (4,), 2, hidden=(3,))))] == [(3,), (4, 3), (2,), (3, 2)]
    with pytest.raises(AtollError, match="Did you mean hidden"):
        build("mlp", (4,), 2, hiden=3)
    with pytest.raises(AtollError, match="number of outputs"):
        build("mlp", (4,), 0)


def test_every_row_of_the_table_builds():
    for name in TABLE:
        text = name in ("gru", "lstm", "bilstm")
        options = {"vocabulary": 9} if name == "bilstm" else {}
        assert build(name, (12,) if text else (8, 8), 4, "sequence" if name in ("gru", "lstm") else "classification", **options).name == name


def test_a_text_is_read_in_both_directions_by_hand():
    """Layers ahead and back, each by the single layer's own test, then the mean over the characters that are there."""
    model, one = build("bilstm:4,vocabulary=5", (6,), 3, "classification"), build("lstm:4,layers=1", (6,), 5, "sequence")
    w = model.init(jax.random.key(0))
    tokens = jnp.array([[1, 2, 3, 4, 0, 0], [4, 4, 1, 2, 2, 3]])
    layer = w.tree["layer1"]
    part = {way: type(w)({"embedding": w.tree["embedding"], "layer1": layer[way]}) for way in ("onward", "backward")}
    onward, backward = one.features(part["onward"], tokens), one.features(part["backward"], tokens[:, ::-1])[:, ::-1]
    both = np.concatenate([onward, backward], axis=2)
    np.testing.assert_allclose(model.features(w, tokens), [both[0, :4].mean(axis=0), both[1].mean(axis=0)], rtol=1e-5, atol=1e-6)
