"""Training inside clusters: one cluster is the method inside, and each of several is the method inside on that cluster's clients alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.cluster.hierarchy import cut_tree, linkage

from atoll.core.clusters import one
from atoll.core.errors import AtollError
from atoll.methods import get
from atoll.methods.apfl import APFL
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedavg_ft import FedAvgFT
from atoll.methods.ifca import IFCA
from atoll.methods.local import Local
from atoll.methods.pooled import Pooled
from atoll.methods.scaffold import Scaffold
from atoll.parts.clustered import Clustered
from atoll.parts.conditions import Conditions
from atoll.parts.devices import devices
from tests.exact.plain import add, gradient, rows, weights
from tests.harness import Fixed, assert_alike, assert_near, federation, small_digits, train

WORK = {"lr": 0.2, "batch": 4}


def two_kinds(clients: int = 4, seen: int | None = None):
    """Even clients have digits that they call 0 to 4, odd ones 5 to 9."""
    fed = small_digits(clients)
    y = fed.y.copy()
    for split in ("train", "validation", "test"):
        for i in range(clients):
            mine = slice(fed.start[split][i], fed.start[split][i] + fed.count[split][i])
            y[mine] = y[mine] // 2 + 5 * (i % 2)
    return dataclasses.replace(fed, y=y, seen=clients if seen is None else seen)


def scores(trained):
    return trained.training.evaluate().drop("method", "cluster").to_dicts()


@pytest.mark.parametrize("inner", [FedAvg(**WORK), FedAvgFT(**WORK), Scaffold(**WORK), APFL(**WORK)], ids=lambda inner: type(inner).__name__)
def test_one_cluster_is_the_method_inside(inner):
    plain, one = train(inner, small_digits(), 2, per_round=3), train(Clustered(inner, k=1), small_digits(), 2, per_round=3)
    assert_alike((plain.server, plain.states), (one.server.inner[0], one.states))
    np.testing.assert_equal(scores(plain), scores(one))


@pytest.mark.parametrize("inner", [FedAvg(**WORK), APFL(**WORK)], ids=lambda inner: type(inner).__name__)
def test_each_cluster_is_the_method_inside_on_its_clients(inner):
    fed = two_kinds()
    both = train(Clustered(inner, k=2), fed, 2)
    np.testing.assert_array_equal(both.server.cluster, [0, 1, 0, 1])
    for c, members in enumerate(([0, 2], [1, 3])):
        alone = train(inner, fed, 2, selector=Fixed(*members))
        assert_alike(alone.server, both.server.inner[c])
        for i in members:
            assert_alike(alone.states.get(i), both.states.get(i))


def test_scaffold_counts_the_clients_of_its_cluster():
    """N is 2, not 4: with both clients asked, c becomes the mean of their c_i, which is what SCAFFOLD has where only these two exist."""
    fed = two_kinds()
    first, n = fed.start["train"], fed.count["train"]
    mine = np.concatenate([np.arange(first[i], first[i] + n[i]) for i in (0, 2)] + [[0, 1]])  # two test rows behind
    pair = federation(fed.x[mine], fed.y[mine], [(n[0], 0, 1), (n[2], 0, 1)], labels=fed.labels, scale=fed.scale)
    one_step = Scaffold(lr=0.2, batch=0, epochs=1)  # without batches, so that it does not matter which number a client has
    assert_near(train(Clustered(one_step, k=2), fed, 2).server.inner[0], train(one_step, pair, 2).server)


def test_clusters_are_those_of_the_updates():
    """By NumPy: two steps of gradient descent of every client from the fresh model, cosines of the changes, average linkage."""
    fed = small_digits(5)
    found = train(Clustered(FedAvg(**WORK), k=3, lr=0.3, epochs=2, batch=0), fed, 1, models=("softmax",)).server
    changes = []
    for i in range(5):
        first = w = weights(found.found.w)
        for _ in range(2):
            w = add(w, gradient(w, *rows(fed, i)), -0.3)
        changes.append(np.concatenate([(a - b).ravel() for a, b in zip(w, first, strict=True)]))
    expected = cut_tree(linkage(np.array(changes), "average", metric="cosine"), 3)[:, 0]
    np.testing.assert_array_equal(found.cluster[:, None] == found.cluster, expected[:, None] == expected)
    centre = np.mean([c for c, e in zip(changes, expected, strict=True) if e == expected[0]], axis=0)
    kernel, bias = weights(one(found.found.centre, 0))
    np.testing.assert_allclose(np.concatenate([kernel.ravel(), bias]), centre, atol=1e-6)


def test_who_comes_later_or_is_never_seen_is_put_where_it_learns_alike():
    fed = two_kinds(6, seen=5)

    class Later:
        def choose(self, fed):
            return np.arange(5)

    class Away(Conditions):
        """Client 4 can't be reached in the first round."""

        def reachable(self, seed, round, ids):
            return (ids != 4) | (round > 1)

    made = train(Clustered(FedAvg(**WORK), k=2), fed, 1, selector=Later(), conditions=Away())
    assert made.server.cluster.tolist() == [0, 1, 0, 1, -1]
    rows = made.training.evaluate().filter(split="test", model="personal").sort("client")
    assert rows["cluster"].to_list() == [0, 1, 0, 1, 0, 1]  # the last two by themselves
    made.training.step()
    assert made.server.cluster.tolist() == [0, 1, 0, 1, 0]
    traffic = made.training.fed.traffic
    model = traffic.down[0]
    assert (traffic.down.tolist()[:5], traffic.up[4] - traffic.up[0]) == ([model, model, model, model, 2 * model], model)


def test_clusters_train_at_the_same_time():
    fed = two_kinds()
    timed = Conditions(devices=devices("tiers", fed.names, 0))
    plain, both = (train(method, fed, 2, conditions=timed) for method in (FedAvg(**WORK), Clustered(FedAvg(**WORK), k=2)))
    assert both.costs[1].sim_seconds == pytest.approx(plain.costs[1].sim_seconds)


def test_methods_that_cannot_be_kept_to_a_cluster_are_refused():
    with pytest.raises(AtollError, match="finds clusters by itself"):
        get("ifca+clustered")
    with pytest.raises(AtollError, match="finds clusters by itself"):
        Clustered(IFCA(batch=4))
    for inner in (Local(batch=4), Pooled(batch=4)):
        with pytest.raises(AtollError, match="own choosing"):
            train(Clustered(inner, k=2), two_kinds(6, seen=5), 1)
