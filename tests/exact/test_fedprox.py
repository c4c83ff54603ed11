"""FedProx against FedAvg, NumPy and the fixed points of quadratics.

Client f_i(w) = a_i/2 (w - b_i)^2 minimises h_i(v) = f_i(v) + mu/2 (v - w)^2 at v_i = (a_i b_i + mu w) / (a_i + mu). K steps of gradient descent from w at
rate eta go the share 1 - (1 - eta (a_i + mu))^K of the way, w - v_i = a_i (w - b_i) / (a_i + mu). So the mean over equal clients stays at the w that weighs
the b_i by c_i = (1 - (1 - eta (a_i + mu))^K) a_i / (a_i + mu), which for many steps is a_i / (a_i + mu).
"""

import dataclasses

import jax
import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.local import proximal
from atoll.core.method import configured
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedprox import FedProx
from tests.exact.plain import Circumstances, add, first_model, gradient, key, rows, sgd, weights
from tests.harness import Fixed, assert_alike, assert_near, begin, leaves, linear, normed, quadratics, small_digits, train

A, B = np.array([1.0, 2.0, 4.0, 0.5]), np.array([0.0, 1.0, -1.0, 3.0])


@pytest.mark.parametrize("model", ["softmax", "mlp:6", pytest.param("lenet", marks=pytest.mark.long)])
def test_without_the_term_it_is_fedavg(model):
    fed, how = small_digits(3), {"lr": 0.2, "epochs": 2, "batch": 4}
    wanted = train(FedAvg(**how), fed, 2, models=(model,))
    assert_alike(train(FedProx(**how, mu=0.0), fed, 2, models=(model,)).server, wanted.server)
    assert not np.array_equal(leaves(train(FedProx(**how), fed, 2, models=(model,)).server)[-1], leaves(wanted.server)[-1])


@pytest.mark.long  # where tests are compiled plainly, BatchNorm makes more of what rounds apart
def test_without_the_term_and_with_batch_norm_it_is_fedavg():
    fed, how = small_digits(3), {"lr": 0.2, "epochs": 2, "batch": 4}
    model = {"models": (normed(fed),)}
    assert_alike(train(FedProx(**how, mu=0.0), fed, 2, **model).server, train(FedAvg(**how), fed, 2, **model).server)


def test_without_the_term_and_with_full_batches_it_is_fedavg():
    how = {"lr": 0.2, "epochs": 3, "batch": 0}
    assert_alike(train(FedProx(**how, mu=0.0), small_digits(3), 2).server, train(FedAvg(**how), small_digits(3), 2).server)


@pytest.mark.parametrize(("mu", "lr", "K", "value"), [(1, 0.1, 100, 0.376812), (15, 0.05, 60, 0.009209), (1, 0.1, 5, 0.181457), (0.001, 0.2, 100, 0.749127)])
def test_fixed_point_on_quadratics(mu, lr, K, value):
    """Many steps: a_i / (a_i + mu). Few steps pull less. A small mu: nearly the mean of the b_i, 0.75."""
    c = (1 - (1 - lr * (A + mu)) ** K) * A / (A + mu)
    w = (c @ B) / c.sum()
    assert w == pytest.approx(value, abs=1e-6)
    rounds = int(np.ceil(np.log(1e-7) / np.log(1 - c.mean())))
    got = leaves(train(FedProx(lr=lr, epochs=K, batch=0, mu=mu), quadratics(list(A), list(B)), rounds, **linear()).server)
    assert_near(got[0].item(), w, 2e-6)


def test_the_proximal_step_by_hand():
    """v <- v - lr (g + mu (v - w)) in NumPy; mu/2 in the objective, w as it was sent, and no division of the term by the batch."""
    fed = small_digits(1)
    w = weights(first_model(begin(FedProx(), fed, models=("softmax",))))
    for round in (1, 2):
        w = sgd(w, *rows(fed, 0), 0.2, 3, 4, key("update", round, 0), mu=2.0)
    assert_near(weights(train(FedProx(lr=0.2, epochs=3, batch=4, mu=2.0), fed, 2, models=("softmax",)).server.w), w)


def test_partial_work_of_stragglers_counts():
    """Clients 0 and 1 manage 3 and 1 of 8 steps; client 1's share is less than a step, and a step is the least. FedAvg is left with clients 2 and 3."""
    slow = Circumstances(budget={0: 0.4, 1: 0.1})
    lr, mu, K = 0.1, 1.0, np.array([3, 1, 8, 8])
    w0 = leaves(first_model(begin(FedProx(), quadratics(list(A), list(B)), **linear())))[0].item()
    v = (A * B + mu * w0) / (A + mu)
    trained = train(FedProx(lr=lr, epochs=8, batch=0, mu=mu), quadratics(list(A), list(B)), 1, conditions=slow, **linear())
    assert_near(leaves(trained.server)[0].item(), np.mean(v + (1 - lr * (A + mu)) ** K * (w0 - v)), 2e-6)
    assert (trained.costs[0].answered, trained.costs[0].steps) == (4, 20)
    how = {"lr": 0.2, "epochs": 2, "batch": 4}
    lost, wanted = (train(FedAvg(**how), small_digits(), 1, **given) for given in ({"conditions": slow}, {"selector": Fixed(2, 3)}))
    assert_near(lost.server, wanted.server, 1e-6)
    assert lost.costs[0].answered == 2


