"""FedPer against FedAvg and Local at its two ends, and against NumPy in between."""

import dataclasses

import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.keys import common_key
from atoll.core.method import configured
from atoll.engine.wire import Node
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedper import FedPer
from atoll.methods.local import Local
from tests.exact import dense
from tests.harness import Fixed, assert_alike, assert_near, begin, small_digits, train

DEEP = ("mlp:7,5",)  # blocks dense1, dense2, head


def test_nothing_personal_is_fedavg():
    how = {"models": DEEP, "per_round": 3}
    averaged, none = train(FedAvg(batch=4), small_digits(5), 3, **how), train(FedPer(batch=4, personal=0), small_digits(5), 3, **how)
    assert_alike(none.server, averaged.server)
    one = train(FedPer(batch=4, personal=1), small_digits(5), 3, **how)
    assert not np.array_equal(one.server.tree["dense1"]["kernel"], averaged.server.tree["dense1"]["kernel"])


@pytest.mark.parametrize("everything", [3, ("head", "dense1", "dense2")])
def test_everything_personal_is_local(everything):
    personal = train(FedPer(batch=4, epochs=2, personal=everything), small_digits(), 3, models=DEEP)
    local = train(Local(batch=4, epochs=2), small_digits(), 3, models=DEEP)
    assert_alike(personal.states, local.states)
    assert personal.costs[-1].bytes_down == 0


@pytest.mark.parametrize("personal", [0, 1, ("dense2",), ("dense1", "head"), 3])
def test_rounds_by_hand(personal):
    """Full batches, one step: block B of the base moves to W_B - lr sum_i (n_i / n) grad_B F_i, a personal one to W_i - lr grad_i F_i without the share.

    In the second round clients differ in their personal blocks, so the gradients of the base do too.
    """
    fed, method = small_digits(3), FedPer(lr=0.5, batch=0, personal=personal)
    trained = train(method, fed, 2, models=DEEP)
    model = trained.training.engine.facts.models[0]
    mine = set(model.personal_blocks(personal))
    data = [dense.train_rows(fed, i) for i in range(3)]
    share = [len(y) / sum(len(y) for _, y in data) for _, y in data]
    w = [dense.weights(model.init(common_key(0)))] * 3
    for _ in range(2):
        w = [dense.step(w_i, dense.gradient(w_i, x, y), 0.5) for w_i, (x, y) in zip(w, data, strict=True)]
        base = dense.mean(w, share)
        w = [{block: w_i[block] if block in mine else base[block] for block in w_i} for w_i in w]
    assert set(trained.server.tree) == set(model.blocks) - mine
    assert_near(dense.weights(trained.server), {b: w[0][b] for b in trained.server.tree})
    for i in range(3):
        assert set(trained.states[i].tree) == mine
        assert_near(dense.weights(trained.states[i]), {b: w[i][b] for b in mine})


@pytest.mark.parametrize("personal", [1, ("dense2",)])
def test_one_client_is_plain_sgd(personal):
    """A base averaged over one client is that client's: wherever the model is cut, it is trained as a whole."""
    alone = train(FedPer(batch=4, epochs=2, personal=personal), small_digits(1), 3, models=DEEP)
    plain = train(FedAvg(batch=4, epochs=2), small_digits(1), 3, models=DEEP)
    model = alone.training.engine.facts.models[0]
    assert_alike(model.join(alone.server, alone.states[0]), plain.server)


def test_personal_layers_are_in_no_message(monkeypatch):
    """Messages name their arrays: the base's blocks are in them and the personal one's are not, in training and in evaluation."""
    messages = []
    answer = Node.answer

    def listen(self, job, message, *rest):
        reply = answer(self, job, message, *rest)
        messages.extend([message, reply[0]])
        return reply

    monkeypatch.setattr(Node, "answer", listen)
    trained = train(FedPer(batch=4, personal=("dense2",)), small_digits(2), 2, models=DEEP, engine="wire")
    trained.training.evaluate()
    assert any(b"w/head/kernel" in m for m in messages)
    assert any(b"w/dense1/kernel" in m for m in messages)
    assert not any(b"dense2" in m for m in messages)


def test_a_client_that_never_joined_predicts_with_the_first_personal_layers():
    """It has the averaged base under the head of the common first model, by hand; and it is marked as not joined."""
    fed = dataclasses.replace(small_digits(3), seen=2)
    trained = train(FedPer(batch=4), fed, 2, models=DEEP)
    first = dense.weights(trained.training.engine.facts.models[0].init(common_key(0)))
    w = dense.weights(trained.server) | {"head": first["head"]}
    row = next(row for row in trained.training.evaluate().to_dicts() if row["client"] == 2 and row["split"] == "test")
    x, y = dense.rows(fed, 2, "test")
    assert not row["joined"]
    assert row["loss"] / row["rows"] == pytest.approx(dense.loss(w, x, y), rel=1e-4)


def test_joined_clients_predict_with_the_newest_base():
    """Client 0 is asked in round 1 only: its head is of then, its base of now."""
    fed = small_digits(3)
    training = begin(FedPer(batch=4), fed, models=DEEP, selector=Fixed(0))
    training.start()
    training.step()
    head = dense.weights(training.engine.executor.dump_states([0])[0])
    training.fed._selector = Fixed(1, 2)
    training.step()
    row = next(row for row in training.evaluate().to_dicts() if row["client"] == 0 and row["split"] == "test")
    x, y = dense.rows(fed, 0, "test")
    assert row["loss"] / row["rows"] == pytest.approx(dense.loss(dense.weights(training.server) | head, x, y), rel=1e-4)


def test_cuts_are_numbers_or_names():
    assert configured(FedPer, {"personal": "dense1,head"}).personal == ("dense1", "head")
    assert configured(FedPer, {"personal": "2"}).personal == 2
    with pytest.raises(AtollError, match="dense2"):
        train(FedPer(personal=("dense9",)), small_digits(2), 1, models=DEEP)
    with pytest.raises(AtollError, match="3 blocks"):
        train(FedPer(personal=4), small_digits(2), 1, models=DEEP)
