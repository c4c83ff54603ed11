"""HeteroFL against its definition: who holds an element, what one local step is, and what is neither sent nor changed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.fold import ElementMean
from atoll.core.keys import host_generator
from atoll.core.norm import with_own_statistics
from atoll.core.rows import Batch
from atoll.methods.fedavg import FedAvg
from atoll.methods.heterofl import HeteroFL, Part, Place, corner
from atoll.models import build
from tests.harness import Fixed, assert_alike, assert_near, begin, federation, leaves, small_digits, train

PLAIN = {"momentum": 0.0, "decay": 0.0, "clip": 1e30}  # plain SGD


def labels_at(fed, client):
    """[outputs] 1 for the labels of a client's train rows."""
    first, n = fed.start["train"][client], fed.count["train"][client]
    return np.isin(np.arange(len(fed.labels)), fed.y[first : first + n]).astype(float)


def held(model, narrow, labels):
    """A tree of 0/1 arrays: what a client holds of the full model."""
    mine = jax.tree.map(np.shape, narrow.init(jax.random.key(0)).tree, is_leaf=lambda leaf: hasattr(leaf, "shape"))
    out = jax.tree.map(lambda leaf: np.zeros(leaf.shape), model.init(jax.random.key(0)).tree)
    for block in model.blocks:
        for name, whole in out[block].items():
            whole[tuple(slice(n) for n in mine[block][name])] = 1
            if block == model.blocks[-1]:
                whole *= labels
    return out


def test_full_width_and_all_labels_is_fedavg():
    """Uniform and row-weighted means are the same numbers where clients are equally large: n / (c n) and 1 / c round alike."""
    x = np.random.default_rng(0).integers(0, 17, (60, 8, 8)).astype(np.uint8)
    fed = federation(x, np.arange(60, dtype=np.int32) % 3, [(12, 4, 4)] * 3, scale=1 / 16)
    wanted = train(FedAvg(lr=0.05, epochs=2, batch=5), fed, 3)
    for mask in (True, False):
        got = train(HeteroFL(lr=0.05, epochs=2, batch=5, levels="a", mask=mask, **PLAIN), fed, 3)
        assert_alike(got.server, wanted.server)
    narrow = train(HeteroFL(lr=0.05, epochs=2, batch=5, levels="ab", mask=False, **PLAIN), fed, 3)
    assert not np.array_equal(leaves(narrow.server)[1], leaves(wanted.server)[1])


@pytest.mark.parametrize("mask", [True, False])
def test_every_element_is_the_mean_over_the_clients_that_hold_it(mask):
    """A client asked alone leaves its own result in what it holds. Of all clients together, element j is sum_i h_ij w_ij / sum_i h_ij, and the old
    value where nobody holds it. Clients 0 and 2 are full, 1 and 3 have half the width."""
    fed = small_digits()
    method = HeteroFL(levels="ab", epochs=1, batch=4, mask=mask)
    start = begin(method, fed)
    start.start()
    models = start.engine.facts.models
    alone = [train(method, fed, 1, selector=Fixed(i)).server.tree for i in range(4)]
    holds = [held(models[0], models[i % 2], labels_at(fed, i) if mask else np.ones(10)) for i in range(4)]
    together = train(method, fed, 1).server.tree

    def expected(old, *rest):
        w, h = np.array(rest[:4]), np.array(rest[4:])
        return np.where(h.sum(0) > 0, (w * h).sum(0) / np.maximum(h.sum(0), 1), old)

    assert_near(together, jax.tree.map(expected, start.server.tree, *alone, *holds), 1e-6)
    kernel = np.asarray(together["dense1"]["kernel"])
    assert_near(kernel[:, 3:], np.mean([alone[0]["dense1"]["kernel"][:, 3:], alone[2]["dense1"]["kernel"][:, 3:]], axis=0), 1e-6)
    if mask:
        assert min(labels_at(fed, i).sum() for i in range(4)) < 10  # some labels are absent, or the mask would go untested


