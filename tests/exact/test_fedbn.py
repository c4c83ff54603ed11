"""FedBN: what stays at the clients, whatever the model; with nothing to keep it is FedAvg."""

from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from flax import linen, nnx

from atoll.core.errors import AtollError
from atoll.core.keys import common_key
from atoll.core.method import stateless
from atoll.core.norm import join_norm, shapes, split_norm
from atoll.engine.wire import Node
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedbn import FedBN
from atoll.models import build, own
from tests.exact.plain import rows
from tests.harness import Fixed, assert_alike, assert_near, leaves, normed, small_digits, train


class Inner(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(4, 4, rngs=rngs)
        self.shortcut = nnx.BatchNorm(4, rngs=rngs)  # not called "bn"
        self.layer = nnx.LayerNorm(4, rngs=rngs)

    def __call__(self, x):
        return self.layer(self.shortcut(self.dense(x)))


class Nested(nnx.Module):
    def __init__(self, rngs):
        self.stage = Inner(rngs)
        self.last = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(self.stage(x))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = linen.Dense(4, name="dense")(x)
        x = linen.BatchNorm(use_running_average=not train, name="scale_and_shift")(x)
        return linen.Dense(2, name="last")(x)


def names(tree, above=""):
    return {name for key, part in tree.items() for name in (names(part, f"{above}{key}/") if isinstance(part, dict) else {f"{above}{key}"})}


def test_batch_norms_are_found_wherever_they_are():
    w = shapes(own(Nested, (4,), 2))
    rest, norm = split_norm(w)
    assert names(norm.tree) == {"stage/shortcut/scale", "stage/shortcut/bias", "buffers/stage/shortcut/mean", "buffers/stage/shortcut/var"}
    assert names(rest.tree) == names(w.tree) - names(norm.tree)
    assert names(join_norm(rest, norm).tree) == names(join_norm(norm, rest).tree) == names(w.tree)
    rest, norm = split_norm(shapes(own(Linen(), (4,), 2)))
    assert {name for name in names(norm.tree) if not name.startswith("buffers")} == {"scale_and_shift/scale", "scale_and_shift/bias"}
    assert set(rest.tree) == {"dense", "last"}
    rest, norm = split_norm(shapes(build("resnet:norm=batch,width=2", (8, 8), 3)))
    assert all(name.startswith("norm") for name in set(norm.tree) - {"buffers"})
    assert not any(name.startswith("norm") for name in rest.tree)
    assert set(split_norm(shapes(build("resnet:norm=group,width=2", (8, 8), 3)))[1].tree) == set()


def test_a_model_without_batch_norm_is_fedavg_and_refused():
    averaged, without = (train(m, small_digits(), 2, models=("mlp:7,5",), per_round=3) for m in (FedAvg(batch=4), FedBN(batch=4)))
    assert_alike(without.server, averaged.server)
    with pytest.raises(AtollError, match="norm=batch"):
        FedBN().check_model(build("mlp:7", (8, 8), 10))


def test_one_client_trains_as_in_fedavg():
    """Training normalises by the batch, so that statistics, which begin otherwise here, change no parameter."""
    fed = small_digits(1)
    net = normed(fed)
    averaged, own_norm = (train(m, fed, 3, models=(net,)) for m in (FedAvg(batch=4), FedBN(batch=4)))
    whole = join_norm(own_norm.server, own_norm.states[0])
    assert_alike(net.parameters(whole), net.parameters(averaged.server))
    assert (whole.tree["buffers"]["norm"]["mean"] != averaged.server.tree["buffers"]["norm"]["mean"]).all()


class Seen(NamedTuple):
    norm: Any


def test_clients_join_with_the_statistics_of_their_rows():
    """Mean and variance of the norm layer's input under the model that is sent; scale 1, shift 0."""
    fed = small_digits(3)
    trained = train(FedBN(batch=4), fed, 1, models=(normed(fed),), selector=Fixed(0, 1))
    method = trained.training.method

    @stateless
    def look(k, w):
        return Seen(method.join(k, w))

    norm = trained.training.fed.ask([2], look, trained.server).norm.tree
    x, _ = rows(fed, 2)
    dense = {name: np.asarray(leaf, np.float64) for name, leaf in trained.server.tree["dense"].items()}
    z = x @ dense["kernel"] + dense["bias"]
    assert_near(norm["buffers"]["norm"], {"mean": z.mean(0)[None], "var": z.var(0)[None]}, 1e-4)
    assert_near(norm["norm"], {"bias": np.zeros((1, 6)), "scale": np.ones((1, 6))})


def test_norm_layers_are_in_no_message_and_differ(monkeypatch):
    messages = []
    answer = Node.answer

    def listening(self, job, message, *rest):
        reply = answer(self, job, message, *rest)
        messages.extend([message, reply[0]])
        return reply

    monkeypatch.setattr(Node, "answer", listening)
    fed = small_digits(2)
    net = normed(fed)
    trained = train(FedBN(batch=4), fed, 2, models=(net,), engine="wire")
    trained.training.evaluate()
    assert any(b"w/dense/kernel" in m for m in messages)
    assert not any(b"norm" in m or b"buffers" in m for m in messages)
    assert set(trained.server.tree) == {"dense", "head"}
    first = split_norm(net.init(common_key(0)))[1]
    for i in range(2):
        assert names(trained.states[i].tree) == names(first.tree)
        assert all((a != b).any() for a, b in zip(leaves(trained.states[i]), leaves(first), strict=True))
    assert all((a != b).any() for a, b in zip(leaves(trained.states[0]), leaves(trained.states[1]), strict=True))


def test_the_mean_is_weighted_by_rows():
    """The next W is the mean of what clients make of the one sent, weighted by rows: from runs of one client each."""
    fed = small_digits(3)
    net = normed(fed)
    together = train(FedBN(batch=4), fed, 1, models=(net,))
    alone = [train(FedBN(batch=4), fed, 1, models=(net,), selector=Fixed(i)) for i in range(3)]
    n = fed.count["train"] / fed.count["train"].sum()
    wanted = jax.tree.map(lambda *parts: sum(share * part for share, part in zip(n, parts, strict=True)), *[run.server for run in alone])
    assert_near(together.server, wanted)
    for i in range(3):
        assert_alike(together.states[i], alone[i].states[i])
