"""ARUBA against FedAvg and numbers by hand. Quadratics f(w) = a/2 (w - b)^2 have gradient a (w - b)."""

import numpy as np
import pytest

from atoll.methods.aruba import ARUBA
from atoll.methods.fedavg import FedAvg
from tests.exact.plain import first_model
from tests.harness import assert_near, begin, leaves, linear, quadratics, small_digits, train

STEP = {"epochs": 1, "batch": 1}


def start(method, fed):
    return leaves(first_model(begin(method, fed, **linear())))[0].item()


def number(tree):
    return leaves(tree)[0].item()


def test_the_first_round_is_fedavg():
    fed, how = small_digits(3), {"epochs": 2, "batch": 4, "lr": 0.2}
    assert_near(train(ARUBA(**how, zeta=3.0), fed, 1).server.phi, train(FedAvg(**how), fed, 1).server, 1e-5)


def test_one_client_by_hand():
    """eps = zeta = p = 1, gradient 3, one step at rate 1: B = 1 + 4.5 + 1/2 = 6, G = 1 + 9 + 1/2 = 10.5, and the next rate is sqrt(6 / 10.5) = 0.756."""
    w0 = start(ARUBA(), quadratics([1.0], [0.0]))
    method = ARUBA(lr=1.0, **STEP)
    fed = quadratics([1.0], [w0 - 3])
    s = train(method, fed, 1, **linear()).server
    assert (number(s.B), number(s.G), float(s.t)) == pytest.approx((6, 10.5, 1), rel=1e-5)
    assert number(method.rate(s.B, s.G)) == pytest.approx(0.7559, abs=1e-4)
    assert number(s.phi) == pytest.approx(w0 - 3, abs=1e-5)


@pytest.mark.parametrize("p", [1.0, 0.5])
def test_clients_are_counted_one_by_one(p):
    """Two rounds of three clients: the first fade by 2, 3, 4 to the power -p, the second by 5, 6, 7, and each moves at the rate learned before."""
    a, b, lr, zeta = np.array([1.0, 2.0, 0.5]), np.array([0.3, -0.4, 1.0]), 0.4, 2.0
    fed = quadratics(list(a), list(b))
    method = ARUBA(lr=lr, zeta=zeta, p=p, **STEP)
    w, B, G, t = start(method, fed), (lr * zeta) ** 2, zeta**2, 0
    for _ in range(2):
        eta, g = np.sqrt(B / G), a * (w - b)
        fading = sum((t + j + 1.0) ** -p for j in (1, 2, 3))
        B += (0.5 * (eta * g) ** 2).sum() + (lr * zeta) ** 2 * fading
        G += (g**2).sum() + zeta**2 * fading
        w, t = np.mean(w - eta * g), t + 3
    s = train(method, fed, 2, **linear()).server
    assert (number(s.phi), number(s.B), number(s.G), float(s.t)) == pytest.approx((w, B, G, t), rel=1e-4)


def test_one_rate_for_all_parameters():
    """It is the root of the ratio of the sums; with a single parameter it is the parameter's own."""
    fed = small_digits(3)
    method = ARUBA(lr=0.2, batch=4, isotropic=True)
    s = train(method, fed, 2).server
    rates = np.concatenate([np.ravel(leaf) for leaf in leaves(method.rate(s.B, s.G))])
    total = [sum(float(np.sum(leaf)) for leaf in leaves(tree)) for tree in (s.B, s.G)]
    np.testing.assert_allclose(rates, np.sqrt(total[0] / total[1]), rtol=1e-4)
    one, own = (train(ARUBA(lr=0.4, isotropic=flag, **STEP), quadratics([1.0, 2.0], [0.5, -1.0]), 3, **linear()).server for flag in (True, False))
    assert_near(one.phi, own.phi, 1e-6)


def test_a_parameter_that_nothing_moves_keeps_its_rate():
    """The corner pixels of digits are always black."""
    method = ARUBA(lr=0.2, batch=4)
    s = train(method, small_digits(3), 2, models=("softmax",)).server
    kernel = np.asarray(method.rate(s.B, s.G).tree["head"]["kernel"])
    np.testing.assert_allclose(kernel[0], 0.2, rtol=1e-5)
    assert np.abs(kernel - 0.2).max() > 0.01


@pytest.mark.parametrize("plus", [0.0, 2.0])
def test_personalizing_with_the_learned_rate(plus):
    """Three steps from phi; with plus = c every squared gradient, times c, slows the next step. The test row tells how far from b the client ends."""
    a, b = np.array([1.0, 2.0]), np.array([0.5, -1.0])
    fed = quadratics(list(a), list(b))
    trained = train(ARUBA(lr=0.4, plus=plus, ft_epochs=3, **STEP), fed, 2, **linear())
    s = trained.server
    rows = {row["client"]: row["loss"] for row in trained.training.evaluate().to_dicts() if row["model"] == "personal" and row["split"] == "test"}
    for i in range(2):
        w, G = number(s.phi), number(s.G)
        for _ in range(3):
            g = a[i] * (w - b[i])
            w, G = w - np.sqrt(number(s.B) / G) * g, G + plus * g**2
        assert rows[i] == pytest.approx(a[i] * (w - b[i]) ** 2, rel=1e-3, abs=1e-7)
