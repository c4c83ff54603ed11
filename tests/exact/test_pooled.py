"""Pooled training against NumPy, and against FedAvg with one client that owns everything."""

import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.methods.fedavg import FedAvg
from atoll.methods.pooled import Pooled
from atoll.parts.conditions import Conditions
from atoll.study.training import check_method
from tests.exact.plain import first_model, key, rows, sgd, weights
from tests.harness import Fixed, assert_alike, assert_near, begin, federation, small_digits, train


def test_it_is_sgd_on_the_train_rows_of_all_seen_clients():
    """Two of three clients are seen. The pool's number, which names its randomness, is the one after the last client's."""
    whole = small_digits(3)
    fed = federation(whole.x, whole.y, [(9, 5, 6), (14, 5, 6), (19, 5, 6)], seen=2, scale=1 / 16)
    x, y = (np.concatenate(part) for part in zip(rows(fed, 0), rows(fed, 1), strict=True))
    w = weights(first_model(begin(Pooled(), fed, models=("softmax",))))
    for round in (1, 2):
        w = sgd(w, x, y, 0.2, 2, 4, key("update", round, 3))
    assert_near(weights(train(Pooled(lr=0.2, epochs=2, batch=4), fed, 2, models=("softmax",)).server), w)


def test_it_is_fedavg_with_one_client_that_owns_all_rows():
    """That client gets the pool's number, 3, so that both shuffle alike; clients 0 to 2 are not asked."""
    fed = small_digits(3)
    order = np.concatenate([[42, 43, 44], np.arange(42), [45, 46, 47, 48]])  # a train row each for 0 to 2, all 42 train rows for 3, four test rows
    owner = federation(fed.x[order], fed.y[order], [(1, 0, 1)] * 3 + [(42, 0, 1)], scale=1 / 16)
    pooled = train(Pooled(lr=0.2, epochs=2, batch=4), fed, 3)
    assert_alike(pooled.server, train(FedAvg(lr=0.2, epochs=2, batch=4), owner, 3, selector=Fixed(3)).server)


def test_with_full_batches_it_is_fedavg():
    fed = small_digits()
    assert_near(train(Pooled(lr=0.5, batch=0), fed, 3).server, train(FedAvg(lr=0.5, batch=0), fed, 3).server, 1e-6)


def test_nothing_is_sent_and_no_client_can_fail():
    fed = small_digits()
    lost = train(Pooled(batch=4), fed, 2, conditions=Conditions(dropout=1.0, stragglers=1.0))
    assert_alike(lost.server, train(Pooled(batch=4), fed, 2).server)
    assert [(cost.bytes_down, cost.bytes_up, cost.steps) for cost in lost.costs] == [(0, 0, 17)] * 2  # 66 rows in batches of 4
    assert lost.states == {}


def test_it_is_refused_where_rows_lie_at_different_sites():
    facts = begin(Pooled(), small_digits(), engine="wire").engine.facts
    with pytest.raises(AtollError, match="different sites"):
        check_method(Pooled(), facts)
