"""Federations that change while they train: in every phase clients have its rows, and nothing else changes."""

import dataclasses

import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.data.drift import Drift
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedper import FedPer
from atoll.methods.majority import Majority
from atoll.methods.pooled import Pooled
from tests.harness import assert_alike, assert_near, begin, federation, train

HOW = {"lr": 0.2, "batch": 4}


def phase(seed, sizes):
    """Rows of 4 numbers, three labels, for three clients of these (train, validation, test) sizes."""
    random = np.random.default_rng(seed)
    rows = sum(map(sum, sizes))
    return federation(random.normal(size=(rows, 4)).astype(np.float32), random.integers(0, 3, rows).astype(np.int32), sizes, labels=("0", "1", "2"))


FIRST = phase(0, [(6, 2, 2), (3, 2, 4), (5, 2, 2)])
SECOND = phase(1, [(2, 3, 5), (9, 2, 2), (6, 2, 3)])


def drifting(every=2, order=(0, 1), again=False):
    return dataclasses.replace(FIRST, drift=Drift(every, (SECOND,), order, again))


def test_phases_of_rounds():
    once = Drift(2, (SECOND,), (0, 1, 0))
    assert [once.phase(r) for r in range(9)] == [0, 0, 0, 1, 1, 0, 0, 0, 0]
    assert once.changes(8) == [3, 5]
    again = Drift(3, (SECOND,), (0, 1), again=True)
    assert [again.phase(r) for r in (1, 3, 4, 6, 7, 10, 13)] == [0, 0, 1, 1, 0, 1, 0]
    assert again.changes(9) == [4, 7]
    assert Drift(2, (SECOND,), (0, 0, 1)).changes(9) == [5]
    fed = drifting()
    assert [fed.at(r) is fed for r in (0, 1, 2)] == [True] * 3
    assert fed.at(3) is SECOND
    assert FIRST.at(7) is FIRST


@pytest.mark.parametrize("engine", ["simulate", "loop", "wire"])
def test_each_phase_is_trained_and_scored_on_its_own_rows(engine):
    """Two rounds of the first phase and two of the second are two rounds on the first federation, gone on with on the second one: models, private states,
    weights by rows, what is sent, what it costs, and every score."""
    how = {"models": ("mlp:3",), "engine": engine}
    whole = train(FedPer(**HOW), drifting(), 4, **how)
    before = train(FedPer(**HOW), FIRST, 2, **how)
    after = begin(FedPer(**HOW), SECOND, **how)
    after.restore(2, before.server, before.states)
    costs = [after.step(), after.step()]
    assert_alike((whole.server, whole.states), (after.server, after.engine.executor.dump_states()))
    assert [(c.bytes_up, c.steps, c.flops) for c in whole.costs[2:]] == [(c.bytes_up, c.steps, c.flops) for c in costs]
    assert costs[0].steps != before.costs[0].steps
    columns = ["client", "split", "model", "rows", "correct"]
    assert whole.training.evaluate()[columns].equals(after.evaluate()[columns])
    scored = begin(FedPer(**HOW), drifting(), **how)
    scored.restore(2, before.server, before.states)
    assert scored.evaluate()[columns].equals(before.training.evaluate()[columns])  # a resumed run stands where it stood
    scored.step()
    assert scored.evaluate()["rows"].to_list() == after.evaluate()["rows"].to_list()


def test_weights_are_those_of_the_rows_that_clients_have_now():
    """One full-batch step of FedAvg on a linear model: the mean over clients weighs 2, 9 and 6 rows in the second phase, as one client of 17 rows would."""
    method = FedAvg(lr=0.1, batch=50)
    start = train(method, drifting(), 2, models=("softmax",))
    moved = train(method, drifting(), 3, models=("softmax",))
    merged = federation(SECOND.x, SECOND.y, [(17, 7, 10)], labels=("0", "1", "2"))
    one = begin(method, merged, models=("softmax",))
    one.restore(2, start.server, {})
    one.step()
    assert_near(moved.server, one.server)


def test_the_pool_and_programs_on_the_host_see_the_phase_too():
    pooled, second = (train(Pooled(**HOW), fed, 3, models=("softmax",)) for fed in (drifting(every=1), SECOND))
    assert pooled.costs[0].steps == 4  # 14 rows in batches of 4
    assert pooled.costs[1].steps == second.costs[0].steps == 5  # 17 rows
    assert pooled.costs[1].flops == second.costs[0].flops != pooled.costs[0].flops
    scores = train(Majority(), drifting(every=1), 2, models=("softmax",)).training.evaluate().filter(split="test")
    majority = [np.bincount(SECOND.y[s : s + n], minlength=3).argmax() for s, n in zip(SECOND.start["train"], SECOND.count["train"], strict=True)]
    right = [(SECOND.y[s : s + n] == m).sum() for s, n, m in zip(SECOND.start["test"], SECOND.count["test"], majority, strict=True)]
    assert scores["correct"].to_list() == right


def test_a_second_method_begins_with_the_first_phase():
    fed = drifting(every=1)
    training = begin(FedAvg(**HOW), fed, models=("softmax",))
    training.start()
    training.step()
    training.step()
    again = type(training)(FedAvg(**HOW), fed, training.engine.facts, training.engine, seed=0, selector=training.fed._selector)
    again.start()
    again.step()
    assert_alike(again.server, train(FedAvg(**HOW), FIRST, 1, models=("softmax",)).server)


def test_phases_differ_in_rows_only():
    for drift, message in (
        (Drift(2, (phase(1, [(2, 2, 2)] * 2),), (0, 1)), "phase 1 has other clients"),
        (Drift(2, (dataclasses.replace(SECOND, scale=0.5),), (0, 1)), "phase 1 is shifted and scaled"),
        (Drift(0, (SECOND,), (0, 1)), "must begin with phase 0"),
        (Drift(1, (SECOND,), (1, 0)), "must begin with phase 0"),
        (Drift(1, (SECOND,), (0, 2)), "must begin with phase 0"),
    ):
        with pytest.raises(AtollError, match=message):
            dataclasses.replace(FIRST, drift=drift)
