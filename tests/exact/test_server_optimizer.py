"""Server optimizers: by hand on one weight, and the method inside where the rule does nothing."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.methods import TABLE, get
from atoll.methods.fedavg import FedAvg
from tests.harness import assert_near, linear, normed, quadratics, small_digits, train

HOW = {"lr": 0.1, "epochs": 1, "batch": 0}


def weight(trained) -> float:
    return float(jax.tree.leaves(trained.server.inner)[0].squeeze())


def test_momentum_without_memory_is_the_method():
    fed = small_digits(3)
    assert_near(train(get("fedavg+momentum")(server_beta1=0.0), fed, 3).server.inner, train(FedAvg(), fed, 3).server, 1e-5)


@pytest.mark.parametrize("rule", ["momentum", "adagrad", "adam", "yogi"])
def test_two_steps_by_hand(rule):
    """One client, f(w) = 1/2 (w - 3)^2, one step of gradient descent: a round changes w by -0.1 (w - 3)."""
    fed = quadratics([1.0], [3.0])
    made = get(f"fedavg+{rule}")(**HOW)
    w = float(jax.tree.leaves(train(FedAvg(**HOW), fed, 0, **linear()).server)[0].squeeze())
    m, v = 0.0, made.server_tau**2 if rule != "momentum" else 0.0
    for _ in range(2):
        delta = -0.1 * (w - 3)
        if rule == "momentum":
            m = 0.9 * m + delta
            w += made.server_lr * m
            continue
        m = 0.9 * m + 0.1 * delta
        v = {"adagrad": v + delta**2, "adam": 0.99 * v + 0.01 * delta**2, "yogi": v - 0.01 * delta**2 * np.sign(v - delta**2)}[rule]
        w += made.server_lr * m / (np.sqrt(v) + made.server_tau)
    assert weight(train(made, fed, 2, **linear())) == pytest.approx(w, rel=1e-5)


def test_statistics_of_batch_norm_are_not_stepped():
    fed = small_digits(2)
    stepped = train(get("fedavg+adam")(batch=4), fed, 1, models=(normed(fed),)).server.inner.tree["buffers"]
    assert_near(stepped, train(FedAvg(batch=4), fed, 1, models=(normed(fed),)).server.tree["buffers"], 1e-6)


def test_methods_without_one_common_model_are_refused():
    for name in ("ifca", "local", "fedamp"):
        with pytest.raises(AtollError, match="one common model"):
            train(get(f"{name}+adam")(), small_digits(3), 1)


def test_every_method_takes_it_or_has_its_own():
    refused = []
    for row in TABLE:
        try:
            assert get(f"{row.name}+adam").label == f"{row.title}+Adam"
        except AtollError as error:
            assert "server rate of its own" in str(error)  # noqa: PT017
            refused.append(row.name)
    assert len(refused) < 6
