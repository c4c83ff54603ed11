"""SCAFFOLD against its own algorithm written in NumPy for quadratics, its invariant, and the fixed point that tells it from FedAvg.

Clients f_i(w) = a_i/2 (w - b_i)^2. Where x is the optimum and c_i = a_i (x - b_i), c = mean c_i = 0 and every corrected step has direction
f_i'(y) - c_i + c = a_i (y - x), so that nothing moves: the fixed point is the optimum -0.066667, whatever the number of local steps.
"""

import dataclasses

import numpy as np
import pytest

from atoll.core import local
from atoll.core.fold import mean
from atoll.core.method import method
from atoll.methods.fedavg import FedAvg
from atoll.methods.scaffold import Reply, Scaffold
from tests.exact.plain import Circumstances, add, first_model, gradient, key, rows, sgd, weights
from tests.harness import Fixed, assert_alike, assert_near, begin, leaves, linear, normed, quadratics, small_digits, train

A, B = np.array([1.0, 2.0, 4.0, 0.5]), np.array([0.0, 1.0, -1.0, 3.0])
QUADRATICS = Scaffold(lr=0.1, epochs=5, batch=0)
OPTIMUM = (A @ B) / A.sum()


def number(w):
    return leaves(w)[0].item()


class Turns:
    """Asks other clients each round."""

    def __init__(self, *turns):
        self.turns = turns

    def choose(self, fed):
        return np.array(self.turns[(fed.round - 1) % len(self.turns)])


@pytest.mark.parametrize("option", [1, 2])
def test_the_fixed_point_is_the_optimum(option):
    assert pytest.approx(-0.066667, abs=1e-6) == OPTIMUM
    trained = train(dataclasses.replace(QUADRATICS, option=option), quadratics(list(A), list(B)), 150, **linear())
    assert_near(number(trained.server.x), OPTIMUM, 2e-6)
    assert_near(number(trained.server.c), 0.0, 5e-6)
    assert_near(np.array([number(trained.states[i]) for i in range(4)]), A * (OPTIMUM - B), 2e-5)


@method
class Forgetful:
    """SCAFFOLD as re-implementations get it wrong: c_i is computed and never kept."""

    def init(self, fed):
        return QUADRATICS.init(fed)

    def join(self, i, s):
        return 0.0 * s.c

    def round(self, s, fed):
        up = fed.ask(fed.sample(), self.update, s, reduce=mean)
        return s._replace(x=s.x + up.dy)

    def update(self, i, s):
        y, _ = local.sgd(i, s.x, 0.1, epochs=5, batch=0, correction=s.c - i.state)
        return Reply(y - s.x, 0.0 * s.c, np.float32(1)), i.state

    def global_model(self, k, s):
        return s.x


def test_with_control_variates_at_zero_it_is_fedavg():
    """And ends at FedAvg's fixed point 0.192234, far from the optimum: the test above can fail."""
    forgetful = train(Forgetful(), quadratics(list(A), list(B)), 60, **linear())
    plain = train(FedAvg(lr=0.1, epochs=5, batch=0), quadratics(list(A), list(B)), 60, **linear())
    assert_near(number(forgetful.server.x), number(plain.server), 1e-6)
    assert_near(number(forgetful.server.x), 0.192234, 2e-6)


def test_the_first_round_is_fedavgs():
    """All control variates begin at 0. One client, since FedAvg weighs by rows."""
    fed = small_digits(1)
    how = {"lr": 0.2, "epochs": 2, "batch": 4}
    assert_near(train(Scaffold(**how), fed, 1).server.x, train(FedAvg(**how), fed, 1).server, 1e-6)


@pytest.mark.parametrize("option", [1, 2])
def test_rounds_by_hand(option):
    """The algorithm box in NumPy: three of four clients a round, three local steps, eta_g = 0.7."""
    made = Scaffold(lr=0.1, epochs=3, batch=0, server_lr=0.7, option=option)
    turns = ([0, 1, 3], [1, 2, 3], [0, 2, 3])
    x = number(first_model(begin(made, quadratics(list(A), list(B)), **linear())))
    c, c_i = 0.0, np.zeros(4)
    for S in turns:
        dy, dc = [], []
        for i in S:
            y = x
            for _ in range(3):
                y = y - 0.1 * (A[i] * (y - B[i]) - c_i[i] + c)
            new = A[i] * (x - B[i]) if option == 1 else c_i[i] - c + (x - y) / (3 * 0.1)
            dy.append(y - x)
            dc.append(new - c_i[i])
            c_i[i] = new
        x, c = x + 0.7 / 3 * sum(dy), c + 3 / 4 * np.mean(dc)
    trained = train(made, quadratics(list(A), list(B)), 3, selector=Turns(*turns), **linear())
    assert_near([number(trained.server.x), number(trained.server.c)], [x, c])
    assert_near(np.array([number(trained.states[i]) for i in range(4)]), c_i)