def test_a_narrow_client_changes_its_corner_and_its_labels_only():
    fed = small_digits()
    method = HeteroFL(levels="ab", epochs=1, batch=4)
    start = begin(method, fed)
    start.start()
    models = start.engine.facts.models
    after = train(method, fed, 1, selector=Fixed(1)).server.tree
    mine = held(models[0], models[1], labels_at(fed, 1))
    for old, new, h in zip(leaves(start.server.tree), leaves(after), leaves(mine), strict=True):
        np.testing.assert_array_equal(new[h == 0], old[h == 0])
        assert (new[h == 1] != old[h == 1]).mean() > 0.5
        assert (h == 0).any()


def test_unchanged_corners_add_up_to_the_unchanged_model():
    """A rate of 1e-60 is 0 in float32."""
    method = HeteroFL(lr=1e-60, levels="abcd", epochs=1)
    start = begin(method, small_digits())
    start.start()
    assert_alike(train(method, small_digits(), 2).server, start.server)


def test_counts_of_elements_on_whole_numbers():
    """Three clients of widths 4, 2, 1 of mlp:4 reply 1, 10 and 100 everywhere; the second lacks label 1, the third has label 0 alone."""
    full = build("mlp:4", (2,), 3)
    fold = ElementMean(Place(full))
    total = None
    for rate, value, labels in ((1.0, 1, (1, 1, 1)), (0.5, 10, (1, 0, 1)), (0.25, 100, (1, 0, 0))):
        W = jax.tree.map(lambda leaf, value=value: jnp.full(leaf.shape, float(value)), full.narrow(rate).init(jax.random.key(0)))
        reply = Part(W, jnp.array(labels, jnp.float32))
        total = fold.add(fold.start(reply) if total is None else total, reply)
    mean, count = fold.finish(total)
    assert_alike(count.tree["dense1"]["bias"], np.array([3, 2, 1, 1.0]))
    assert_near(mean.tree["dense1"]["bias"], np.array([37, 5.5, 1, 1]))
    assert_alike(count.tree["head"]["kernel"], np.array([[3, 1, 2], [2, 1, 2], [1, 1, 1], [1, 1, 1.0]]))
    assert_near(mean.tree["head"]["kernel"], np.array([[37, 1, 5.5], [5.5, 1, 5.5], [1, 1, 1], [1, 1, 1]]))
    assert_near(mean.tree["head"]["bias"], np.array([37, 1, 5.5]))


def test_sizes_of_the_papers_network():
    """Parameters of the MNIST network at the five levels, and so four bytes each per message."""
    full = build("heterofl", (28, 28, 1), 10)
    models = HeteroFL().architectures(full)
    W = jax.eval_shape(lambda key: full.parameters(full.init(key)), jax.random.key(0))
    sizes = [full.size(jax.eval_shape(lambda W, model=model: corner(W, model), W)) for model in models]
    assert sizes == [1_556_874, 391_370, 98_922, 25_274, 6_594]


def test_local_steps_by_hand():
    """Two full-batch steps of a client of half the width with labels 0 and 2 of three, in float64.

    h = relu((x W1 + b1) / r), z = h W2 + b2 with z_1 <- 0: the absent label keeps exp(0) = 1 in the softmax and gets no gradient.
    g <- min(1, clip / |g|) g + decay w, v <- momentum v + g, w <- w - lr v.
    """
    random = np.random.default_rng(3)
    x, y = random.normal(size=(14, 4)).astype(np.float32), np.tile([0, 2], 7).astype(np.int32)
    counts = [(6, 2, 2), (1, 2, 1)]
    fed = federation(x, y, counts, labels=("0", "1", "2"))
    method = HeteroFL(lr=0.3, epochs=2, batch=6, momentum=0.5, decay=0.1, clip=0.2, levels="ba")
    start = begin(method, fed, models=("mlp:8",))
    start.start()
    w = [np.asarray(leaf, np.float64) for leaf in (start.server.tree[b][n] for b in ("dense1", "head") for n in ("kernel", "bias"))]
    W1, b1, W2, b2 = w[0][:, :4], w[1][:4], w[2][:4], w[3]
    w, v, clipped = [W1, b1, W2, b2], [0.0] * 4, []
    for _ in range(2):
        W1, b1, W2, b2 = w
        a = (x[:6] @ W1 + b1) / 0.5
        h = np.maximum(a, 0)
        z = (h @ W2 + b2) * [1, 0, 1]
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        dz = (p - np.eye(3)[y[:6]]) / 6 * [1, 0, 1]
        da = (dz @ W2.T) * (a > 0) / 0.5
        g = [x[:6].T @ da, da.sum(0), h.T @ dz, dz.sum(0)]
        norm = np.sqrt(sum((part**2).sum() for part in g))
        clipped.append(norm > 0.2)
        g = [min(1, 0.2 / norm) * part + 0.1 * part_w for part, part_w in zip(g, w, strict=True)]
        v = [0.5 * old + part for old, part in zip(v, g, strict=True)]
        w = [part - 0.3 * step for part, step in zip(w, v, strict=True)]
    assert all(clipped)
    after = train(method, fed, 1, models=("mlp:8",), selector=Fixed(0)).server.tree
    W, b = np.asarray(after["head"]["kernel"]), np.asarray(after["head"]["bias"])
    got = [after["dense1"]["kernel"][:, :4], after["dense1"]["bias"][:4], W[:4, [0, 2]], b[[0, 2]]]
    assert_near(got, [w[0], w[1], w[2][:, [0, 2]], w[3][[0, 2]]])


