"""FedProto: prototypes and local steps by hand, with clients of different architectures."""

import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.keys import common_key
from atoll.methods.fedproto import FedProto
from atoll.methods.local import Local
from atoll.models import build
from tests.exact import dense
from tests.harness import Fixed, assert_alike, assert_near, begin, small_digits, train

TWO = ("mlp:6", "mlp:9,6")  # features of one size


def features(w, x):
    return np.maximum(x @ w["dense1"]["kernel"] + w["dense1"]["bias"], 0) if len(w) == 2 else dense.logits(w, x)[1][-1]


def test_without_the_pull_it_is_local():
    local, free, drawn = (train(m, small_digits(), 3, models=TWO) for m in (Local(batch=4), FedProto(batch=4, lam=0.0), FedProto(batch=4)))
    assert_alike(free.states, local.states)
    assert all((a.tree["head"]["bias"] != b.tree["head"]["bias"]).any() for a, b in zip(drawn.states.values(), local.states.values(), strict=True))


def test_common_prototypes_are_the_means_of_all_rows():
    """Each row's feature is that under its own client's trained model, whatever its architecture."""
    fed = small_digits(3)
    trained = train(FedProto(batch=4), fed, 2, models=TWO)
    data = [dense.train_rows(fed, i) for i in range(3)]
    z = np.concatenate([features(dense.weights(trained.states[i]), x) for i, (x, _) in enumerate(data)])
    y = np.concatenate([y for _, y in data])
    for label in range(10):
        assert trained.server.n[label] == (y == label).sum()
        if (y == label).any():
            assert_near(trained.server.C[label], z[y == label].mean(0), 1e-4)


def test_labels_of_nobody_asked_keep_their_prototype():
    fed = small_digits(4)
    training = begin(FedProto(batch=4), fed, models=("mlp:6",))
    training.start()
    training.step()
    before = training.server
    training.fed._selector = Fixed(0)
    training.step()
    mine = np.unique(dense.train_rows(fed, 0)[1])
    others = np.setdiff1d(np.arange(10), mine)
    assert len(others)
    assert_alike(training.server.C[others], before.C[others])
    assert (np.asarray(training.server.C)[mine] != np.asarray(before.C)[mine]).any(axis=1).all()


def test_two_rounds_by_hand():
    """Full batches, one step each. Round 1 has no prototypes; in round 2 features are drawn: the gradient of lam mean (z - C_y)^2 enters at the features."""
    fed, lr, lam = small_digits(3), 0.5, 2.0
    trained = train(FedProto(lr=lr, batch=0, lam=lam), fed, 2, models=("mlp:6",))
    data = [dense.train_rows(fed, i) for i in range(3)]
    w = [dense.weights(trained.training.engine.facts.models[0].init(common_key(0)))] * 3
    w = [dense.step(w_i, dense.gradient(w_i, x, y), lr) for w_i, (x, y) in zip(w, data, strict=True)]
    z, y = np.concatenate([features(w_i, x) for w_i, (x, _) in zip(w, data, strict=True)]), np.concatenate([y for _, y in data])
    C = np.stack([z[y == c].mean(0) if (y == c).any() else np.zeros(6) for c in range(10)])
    for i, (x, y) in enumerate(data):
        g, z = dense.gradient(w[i], x, y), features(w[i], x)
        error = lam * 2 * (z - C[y]) / z.size * (z > 0)
        g["dense1"] = {"kernel": g["dense1"]["kernel"] + x.T @ error, "bias": g["dense1"]["bias"] + error.sum(0)}
        assert_near(dense.weights(trained.states[i]), dense.step(w[i], g, lr))


@pytest.mark.parametrize("inference", ["prototype", "head"])
def test_predicting(inference):
    """By the nearest prototype of a label that has one: minus the squared distance is the logit; or by the head."""
    fed = small_digits(2)
    trained = train(FedProto(batch=4, inference=inference), fed, 2, models=("mlp:6",))
    for i in range(2):
        w, (x, y) = dense.weights(trained.states[i]), dense.rows(fed, i, "test")
        out = dense.logits(w, x)[0]
        if inference == "prototype":
            known = np.asarray(trained.server.n) > 0
            out = -np.square(features(w, x)[:, None] - np.asarray(trained.server.C, np.float64)).sum(-1)
            out[:, ~known] = out[:, known].min(1, keepdims=True) - 1
            assert known[out.argmax(1)].all()
        value = np.log(np.exp(out).sum(1)) - out[np.arange(len(y)), y]
        row = next(row for row in trained.training.evaluate().to_dicts() if row["client"] == i and row["split"] == "test")
        assert row["correct"] == (out.argmax(1) == y).sum()
        assert row["loss"] == pytest.approx(value.sum(), rel=1e-4)


def test_before_there_are_prototypes_heads_predict():
    a, b = (train(FedProto(inference=how), small_digits(2), 0) for how in ("prototype", "head"))
    assert [row["loss"] for row in a.training.evaluate().to_dicts()] == [row["loss"] for row in b.training.evaluate().to_dicts()]


def test_models_it_can_not_work_with_are_refused():
    with pytest.raises(AtollError, match=r"different sizes \(6, 7\)"):
        train(FedProto(), small_digits(2), 0, models=("mlp:6", "mlp:7"))
    with pytest.raises(AtollError, match="hidden layer"):
        FedProto().check_model(build("softmax", (8, 8), 10))
