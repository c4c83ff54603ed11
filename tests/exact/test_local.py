"""Local training against NumPy and against FedAvg with one client."""

import numpy as np

from atoll.methods.fedavg import FedAvg
from atoll.methods.local import Local
from tests.exact.plain import Circumstances, first_model, key, rows, sgd, weights
from tests.harness import Fixed, assert_alike, assert_near, begin, federation, leaves, small_digits, train

METHOD = Local(lr=0.2, epochs=2, batch=4)


def test_every_client_does_plain_sgd():
    fed = small_digits()
    start = weights(first_model(begin(METHOD, fed, models=("softmax",))))
    states = train(METHOD, fed, 2, models=("softmax",)).states
    for i in range(4):
        w = start
        for round in (1, 2):
            w = sgd(w, *rows(fed, i), 0.2, 2, 4, key("update", round, i))
        assert_near(weights(states[i]), w)


def test_a_client_alone_is_fedavg_with_one_client():
    fed = small_digits()
    states = train(METHOD, fed, 3, per_round=1).states  # who would be sampled does not matter
    for i in range(4):
        assert_alike(states[i], train(FedAvg(lr=0.2, epochs=2, batch=4), fed, 3, selector=Fixed(i)).server)


def test_training_stops_at_the_budget():
    """Two epochs a round and three in all, rounded up to whole rounds: rounds 1 and 2 train, the others do not."""
    fed = small_digits()
    method = Local(lr=0.2, epochs=2, batch=4, budget=3)
    per_epoch = sum(-(-n // 4) for n in fed.count["train"])
    stopped = train(method, fed, 4)
    assert [cost.steps for cost in stopped.costs] == [2 * per_epoch, 2 * per_epoch, 0, 0]
    assert_alike(stopped.states, train(method, fed, 2).states)
    assert not np.array_equal(leaves(stopped.states)[1], leaves(train(method, fed, 1).states)[1])


def test_missed_rounds_are_made_up_for():
    """Client 1 can't be reached in round 1, client 2 is slow until it is not: all end with three epochs."""
    fed = small_digits()
    slow = Circumstances(gone={1: [1]}, budget={2: 0.5})
    training = begin(Local(batch=4, budget=3), fed, conditions=slow)
    training.start()
    cohorts = []
    for round in range(1, 7):
        if round == 3:
            slow.budget = {}
        cohorts.append(training.step().cohort)
    assert cohorts == [4, 4, 4, 2, 1, 0]
    assert np.asarray(training.server).tolist() == [3, 3, 3, 3]


def test_clients_that_are_held_out_train_too():
    """They are alone as all are, and what they would predict with untrained would flatter every other method."""
    whole = small_digits(3)
    fed = federation(whole.x, whole.y, [(9, 5, 6), (14, 5, 6), (19, 5, 6)], seen=1, scale=1 / 16)
    assert_alike(train(METHOD, fed, 2).states, train(METHOD, whole, 2).states)


def test_nothing_is_sent():
    trained = train(METHOD, small_digits(), 2)
    assert [(cost.bytes_down, cost.bytes_up) for cost in trained.costs] == [(0, 0), (0, 0)]


def test_every_client_may_have_an_architecture_of_its_own():
    fed = small_digits(3)
    mixed = train(METHOD, fed, 2, models=("mlp:6", "softmax"))
    for model, clients in (("mlp:6", (0, 2)), ("softmax", (1,))):
        alone = train(METHOD, fed, 2, models=(model,))
        for i in clients:
            assert_alike(mixed.states[i], alone.states[i])
