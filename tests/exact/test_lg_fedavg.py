"""LG-FedAvg against uniform FedAvg and Local at its two ends, its warm start against FedAvg, and rounds against NumPy."""

import dataclasses

import numpy as np
import pytest

from atoll.core.keys import common_key
from atoll.methods.fedavg import FedAvg
from atoll.methods.lg_fedavg import LGFedAvg
from atoll.methods.local import Local
from tests.exact import dense
from tests.exact.dense import equal_clients
from tests.harness import Fixed, assert_alike, assert_near, begin, leaves, small_digits, train

DEEP = ("mlp:7,5",)  # blocks dense1, dense2, head


def test_everything_shared_is_fedavg():
    shared = train(LGFedAvg(batch=5, epochs=2, shared=3), equal_clients(4), 3, models=DEEP, per_round=3)
    assert_alike(shared.server.g, train(FedAvg(batch=5, epochs=2), equal_clients(4), 3, models=DEEP, per_round=3).server)


def test_the_mean_is_uniform():
    """On ragged clients: the plain mean of the models that Local has after its first round, whatever their rows."""
    shared = train(LGFedAvg(batch=5, shared=3), small_digits(3), 1, models=DEEP).server.g
    alone = train(Local(batch=5), small_digits(3), 1, models=DEEP).states
    assert_near(dense.weights(shared), dense.mean([dense.weights(alone[i]) for i in range(3)], [1 / 3] * 3), 1e-6)
    weighted = train(FedAvg(batch=5), small_digits(3), 1, models=DEEP).server
    assert np.abs(leaves(shared)[1] - leaves(weighted)[1]).max() > 1e-4


def test_nothing_shared_is_local():
    none = train(LGFedAvg(batch=4, epochs=2, shared=0), small_digits(), 3, models=DEEP)
    assert_alike(none.states, train(Local(batch=4, epochs=2), small_digits(), 3, models=DEEP).states)


@pytest.mark.parametrize("shared", [1, 2, ("dense1",)])
def test_rounds_by_hand(shared):
    """Full batches, one step: global blocks move to their uniform mean g - lr 1/m sum_i grad_g F_i, local ones to l_i - lr grad_l F_i."""
    fed = small_digits(3)
    trained = train(LGFedAvg(lr=0.5, batch=0, shared=shared), fed, 2, models=DEEP)
    model = trained.training.engine.facts.models[0]
    common = set(model.personal_blocks(shared))
    data = [dense.train_rows(fed, i) for i in range(3)]
    w = [dense.weights(model.init(common_key(0)))] * 3
    for _ in range(2):
        w = [dense.step(w_i, dense.gradient(w_i, x, y), 0.5) for w_i, (x, y) in zip(w, data, strict=True)]
        top = dense.mean(w, [1 / 3] * 3)
        w = [{block: top[block] if block in common else w_i[block] for block in w_i} for w_i in w]
    assert trained.server.l_0 is None
    assert_near(dense.weights(trained.server.g), {b: w[0][b] for b in common})
    for i in range(3):
        assert_near(dense.weights(trained.states[i]), {b: w[i][b] for b in set(model.blocks) - common})


def test_after_a_round_all_clients_predict_with_the_same_top():
    """Also client 0, which was asked in round 1 only: its own layers are of then, the top is the newest. No client keeps a top."""
    fed = small_digits(3)
    training = begin(LGFedAvg(batch=4), fed, models=DEEP, selector=Fixed(0, 1))
    training.start()
    training.step()
    training.fed._selector = Fixed(1, 2)
    training.step()
    states = training.engine.executor.dump_states()
    assert all(set(state.tree) == {"dense1", "dense2"} for state in states.values())
    for row in training.evaluate().to_dicts():
        if row["split"] == "test":
            w = dense.weights(states[row["client"]]) | dense.weights(training.server.g)
            assert row["loss"] / row["rows"] == pytest.approx(dense.loss(w, *dense.rows(fed, row["client"], "test")), rel=1e-4)


def test_the_warm_start_is_fedavg():
    """On full batches, where nothing is drawn. Nobody has layers of its own while it lasts, and all predict with the common model."""
    warm = train(LGFedAvg(batch=0, warmup=3), equal_clients(), 3, models=DEEP)
    averaged = train(FedAvg(batch=0), equal_clients(), 3, models=DEEP)
    model = warm.training.engine.facts.models[0]
    assert_alike(model.join(warm.server.l_0, warm.server.g), averaged.server)
    assert not warm.states
    losses = [[row["loss"] for row in trained.training.evaluate().to_dicts() if row["model"] == "personal"] for trained in (warm, averaged)]
    assert losses[0] == losses[1]
    size = sum(leaf.nbytes for leaf in leaves(averaged.server))
    assert warm.costs[0].bytes_down == 3 * size
    assert warm.costs[0].bytes_up == 3 * (size + 4)


def test_whoever_joins_after_the_warm_start_begins_with_its_layers():
    """Client 2 is first asked in the second round after the warm start: its layers then are l_0 - lr grad F_2(l_0, g), with the g of that moment."""
    fed = small_digits(3)
    training = begin(LGFedAvg(lr=0.5, batch=0, warmup=2), fed, models=DEEP, selector=Fixed(0, 1))
    training.start()
    for _ in range(3):
        training.step()
    start = dense.weights(training.server.l_0) | dense.weights(training.server.g)
    training.fed._selector = Fixed(0, 2)
    training.step()
    after = dense.step(start, dense.gradient(start, *dense.train_rows(fed, 2)), 0.5)
    assert_near(dense.weights(training.engine.executor.dump_states([2])[2]), {b: after[b] for b in ("dense1", "dense2")})
    first = dense.weights(training.engine.facts.models[0].init(common_key(0)))
    assert np.abs(first["dense1"]["kernel"] - start["dense1"]["kernel"]).max() > 1e-3


def test_a_run_can_be_resumed_inside_the_warm_start():
    whole = train(LGFedAvg(batch=4, warmup=2), small_digits(3), 4, models=DEEP)
    half = train(LGFedAvg(batch=4, warmup=2), small_digits(3), 1, models=DEEP)
    again = begin(LGFedAvg(batch=4, warmup=2), small_digits(3), models=DEEP)
    again.restore(1, half.server, half.states)
    for _ in range(3):
        again.step()
    assert_alike(again.server, whole.server)


def test_a_client_that_never_joined_predicts_with_the_first_local_layers():
    fed = dataclasses.replace(small_digits(3), seen=2)
    trained = train(LGFedAvg(batch=4), fed, 2, models=DEEP)
    w = dense.weights(trained.training.engine.facts.models[0].init(common_key(0))) | dense.weights(trained.server.g)
    row = next(row for row in trained.training.evaluate().to_dicts() if row["client"] == 2 and row["split"] == "test")
    assert not row["joined"]
    assert row["loss"] / row["rows"] == pytest.approx(dense.loss(w, *dense.rows(fed, 2, "test")), rel=1e-4)
