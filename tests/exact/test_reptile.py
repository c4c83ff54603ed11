"""Personalized FedAvg (Reptile) against FedAvg and numbers by hand. K steps on a/2 (w - b)^2 leave (1 - lr a)^K of the distance to b."""

import numpy as np
import pytest

from atoll.methods.fedavg import FedAvg
from atoll.methods.reptile import Reptile
from tests.exact.plain import first_model
from tests.harness import Fixed, assert_alike, assert_near, begin, leaves, linear, normed, quadratics, small_digits, train

A, B = np.array([1.0, 2.0, 0.5]), np.array([0.5, -1.0, 2.0])


def number(tree):
    return leaves(tree)[0].item()


def start():
    return number(first_model(begin(Reptile(), quadratics(list(A), list(B)), **linear())))


def test_the_first_stage_is_fedavg():
    fed = small_digits(3)
    got = train(Reptile(lr=0.2, epochs=2, batch=4, first=3), fed, 3)
    assert_near(got.server.w, train(FedAvg(lr=0.2, epochs=2, batch=4), fed, 3).server, 1e-6)


def test_a_round_of_the_second_stage():
    """Server "sgd" goes server_lr of the way to the uniform mean of the clients' models after K steps."""
    w, lr, K = start(), 0.3, 4
    ends = B + (1 - lr * A) ** K * (w - B)
    method = Reptile(lr=lr, batch=1, first=0, K=K, server="sgd", server_lr=0.7)
    assert number(train(method, quadratics(list(A), list(B)), 1, **linear()).server.w) == pytest.approx(w + 0.7 * (ends.mean() - w), rel=1e-5)


def test_clients_count_alike_in_the_second_stage():
    """However many rows they have: the mean of two that were asked alone."""
    fed, how = small_digits(4), {"lr": 0.2, "batch": 4, "first": 0, "K": 3, "server": "sgd", "server_lr": 1.0}
    alone = [train(Reptile(**how), fed, 1, selector=Fixed(i)).server.w for i in (0, 3)]
    assert_near(train(Reptile(**how), fed, 1, selector=Fixed(0, 3)).server.w, 0.5 * (alone[0] + alone[1]), 1e-6)


def test_the_first_step_of_adam_has_the_length_of_its_rate():
    w = start()
    method = Reptile(lr=0.3, batch=1, first=0, K=4, server_lr=0.01)
    ends = B + (1 - 0.3 * A) ** 4 * (w - B)
    assert number(train(method, quadratics(list(A), list(B)), 1, **linear()).server.w) == pytest.approx(w + 0.01 * np.sign(ends.mean() - w), abs=1e-5)


def test_the_sum_of_gradients_is_the_way_gone():
    """(w - w_K) / lr = g_1 + ... + g_K: with K = 1 the second stage is a step of gradient descent."""
    w = start()
    method = Reptile(lr=0.3, batch=1, first=0, K=1, server="sgd", server_lr=1.0)
    assert number(train(method, quadratics(list(A), list(B)), 1, **linear()).server.w) == pytest.approx(w - 0.3 * (A * (w - B)).mean(), rel=1e-5)


def test_personalizing_takes_the_steps_of_the_second_stage():
    trained = train(Reptile(lr=0.3, batch=1, first=1, K=5), quadratics(list(A), list(B)), 2, **linear())
    w = number(trained.server.w)
    rows = {row["client"]: row["loss"] for row in trained.training.evaluate().to_dicts() if row["model"] == "personal" and row["split"] == "test"}
    for i in range(3):
        assert rows[i] == pytest.approx(A[i] * ((1 - 0.3 * A[i]) ** 5 * (w - B[i])) ** 2, rel=1e-3)


def test_buffers_are_averaged_and_not_stepped():
    fed = small_digits(2)
    how = {"lr": 0.2, "batch": 4, "first": 0, "K": 3, "server": "sgd"}
    half, whole = (train(Reptile(**how, server_lr=rate), fed, 1, models=(normed(fed),)).server.w.tree for rate in (0.5, 1.0))
    assert_alike(half["buffers"], whole["buffers"])
    assert not np.allclose(half["head"]["kernel"], whole["head"]["kernel"])