def test_prediction_knows_no_scaler():
    """Equal weights predict alike whatever the rate they were trained at; in training the narrow model divides by its rate."""
    narrow, plain = build("mlp:6", (4,), 3).narrow(0.5), build("mlp:3", (4,), 3)
    W, x = plain.init(jax.random.key(1)), jax.random.normal(jax.random.key(2), (5, 4))
    assert_alike(narrow.apply(W, x), plain.apply(W, x))
    assert not np.allclose(narrow.train(W, x)[0], plain.train(W, x)[0])


def test_the_personal_model_is_masked_and_the_global_one_is_not():
    class Me(NamedTuple):
        model: object

    full = build("mlp:4", (2,), 3)
    W, x = full.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (6, 2))
    method, me = HeteroFL(levels="ab"), Me(full.narrow(0.5))
    mine = corner(W, me.model)
    got = method.predict(me, Part(mine, jnp.array([1.0, 0, 1])), x)
    assert_alike(got, np.asarray(me.model.apply(mine, x)) * [1, 0, 1])
    assert_alike(method.predict(me, W, x), full.apply(W, x))


class Rows:
    """All rows as one batch, the last one being filling."""

    def __init__(self, x):
        self.batch = Batch(jnp.concatenate([x, 9 * x[:1]]), jnp.zeros(len(x) + 1, jnp.int32), jnp.append(jnp.ones(len(x)), 0), jax.random.key(0))

    def mean(self, statistic):
        return statistic(self.batch)


def test_own_batch_norm_statistics():
    """The first layer's statistics are mean and variance of its convolution, written out here; all layers' are where training the running ones on
    the same batch for ever ends."""
    model = build("heterofl", (8, 8), 10).narrow(0.0625)
    w = model.init(jax.random.key(0))
    x = jnp.asarray(small_digits().x[:7], jnp.float32) / 16
    got = with_own_statistics(Rows(x), model, model.parameters(w))
    kernel, bias = (np.asarray(w.tree["conv1"][name], np.float64) for name in ("kernel", "bias"))
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1)))
    out = sum(padded[:, i : i + 8, j : j + 8, None] * kernel[i, j, 0] for i in range(3) for j in range(3)) + bias
    first = got.tree["buffers"]["norm1"]
    assert_near(first["mean"], out.mean((0, 1, 2)))
    assert_near(first["var"], out.var((0, 1, 2)))
    limit = jax.lax.fori_loop(0, 300, lambda _, w: model.train(w, x)[1], w)
    assert_near(got, limit, 1e-4)
    assert not np.allclose(leaves(got.tree["buffers"])[0], leaves(w.tree["buffers"])[0])


def test_batch_norm_statistics_are_never_sent():
    training = begin(HeteroFL(levels="e", epochs=1), small_digits(2), models=("heterofl",))
    training.start()
    training.step()
    assert set(training.server.tree) == set(training.engine.facts.models[0].blocks)
    size = training.engine.facts.models[0].size(training.server)
    assert training.fed.traffic.down[:2].tolist() == [4 * size] * 2
    assert training.fed.traffic.up[:2].tolist() == [4 * (size + 10)] * 2
    assert np.isfinite([row["loss"] for row in training.evaluate().to_dicts()]).all()


