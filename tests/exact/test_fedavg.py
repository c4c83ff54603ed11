"""FedAvg against NumPy and against the fixed points of quadratics.

Clients f_i(w) = a_i/2 (w - b_i)^2. K full-batch steps at rate eta take w to b_i + (1 - eta a_i)^K (w - b_i), so the mean over equal clients stays
where sum_i c_i (w - b_i) = 0 with c_i = 1 - (1 - eta a_i)^K: FedAvg's fixed point weighs the b_i by c_i, the optimum by a_i, the same for K = 1 only.
"""

import numpy as np
import pytest

from atoll.methods.fedavg import FedAvg
from tests.exact.plain import Circumstances, add, first_model, gradient, key, rows, sgd, weights
from tests.harness import Fixed, assert_near, begin, federation, leaves, linear, quadratics, small_digits, train

A, B = np.array([1.0, 2.0, 4.0, 0.5]), np.array([0.0, 1.0, -1.0, 3.0])
SOFTMAX = {"models": ("softmax",)}


def test_full_batches_are_gradient_descent_on_all_rows():
    """One step each: sum_k n_k/n (w - lr grad f_k(w)) = w - lr grad f(w), the gradient over the rows of all clients together."""
    fed = small_digits()
    x, y = (np.concatenate(part) for part in zip(*(rows(fed, i) for i in range(4)), strict=True))
    w = weights(first_model(begin(FedAvg(), fed, **SOFTMAX)))
    for _ in range(3):
        w = add(w, gradient(w, x, y), -0.5)
    assert_near(weights(train(FedAvg(lr=0.5, batch=0), fed, 3, **SOFTMAX).server), w)


def test_one_client_is_plain_sgd():
    fed = small_digits(1)
    w = weights(first_model(begin(FedAvg(), fed, **SOFTMAX)))
    for round in (1, 2, 3):
        w = sgd(w, *rows(fed, 0), 0.2, 2, 4, key("update", round, 0))  # 9 rows: batches of 4, 4 and 1
    assert_near(weights(train(FedAvg(lr=0.2, epochs=2, batch=4), fed, 3, **SOFTMAX).server), w)


@pytest.mark.parametrize(("K", "value"), [(5, 0.192234), (1, -0.066667)])
def test_fixed_point_on_quadratics(K, value):
    c = 1 - (1 - 0.1 * A) ** K
    assert (c @ B) / c.sum() == pytest.approx(value, abs=1e-6)
    got = leaves(train(FedAvg(lr=0.1, epochs=K, batch=0), quadratics(list(A), list(B)), 120, **linear()).server)
    assert_near(got[0].item(), value, 2e-6)


def test_weights_are_the_rows_of_the_sampled_clients():
    """9 and 19 rows are asked, 14 and 24 are not: w = (9 w_0 + 19 w_2) / 28. The n of all clients, or equal weights, would be seen."""
    fed, method = small_digits(), FedAvg(lr=0.5, epochs=2, batch=4)
    alone = [leaves(train(method, fed, 1, selector=Fixed(i)).server) for i in (0, 2)]
    got = leaves(train(method, fed, 1, selector=Fixed(0, 2)).server)
    assert_near(got, [(9 * a + 19 * b) / 28 for a, b in zip(*alone, strict=True)], 1e-6)
    assert abs(got[1] - (alone[0][1] + alone[1][1]) / 2).max() > 1e-4


def test_weights_are_those_of_clients_that_answered():
    fed, method = small_digits(), FedAvg(lr=0.5, epochs=2, batch=4)
    wanted = train(method, fed, 1, selector=Fixed(0, 2))
    lost = train(method, fed, 1, conditions=Circumstances(gone={1: [1, 3]}))
    assert (lost.costs[0].cohort, lost.costs[0].answered, lost.costs[0].bytes_up) == (4, 2, wanted.costs[0].bytes_up)
    assert_near(lost.server, wanted.server, 1e-6)


def test_numbering_of_clients_does_not_matter():
    """The same clients in another order. Full batches, since a client's batches are drawn by its number."""
    fed = small_digits()
    order = [2, 0, 3, 1]
    parts = [[(fed.x[s : s + n], fed.y[s : s + n]) for s, n in zip(fed.start[t], fed.count[t], strict=True)] for t in ("train", "validation", "test")]
    x, y = (np.concatenate([split[i][side] for split in parts for i in order]) for side in (0, 1))
    other = federation(x, y, [(int(fed.count["train"][i]), 5, 6) for i in order], scale=1 / 16)
    method = FedAvg(lr=0.5, epochs=3, batch=0)
    assert_near(train(method, fed, 2).server, train(method, other, 2).server, 1e-6)
