"""kNN-Per: the neighbours' answer against NumPy, its ends, and the choice of lambda."""

from typing import NamedTuple

import numpy as np
import pytest
from jax import Array

from atoll.core.method import stateless
from atoll.methods.fedavg import FedAvg
from atoll.methods.knn_per import TINY, KNNPer, Store, neighbours
from tests.exact import dense
from tests.harness import assert_alike, assert_near, federation, small_digits, train


def by_numpy(z, store, labels, n_labels, k, scale):
    """Shares of labels among the k nearest rows, weighted by exp(-d^2 / (dim scale))."""
    d2 = np.square(z[:, None] - store).sum(-1)
    out = np.zeros((len(z), n_labels))
    for row, distances in enumerate(d2):
        for j in np.argsort(distances)[:k]:
            out[row, labels[j]] += np.exp(-distances[j] / (z.shape[1] * scale))
    return out / out.sum(1, keepdims=True)


def table(trained, split="test"):
    """{(client, model): (correct, loss)}"""
    return {(row["client"], row["model"]): (row["correct"], row["loss"]) for row in trained.training.evaluate().to_dicts() if row["split"] == split}


@pytest.mark.parametrize(("k", "scale"), [(1, 1.0), (4, 0.5), (50, 2.0)])
def test_neighbours_against_numpy(k, scale):
    """Filling behind the n-th row is nobody's neighbour, and more neighbours than rows are all rows."""
    random = np.random.default_rng(0)
    z, phi, y = random.normal(size=(6, 3)), random.normal(size=(12, 3)), random.integers(0, 4, 12)
    got = neighbours(np.float32(z), Store(np.float32(phi), y), np.int32(9), 4, k, scale)
    assert_near(got, by_numpy(z, phi[:9], y[:9], 4, k, scale))
    left_out = neighbours(np.float32(phi[:2]), Store(np.float32(phi), y), np.int32(9), 4, k, scale, but=np.array([0, 1]))
    assert_near(left_out[1:], by_numpy(phi[1:2], np.delete(phi[:9], 1, 0), np.delete(y[:9], 1), 4, k, scale))


@pytest.mark.parametrize("tuned", [False, True])
def test_what_clients_predict(tuned):
    """(1 - lambda) softmax + lambda neighbours on the features of FedAvg's model; lambda by the likelihood of train rows, each left out of its store."""
    fed, method = small_digits(3), KNNPer(batch=4, k=3, tuned=tuned, lam=0.3)
    trained = train(method, fed, 2, models=("mlp:30",))  # so many features that no two rows are equally far
    assert_alike(trained.server, train(FedAvg(batch=4), fed, 2, models=("mlp:30",)).server)
    w, found = dense.weights(trained.server), table(trained)
    for i in range(3):
        (x, y), (test_x, test_y) = (dense.rows(fed, i, split) for split in ("train", "test"))
        (out, inputs), (test_out, test_inputs) = dense.logits(w, x), dense.logits(w, test_x)
        z, p = inputs[-1], softmax(out)
        lam = 0.3
        if tuned:
            alone = np.concatenate([by_numpy(z[j : j + 1], np.delete(z, j, 0), np.delete(y, j), 10, 3, 1.0) for j in range(len(y))])
            at = np.arange(len(y)), y
            lam = max(np.linspace(0, 1, 101), key=lambda lam: np.log(np.maximum(lam * alone[at] + (1 - lam) * p[at], TINY)).sum())
        h = lam * by_numpy(test_inputs[-1], z, y, 10, 3, 1.0) + (1 - lam) * softmax(test_out)
        correct, loss = found[i, "personal"]
        assert loss == pytest.approx(-np.log(np.maximum(h[np.arange(len(test_y)), test_y], TINY)).sum(), rel=1e-3)
        assert correct == (h.argmax(1) == test_y).sum()
        assert found[i, "global"][1] == pytest.approx(dense.loss(w, test_x, test_y) * len(test_y), rel=1e-4)


def softmax(z):
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def test_without_neighbours_it_is_the_common_model():
    found = table(train(KNNPer(batch=4, tuned=False, lam=0.0), small_digits(3), 1))
    for i in range(3):
        assert found[i, "personal"][0] == found[i, "global"][0]
        assert found[i, "personal"][1] == pytest.approx(found[i, "global"][1], rel=1e-4)


def test_the_nearest_neighbour_alone_knows_every_stored_row():
    """Test rows that are the train rows: each is its own nearest, whatever the model; all rows alike give the label shares."""
    d = small_digits(1)
    x, y = d.x[:12], d.y[:12]
    fed = federation(np.tile(x, (3, 1, 1)), np.tile(y, 3), [(12, 12, 12)], scale=1 / 16)
    assert table(train(KNNPer(tuned=False, lam=1.0, k=1), fed, 0, models=("mlp:30",)))[0, "personal"] == (12, pytest.approx(0, abs=1e-5))
    shares = np.bincount(y) / 12
    assert table(train(KNNPer(tuned=False, lam=1.0, k=12, scale=1e9), fed, 0))[0, "personal"][1] == pytest.approx(-np.log(shares[y]).sum(), rel=1e-4)


class Chosen(NamedTuple):
    lam: Array


def test_a_client_with_one_row_has_no_neighbour_to_learn_from():
    d = small_digits(1)
    fed = federation(d.x[:9], d.y[:9], [(1, 1, 1), (3, 2, 1)], scale=1 / 16)
    trained = train(KNNPer(batch=4), fed, 1)

    @stateless
    def look(i, w):
        return Chosen(trained.training.method.personalize(i, w).lam)

    lam = trained.training.fed.ask([0, 1], look, trained.server).lam
    assert lam[0] == 0
    assert ((lam >= 0) & (lam <= 1)).all()