def test_regression_has_no_labels_to_mask():
    fed = federation(np.ones((12, 2), np.float32), np.arange(12, dtype=np.float32), [(2, 2, 2)] * 2, labels=())
    method = HeteroFL(levels="ab", epochs=1)
    assert np.isfinite(leaves(train(method, fed, 1, models=("mlp:4",)).server)[0]).all()


def test_levels_are_checked_before_training():
    with pytest.raises(AtollError, match="letters from a"):
        begin(HeteroFL(levels="ax"), small_digits())
    with pytest.raises(AtollError, match="cannot be made narrower"):
        begin(HeteroFL(), small_digits(), models=("softmax",))
    with pytest.raises(AtollError, match="several architectures"):
        begin(HeteroFL(), small_digits(), models=("mlp:6", "mlp:7"))


def test_widths_that_are_drawn_anew_in_every_round():
    """A round is that of fixed widths which spell what was drawn: the same bits at the server, the same bytes and FLOPs at every client. Who is asked does not
    change what others draw. To predict, clients mask the widest model."""
    fed, how = small_digits(4), {"lr": 0.05, "epochs": 1, "batch": 8}
    training = begin(HeteroFL(**how, levels="ab", dynamic=True), fed, models=("mlp:4",), selector=Fixed(0, 2, 3))
    training.start()
    training.step()
    first, drawn = ("".join("ab"[i] for i in host_generator(0, "widths", round).integers(2, size=4)) for round in (1, 2))
    assert (first, drawn) == ("aaba", "bbab")
    sizes = {"a": (64 + 1) * 4 + (4 + 1) * 10, "b": (64 + 1) * 2 + (2 + 1) * 10}
    assert training.fed.traffic.down[:4].tolist() == [4 * sizes["a"], 0, 4 * sizes["b"], 4 * sizes["a"]]
    fixed = begin(HeteroFL(**how, levels=drawn), fed, models=("mlp:4",), selector=Fixed(0, 2, 3))
    fixed.restore(1, training.server, {})
    fixed.step()
    training.step()
    assert_alike(training.server, fixed.server)
    for name in ("down", "up", "flops"):
        np.testing.assert_array_equal(getattr(training.fed.traffic, name), getattr(fixed.fed.traffic, name))
    assert training.fed.traffic.down[:4].tolist() == [4 * sizes["b"], 0, 4 * sizes["a"], 4 * sizes["b"]]
    scores = training.evaluate().filter(split="test", client=1).sort("model")
    w = training.server.tree
    at = slice(fed.start["test"][1], fed.start["test"][1] + 6)
    h = np.maximum(fed.x[at].reshape(6, -1) / 16 @ w["dense1"]["kernel"] + w["dense1"]["bias"], 0)
    z = (h @ w["head"]["kernel"] + w["head"]["bias"]) * labels_at(fed, 1)
    wanted = np.sum(np.log(np.exp(z).sum(1)) - z[np.arange(6), fed.y[at]])
    assert scores.filter(model="personal")["loss"].item() == pytest.approx(float(wanted), rel=1e-4)


@pytest.mark.parametrize("engine", ["wire", pytest.param("loop", marks=pytest.mark.long)])
def test_a_width_that_changes_in_all_engines(engine):
    """Also what it costs: bytes of messages that are really sent, and FLOPs step by step, where what a loop costs is remembered from round to round."""
    fed, method = small_digits(2), HeteroFL(levels="ab", dynamic=True, epochs=1, batch=50)
    found = []
    for name in ("simulate", engine):
        training = begin(method, fed, models=("mlp:4",), engine=name)
        training.start()
        costs = []
        for _ in range(2):
            training.step()
            traffic = training.fed.traffic
            costs.append([list(sums[:2]) for sums in (traffic.flops, traffic.down, traffic.up)])
        found.append((training.server, training.evaluate()["loss"].to_numpy(), np.array(costs)))
    assert_near(*found)
    assert np.ptp(found[0][2], axis=0).min() > 0  # both clients changed their width, in all three


def test_clients_take_the_levels_in_turn():
    facts = begin(HeteroFL(levels="aab"), small_digits()).engine.facts
    widths = [facts.models[kind].init(jax.random.key(0)).tree["dense1"]["bias"].shape for kind in facts.architecture[:4]]
    assert widths == [(6,), (6,), (3,), (6,)]
    assert facts.architecture[0] == facts.architecture[1]  # one architecture, compiled once
