"""FL+HC: its limits are FedAvg and training alone; distances and merging against brute force; who joins later."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from tree_math import Vector

from atoll.core.clusters import distances, distances_to, hierarchy, numbered
from atoll.core.errors import AtollError
from atoll.methods.fedavg import FedAvg
from atoll.methods.fl_hc import FLHC
from tests.exact.plain import Circumstances, key, rows, sgd, weights
from tests.harness import assert_near, begin, federation, linear, quadratics, seldom, small_digits, train

HOW = {"lr": 0.1, "epochs": 2, "batch": 4}
METRICS = ("l1", "l2", "cosine")
LINKAGES = [(metric, linkage) for metric in METRICS for linkage in ("single", "complete", "average")] + [("l2", "ward")]


def model(server, c):
    return jax.tree.map(lambda leaf: leaf[c], server.w)


def clusters(training):
    return training.evaluate().filter(split="test", model="personal").sort("client")["cluster"].to_list()


def test_an_endless_threshold_is_fedavg_but_for_the_round_of_clustering():
    one = train(FLHC(**HOW, n=1, threshold=float("inf")), small_digits(), 4)
    other = train(FedAvg(**HOW), small_digits(), 4, conditions=Circumstances(gone={2: [0, 1, 2, 3]}))
    assert_near(model(one.server, 0), other.server, 1e-6)
    np.testing.assert_array_equal(one.server.cluster, [0] * 4)


def test_threshold_zero_is_training_alone_from_the_common_model():
    """NumPy: every client goes on from the model of round 1, in the batches of its own key."""
    fed = small_digits(3)
    training = begin(FLHC(**HOW, n=1, threshold=0.0), fed, models=("softmax",))
    training.start()
    training.step()
    w1 = weights(model(training.server, 0))
    for _ in range(3):
        training.step()
    np.testing.assert_array_equal(training.server.cluster, [0, 1, 2])
    for i in range(3):
        w = w1
        for r in (3, 4):
            w = sgd(w, *rows(fed, i), 0.1, 2, 4, key("update", r, i))
        assert_near(weights(model(training.server, i)), w)


def test_clusters_are_averaged_by_rows_and_by_themselves():
    """Ragged clients, 0 and 2 against 1 and 3: each cluster's model is FedAvg's over its members alone."""
    fed = small_digits(4)
    training = begin(FLHC(**HOW, n=0, threshold=0.0), fed, models=("softmax",))
    training.start()
    training.step()
    training.server = training.server._replace(cluster=np.array([0, 1, 0, 1], np.int32), w=jax.tree.map(lambda leaf: leaf[:2], training.server.w))
    start = weights(model(training.server, 0))
    training.step()
    for c in range(2):
        members = [c, c + 2]
        moved = [sgd(start, *rows(fed, i), 0.1, 2, 4, key("update", 2, i)) for i in members]
        n = np.array([fed.count["train"][i] for i in members], float)
        wanted = [np.average(np.stack(parts), axis=0, weights=n) for parts in zip(*moved, strict=True)]
        assert_near(weights(model(training.server, c)), tuple(wanted))


@pytest.mark.parametrize(("metric", "linkage"), seldom(LINKAGES, {("l1", "complete"), ("cosine", "average"), ("l2", "ward")}.__contains__))
def test_two_groups_of_equal_rows_are_two_clusters(metric, linkage):
    """Clients 0, 3, 4 have the same rows, and so have 1, 2, 5; full batches. Any cut between nothing and the distance of the two finds them."""
    random = np.random.default_rng(0)
    kinds = [(random.normal(size=(4, 3)).astype(np.float32), random.normal(size=4).astype(np.float32)) for _ in range(2)]
    order = [0, 1, 1, 0, 0, 1]
    parts = [kinds[g] for g in order]
    x, y = (np.concatenate([part[n] for part in parts] * 3) for n in range(2))
    fed = federation(x, y, [(4, 4, 4)] * 6, labels=())
    method = FLHC(lr=0.1, batch=0, n=1, metric=metric, linkage=linkage, threshold=0.5)
    trained = train(method, fed, 3, **linear())
    np.testing.assert_array_equal(trained.server.cluster, order)


def test_distances_are_what_they_are_called():
    random = np.random.default_rng(1)
    a, b = random.normal(size=(5, 2, 3)), random.normal(size=(5, 4))
    ws = Vector({"a": a, "b": b})
    flat = np.concatenate([a.reshape(5, -1), b], axis=1)
    pairs = np.triu_indices(5, 1)
    gap = flat[:, None] - flat
    length = np.linalg.norm(flat, axis=1)
    wanted = {"l1": np.abs(gap).sum(2), "l2": np.sqrt((gap**2).sum(2)), "cosine": 1 - flat @ flat.T / np.outer(length, length)}
    for metric in METRICS:
        np.testing.assert_allclose(distances(ws, metric), wanted[metric][pairs], rtol=1e-12)
        np.testing.assert_allclose(distances_to(ws, jax.tree.map(lambda leaf: leaf[2], ws), metric), wanted[metric][2], atol=1e-5)
    moved = jax.tree.map(lambda leaf: leaf + 1.5, ws)  # weights in place of updates: the same for L1 and L2, not for the cosine
    for metric, same in (("l1", True), ("l2", True), ("cosine", False)):
        assert np.allclose(distances(moved, metric), distances(ws, metric)) == same


@pytest.mark.parametrize("linkage", ["single", "complete", "average"])
def test_merging_by_brute_force(linkage):
    """Merge the nearest two clusters while they are within the threshold, on random points in a plane; the numbering of clients does not matter."""
    random = np.random.default_rng(2)
    between = {"single": np.min, "complete": np.max, "average": np.mean}[linkage]
    for _ in range(20):
        x = random.normal(size=(9, 2))
        d = np.linalg.norm(x[:, None] - x, axis=2)
        parts = [[i] for i in range(9)]
        while len(parts) > 1:
            gaps = {(a, b): between(d[np.ix_(parts[a], parts[b])]) for a in range(len(parts)) for b in range(a)}
            (a, b), least = min(gaps.items(), key=lambda item: item[1])
            if least > 0.9:
                break
            parts[b] += parts.pop(a)
        wanted = np.array([next(n for n, part in enumerate(parts) if i in part) for i in range(9)])
        ws = Vector({"x": x})
        label = hierarchy(distances(ws, "l2"), linkage, 0.9)
        np.testing.assert_array_equal(label, numbered(wanted))
        order = random.permutation(9)
        again = hierarchy(distances(Vector({"x": x[order]}), "l2"), linkage, 0.9)
        assert adjusted_rand_score(label[order], again) == 1


def test_who_comes_later_joins_the_nearest_cluster():
    """Optima at -2 and 2; client 3 can't be reached in the round of clustering, client 5 is unseen. Until it is asked client 3 predicts as it will then."""
    fed = dataclasses.replace(quadratics([1.0] * 6, [-2.0, 2.1, -2.1, 2.2, 2.0, -1.9]), seen=5)
    method = FLHC(lr=0.1, batch=0, epochs=2, n=1)
    training = begin(method, fed, **linear(conditions=Circumstances(gone={2: [3], 3: [3]})))
    training.start()
    assert clusters(training) == [0] * 6
    for _ in range(3):
        training.step()
    np.testing.assert_array_equal(training.server.cluster, [0, 1, 0, -1, 1])
    assert clusters(training) == [0, 1, 0, 1, 1, 0]
    before = training.fed.traffic.down[:5]
    cost = training.step()
    np.testing.assert_array_equal(training.server.cluster, [0, 1, 0, 1, 1])
    assert (before[3], cost.answered) == (0, 5)
    one = training.fed.traffic.down[0]
    assert training.fed.traffic.down[3] == one + (one - 4)  # first the common model of the clustering, which has no number


def test_ward_needs_euclidean_distances():
    with pytest.raises(AtollError, match="Take metric='l2'"):
        FLHC(linkage="ward")
