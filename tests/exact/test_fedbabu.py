"""FedBABU: the head never moves; the body and fine-tuning by hand."""

import numpy as np
import pytest

from atoll.core.keys import common_key
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedbabu import FedBABU
from tests.exact import dense
from tests.harness import assert_alike, assert_near, small_digits, train

DEEP = ("mlp:7,5",)


def test_two_rounds_and_fine_tuning_by_hand():
    """Full batches, one step: the body moves to the mean of its steps weighted by rows, the fixed blocks stay; fine-tuning steps these alone."""
    fed, head = small_digits(3), ("dense1", "head")
    trained = train(FedBABU(lr=0.5, batch=0, head=head, ft_epochs=2, ft_lr=0.3), fed, 2, models=DEEP)
    model = trained.training.engine.facts.models[0]
    fixed = set(model.personal_blocks(head))
    data = [dense.train_rows(fed, i) for i in range(3)]
    share = [len(y) / sum(len(y) for _, y in data) for _, y in data]
    w = dense.weights(model.init(common_key(0)))
    for _ in range(2):
        new = dense.mean([dense.step(w, dense.gradient(w, x, y), 0.5) for x, y in data], share)
        w = {b: (w if b in fixed else new)[b] for b in w}
    assert set(trained.server.tree) == set(model.blocks) - fixed
    assert_near(dense.weights(trained.server), {b: w[b] for b in trained.server.tree})
    table = trained.training.evaluate().to_dicts()
    for i, (x, y) in enumerate(data):
        own = w
        for _ in range(2):
            step = dense.step(own, dense.gradient(own, x, y), 0.3)
            own = {b: (step if b in fixed else own)[b] for b in own}
        found = {row["model"]: row["loss"] / row["rows"] for row in table if row["client"] == i and row["split"] == "test"}
        test = dense.rows(fed, i, "test")
        assert found["personal"] == pytest.approx(dense.loss(own, *test), rel=1e-4)
        assert found["global"] == pytest.approx(dense.loss(w, *test), rel=1e-4)


def test_nothing_fixed_is_fedavg():
    how = {"models": DEEP, "per_round": 3}
    averaged, none = (train(m, small_digits(5), 3, **how) for m in (FedAvg(batch=4), FedBABU(batch=4, head=0)))
    assert_alike(none.server, averaged.server)


def test_without_fine_tuning_clients_predict_with_the_common_model():
    plain = train(FedBABU(batch=4, ft_epochs=0), small_digits(), 1, models=DEEP)
    assert losses(plain, "personal") == losses(plain, "global")


def losses(trained, model):
    return [row["loss"] for row in trained.training.evaluate().to_dicts() if row["model"] == model]


def test_all_of_it_is_fine_tuned_as_a_whole():
    fed = small_digits(2)
    trained = train(FedBABU(lr=0.5, batch=0, ft_epochs=2, what="all"), fed, 1, models=DEEP)
    found = np.array(losses(trained, "personal")).reshape(2, 2)[:, 1]
    first = dense.weights(trained.training.engine.facts.models[0].init(common_key(0)))
    for i in range(2):
        w = dense.weights(trained.server) | {"head": first["head"]}
        for _ in range(2):
            w = dense.step(w, dense.gradient(w, *dense.train_rows(fed, i)), 0.5)
        x, y = dense.rows(fed, i, "test")
        assert found[i] / len(y) == pytest.approx(dense.loss(w, x, y), rel=1e-4)
