"""FedCL against FedAvg, FedProx, NumPy and the closed form of the importance."""

import numpy as np
import pytest

from atoll.core.importance import importance
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedcl import FedCL, Shared
from atoll.methods.fedprox import FedProx
from tests.exact.plain import add, first_model, gradient, rows, weights
from tests.harness import assert_alike, assert_near, begin, normed, small_digits, train

HOW = {"lr": 0.2, "epochs": 2, "batch": 4}


def fisher(w, x, y):
    """Mean over rows of the squared gradient of each: x_j^2 e_c^2 with e = softmax(x W + b) - onehot(y)."""
    p = np.exp(x @ w[0] + w[1])
    e = p / p.sum(1, keepdims=True) - np.eye(len(w[1]))[y]
    return (x**2).T @ e**2 / len(x), (e**2).mean(0)


def public(fed):
    x, y = fed.public
    return (x.astype(np.float64) * fed.scale).reshape(len(x), -1), y


def test_without_the_term_it_is_fedavg():
    fed = small_digits(3, public=20)
    assert_alike(train(FedCL(**HOW, lam=0.0), fed, 2).server, train(FedAvg(**HOW), fed, 2).server)


@pytest.mark.parametrize("size", [1, 20, 150])
def test_importance_is_the_mean_of_squares_and_not_the_square_of_means(size):
    """Over one pass of the server's rows or several, the last not full."""
    fed = small_digits(2, public=size)
    training = begin(FedCL(), fed, models=("softmax",))
    w = first_model(training)
    got = training.fed.at_server(importance, w)
    assert_near(weights(got), fisher(weights(w), *public(fed)), 1e-5)


def test_importance_has_no_buffers():
    fed = small_digits(2, public=10)
    training = begin(FedCL(), fed, models=(normed(fed),))
    w = first_model(training)
    assert "buffers" in w.tree
    assert "buffers" not in training.fed.at_server(importance, w).tree


def test_two_full_steps_by_hand():
    """v <- v - lr (g + 2 lam Omega (v - w)), Omega from the public rows at the w that was sent, anew each round."""
    fed, lr, lam = small_digits(1, public=30), 0.2, 0.8
    w = weights(first_model(begin(FedCL(), fed, models=("softmax",))))
    for _ in range(2):
        omega, v = fisher(w, *public(fed)), w
        for _ in range(2):
            pull = tuple(2 * lam * o * d for o, d in zip(omega, add(v, w, -1.0), strict=True))
            v = add(v, add(gradient(v, *rows(fed, 0)), pull, 1.0), -lr)
        w = v
    assert_near(weights(train(FedCL(lr=lr, epochs=2, batch=0, lam=lam), fed, 2, models=("softmax",)).server), w)


def test_equal_importance_is_fedprox():
    """Omega = c everywhere: lam c ||v - w||^2 is FedProx's term with mu = 2 lam c."""
    fed = small_digits(2, public=10)
    training = begin(FedCL(**HOW, lam=0.5), fed)
    training.start()
    training.fed.begin_round(1, training.shared)
    w = training.server
    got = training.fed.ask([0, 1], training.method.update, Shared(w, 0 * w + 3.0))
    other = begin(FedProx(**HOW, mu=3.0), fed)
    other.start()
    other.fed.begin_round(1, other.shared)
    assert_near(got.w, other.fed.ask([0, 1], other.method.update, w).w, 1e-6)