def test_rounds_in_batches_by_hand():
    """Option II in NumPy: ragged clients do different numbers of steps, 6, 8 and 10, and each divides by its own."""
    fed, lr = small_digits(3), 0.2
    made = Scaffold(lr=lr, epochs=2, batch=4)
    x = weights(first_model(begin(made, fed, models=("softmax",))))
    zero = add(x, x, -1.0)
    c, c_i = zero, [zero, zero, zero]
    for round in (1, 2):
        y = [sgd(x, *rows(fed, i), lr, 2, 4, key("update", round, i), correction=add(c, c_i[i], -1.0)) for i in range(3)]
        c_i = [add(add(c_i[i], c, -1.0), add(x, y[i], -1.0), 1 / (K * lr)) for i, K in enumerate((6, 8, 10))]
        x, c = ([np.mean(part, axis=0) for part in zip(*of_all, strict=True)] for of_all in (y, c_i))
    trained = train(made, fed, 2, models=("softmax",))
    assert_near(weights(trained.server.x), x)
    assert_near([weights(trained.states[i]) for i in range(3)], c_i)


@pytest.mark.parametrize("option", [1, 2])
def test_c_is_the_mean_of_all_c_i(option):
    """With two of five clients a round, one of them lost at times; who never took part counts with 0."""
    fed = small_digits(5)
    made = Scaffold(lr=0.2, epochs=2, batch=4, server_lr=0.5, option=option)
    training = begin(made, fed, per_round=2, conditions=Circumstances(gone={2: [0, 1], 3: [2, 3]}))
    training.start()
    for _ in range(6):
        training.step()
        states = training.engine.executor.dump_states()
        for at, c in enumerate(leaves(training.server.c)):
            assert_near(c, sum(leaves(state)[at] for state in states.values()) / 5, 2e-6)
    assert len(states) == 5
    assert abs(leaves(training.server.c)[1]).max() > 1e-2


@pytest.mark.parametrize("option", [1, 2])
def test_one_full_step_of_all_clients_is_gradient_descent(option):
    """Corrections cancel in the mean: x <- x - lr mean_i grad f_i(x), over clients, not rows."""
    fed = small_digits()
    made = Scaffold(lr=0.5, batch=0, option=option)
    w = weights(first_model(begin(made, fed, models=("softmax",))))
    for _ in range(3):
        parts = zip(*(gradient(w, *rows(fed, i)) for i in range(4)), strict=True)
        w = add(w, [np.mean(part, axis=0) for part in parts], -0.5)
    assert_near(weights(train(made, fed, 3, models=("softmax",)).server.x), w)


def test_option_1_keeps_the_gradient_over_all_rows():
    fed = small_digits()
    made = Scaffold(lr=0.2, epochs=2, batch=4, option=1)
    before, after = (train(made, fed, n, models=("softmax",)) for n in (2, 3))
    for i in range(4):
        assert_near(weights(after.states[i]), gradient(weights(before.server.x), *rows(fed, i)))


def test_lost_clients_count_neither_in_the_mean_nor_in_c():
    """x moves by the mean of those that answered, c by their share of all clients; as if only they had been asked."""
    fed = small_digits()
    made = Scaffold(lr=0.2, epochs=2, batch=4)
    lost = train(made, fed, 2, conditions=Circumstances(gone={1: [1, 3], 2: [0, 1]}))
    asked = train(made, fed, 2, selector=Turns([0, 2], [2, 3]))
    assert_alike(lost.server, asked.server)
    assert_alike(lost.states, asked.states)
    assert set(lost.states) == {0, 2, 3}