@pytest.mark.parametrize("gamma", [0.5, 0.1, 0.03])
def test_clients_stop_where_they_are_inexact_enough(gamma):
    """On quadratics t full steps shrink the gradient of h_i to |1 - lr (a_i + mu)|^t of the first: client i stops at the least t that is small enough, at
    most 12. What it reached is reported; the mean of the w_i and of the gamma_i is over equal clients."""
    lr, mu, most = 0.1, 1.0, 12
    shrinks = np.abs(1 - lr * (A + mu))
    t = np.minimum(np.ceil(np.log(gamma) / np.log(shrinks)), most)
    assert len(set(t)) > 1
    assert (t < most).any()
    training = begin(FedProx(), quadratics(list(A), list(B)), **linear())
    w0 = leaves(first_model(training))[0].item()
    v = (A * B + mu * w0) / (A + mu)
    trained = train(FedProx(lr=lr, epochs=most, batch=0, mu=mu, gamma=gamma), quadratics(list(A), list(B)), 1, **linear())
    assert trained.costs[0].steps == t.sum()
    assert_near(leaves(trained.server.w)[0].item(), np.mean(v + shrinks**t * np.sign(1 - lr * (A + mu)) ** t * (w0 - v)), 2e-6)
    assert float(trained.server.gamma) == pytest.approx(np.mean(shrinks**t), rel=1e-4)


def test_inexactness_in_batches_by_hand():
    """NumPy, epoch by epoch: the gradient of h over all rows is measured after each; batches, their order and the norm over both kernel and bias."""
    fed, lr, mu, gamma, most = small_digits(3), 0.1, 1.0, 0.3, 9
    start = weights(first_model(begin(FedProx(), fed, models=("softmax",))))

    def slope(v, x, y):
        return np.sqrt(sum((part**2).sum() for part in add(gradient(v, x, y), add(v, start, -1.0), mu)))

    epochs, reached, n = [], [], []
    for i in range(3):
        x, y = rows(fed, i)
        for epoch in range(1, most + 1):
            v = sgd(start, x, y, lr, epoch, 4, key("update", 1, i), mu=mu)
            ratio = slope(v, x, y) / slope(start, x, y)
            if ratio <= gamma:
                break
        epochs.append(epoch)
        reached.append(ratio)
        n.append(len(x))
    assert len(set(epochs)) > 1
    trained = train(FedProx(lr=lr, epochs=most, batch=4, mu=mu, gamma=gamma), fed, 1, models=("softmax",))
    assert trained.costs[0].steps == sum(e * -(-rows // 4) for e, rows in zip(epochs, n, strict=True))
    assert float(trained.server.gamma) == pytest.approx(np.average(reached, weights=n), rel=1e-4)


def test_a_gamma_that_nobody_reaches_measures_and_changes_nothing():
    how = {"lr": 0.1, "epochs": 3, "batch": 4, "mu": 1.0}
    plain, measured = (train(FedProx(**how, gamma=gamma), small_digits(), 2) for gamma in (0.0, 1e-9))
    assert_alike(measured.server.w, plain.server.w)
    assert measured.costs[0].steps == plain.costs[0].steps
    assert plain.server.gamma is None
    assert 0.01 < float(measured.server.gamma) < 1
    assert measured.costs[0].bytes_up == plain.costs[0].bytes_up + 4 * 4
    assert measured.costs[0].flops > plain.costs[0].flops


def test_stragglers_are_less_exact():
    """Client 0 manages 3 of 8 steps, and so reaches |1 - lr (a + mu)|^3 only."""
    lr, mu = 0.1, 1.0
    shrinks = np.abs(1 - lr * (A + mu))
    slow = Circumstances(budget={0: 0.4})
    trained = train(FedProx(lr=lr, epochs=8, batch=0, mu=mu, gamma=1e-6), quadratics(list(A), list(B)), 1, conditions=slow, **linear())
    assert float(trained.server.gamma) == pytest.approx(np.mean(shrinks ** np.array([3, 8, 8, 8])), rel=1e-4)


def test_buffers_are_not_pulled():
    model = normed(small_digits(1))
    w = model.init(jax.random.key(0))
    moved = type(w)({**w.tree, "buffers": jax.tree.map(lambda leaf: leaf + 1, w.tree["buffers"])})
    assert float(proximal(2.0, moved, w, model)) == 0
    assert float(proximal(2.0, w + 1.0 * w, w, model)) == pytest.approx(sum(float((leaf**2).sum()) for leaf in leaves(model.parameters(w))), rel=1e-5)


def test_steps_that_diverge_are_refused():
    with pytest.raises(AtollError, match=r"lr \* mu >= 2"):
        FedProx(lr=0.5, mu=4.0)
    with pytest.raises(AtollError, match=r"lr < 0.5 or a smaller mu"):
        dataclasses.replace(FedProx(), lr=0.5, mu=4.0)
    with pytest.raises(AtollError, match=r"lr \* mu >= 2"):
        configured(FedProx, {"lr": "1", "mu": "2"})
    assert FedProx(lr=0.5, mu=3.9).mu == 3.9