def test_batch_norm_statistics_are_averaged_and_have_no_control_variates():
    """The first round is FedAvg's, statistics included. Of one client, whose weight is all."""
    fed, how = small_digits(1), {"lr": 0.1, "epochs": 1, "batch": 4}
    model = {"models": (normed(fed),)}
    for option in (1, 2):
        trained = train(Scaffold(**how, option=option), fed, 2, **model)
        assert "buffers" not in trained.server.c.tree
        assert "buffers" not in trained.states[0].tree
    first, plain = train(Scaffold(**how), fed, 1, **model), train(FedAvg(**how), fed, 1, **model)
    assert_near(first.server.x, plain.server)
    assert not np.array_equal(leaves(first.server.x.tree["buffers"])[0], leaves(trained.server.x.tree["buffers"])[0])


def started_warm(fed, **how):
    """SCAFFOLD with a warm start after its first round, and the model that it began with."""
    training = begin(Scaffold(**{"lr": 0.1, "batch": 0, "warm_start": True, **how}), fed, **linear())
    training.start()
    x = number(training.server.x)
    cost = training.step()
    assert number(training.server.x) == x  # nothing is trained
    assert cost.steps == 0
    return training, x


@pytest.mark.parametrize("option", [1, 2])
def test_after_a_warm_start_the_first_correction_is_exact(option):
    """c_i = a_i (x - b_i), c their mean: the corrected direction at y is a_i (y - b_i) - c_i + c = a_i (y - x) + c, so that after K steps
    y_i = x - c (1 - (1 - lr a_i)^K) / a_i. Without it the clients' first round is FedAvg's."""
    training, x = started_warm(quadratics(list(A), list(B)), epochs=5, server_lr=0.7, option=option)
    c_i = A * (x - B)
    c = c_i.mean()
    states = training.engine.executor.dump_states()
    assert_near(np.array([number(states[i]) for i in range(4)]), c_i)
    assert_near(number(training.server.c), c)
    training.step()
    y = x - c * (1 - (1 - 0.1 * A) ** 5) / A
    assert_near(number(training.server.x), x + 0.7 * np.mean(y - x))
    cold = train(dataclasses.replace(QUADRATICS, server_lr=0.7, option=option), quadratics(list(A), list(B)), 1, **linear())
    assert abs(number(cold.server.x) - number(training.server.x)) > 0.01


@pytest.mark.parametrize("only", range(4))
def test_after_a_warm_start_any_single_client_steps_as_all_would(only):
    """One local step of the only client that is asked: x - lr grad f(x), f the mean of all; the client's own gradient is another."""
    training, x = started_warm(quadratics(list(A), list(B)))
    training.fed._selector = Fixed(only)
    training.step()
    assert_near(number(training.server.x), x - 0.1 * np.mean(A * (x - B)))
    assert abs(A[only] * (x - B[only]) - np.mean(A * (x - B))) > 0.1


def test_a_warm_start_asks_everyone_and_is_counted():
    fed = small_digits()
    trained = train(Scaffold(lr=0.2, batch=4, warm_start=True), fed, 2, models=("softmax",), selector=Fixed(1))
    first, second = trained.costs
    model = 4 * 650  # bytes: 64 x 10 and 10 parameters
    assert (first.cohort, first.bytes_down, first.bytes_up) == (4, 4 * 2 * model, 4 * (model + 4))
    assert (second.cohort, second.bytes_down, second.bytes_up) == (1, 2 * model, 2 * model + 4)
    assert first.flops > 0
    w = weights(first_model(begin(Scaffold(), fed, models=("softmax",))))
    for i in (0, 2, 3):
        assert_near(weights(trained.states[i]), gradient(w, *rows(fed, i)))


def test_c_is_the_mean_of_all_c_i_after_a_warm_start_too():
    """Clients 1 and 3 can't be reached in it and count with 0 until they take part."""
    fed = small_digits(5)
    training = begin(Scaffold(lr=0.2, epochs=2, batch=4, warm_start=True), fed, per_round=2, conditions=Circumstances(gone={1: [1, 3], 3: [0, 4]}))
    training.start()
    for _ in range(5):
        training.step()
        states = training.engine.executor.dump_states()
        for at, c in enumerate(leaves(training.server.c)):
            assert_near(c, sum(leaves(state)[at] for state in states.values()) / 5, 2e-6)
        assert abs(leaves(training.server.c)[1]).max() > 1e-2
    assert {0, 2, 4} <= set(states)


def test_the_fixed_point_after_a_warm_start_is_the_optimum():
    trained = train(dataclasses.replace(QUADRATICS, warm_start=True), quadratics(list(A), list(B)), 150, **linear())
    assert_near(number(trained.server.x), OPTIMUM, 2e-6)
