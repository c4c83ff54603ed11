"""D-Distillation against NumPy: what travels over which edge, the consensus, and the steps toward it."""

import dataclasses

import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.keys import host_generator
from atoll.methods.d_distillation import DDistillation
from atoll.methods.local import Local
from atoll.study.training import check_method
from tests.exact.entropy import classes, entropy_gradient, kernel, rows
from tests.harness import Fixed, assert_alike, assert_near, begin, federation, small_digits, train

LINEAR = ("softmax:bias=false",)


def softmax(z):
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def path_of_three(folder):
    """0 - 1 - 2, and its Metropolis weights by hand: both edges 1 / (1 + 2)."""
    file = folder / "edges.csv"
    file.write_text("0,1\n1 2  # the last edge\n")
    return str(file), np.array([[2, 1, 0], [1, 1, 1], [0, 1, 2]]) / 3


def test_rounds_by_hand(tmp_path):
    """Full batches, so that order does not matter; four of six reference rows are exchanged in a round. In round 1 all are alike, and z_i is what each thinks.
    From round 4 on client 2 is not there: W as if its edge were cut. The mean of all estimates stays that of all opinions."""
    file, W = path_of_three(tmp_path)
    fed = classes(((4, 2, 2), (5, 2, 2), (3, 2, 2)))
    x = np.random.default_rng(7).normal(size=(6, 4)).astype(np.float32)
    fed = dataclasses.replace(fed, public=(x, np.zeros(6, np.int32)))
    training = begin(DDistillation(lr=0.4, batch=8, rho=2.0, exchanged=4, reference_batch=6, graph=file, epochs=2), fed, models=LINEAR)
    training.start()
    theta = [kernel(training.engine.facts.models[0].init(training.fed.key()))] * 3
    z, s = (np.stack([softmax(x @ w) for w in theta]) for _ in range(2))
    for round, there in enumerate([[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1], [0, 1]], 1):
        training.fed._selector = Fixed(*there)
        training.step()
        for i in there * 2:  # two epochs
            theta[i] = _stepped(theta[i], rows(fed, i), x, z[i])
        B, V = host_generator(0, "reference", round).permutation(6)[:4], W
        if len(there) == 2:
            V = np.array([[2, 1, 0], [1, 2, 0], [0, 0, 3]]) / 3
        new = np.stack([softmax(x[B] @ w) for w in theta])
        new[len(there) :] = s[len(there) :, B]
        z[:, B] = np.einsum("ij,jrl->irl", V, z[:, B]) + new - s[:, B]
        s[:, B] = new
        down, up = training.fed.traffic.down[:3].tolist(), training.fed.traffic.up[:3].tolist()
        degrees = (1, 2, 1) if len(there) == 3 else (1, 1, 0)
        assert up == [4 * 4 * 3 * degree for degree in degrees]
        assert down == [4 * 4 * (i in there) + 4 * (4 * 3 + 1) * degree for i, degree in enumerate(degrees)]
        states = training.engine.executor.dump_states()
        assert_near([kernel(states[i].theta) for i in range(3)], theta)
        assert_near(np.stack([states[i].z for i in range(3)]), z)
        assert_near(np.mean([states[i].z for i in range(3)], axis=0), np.mean([states[i].s for i in range(3)], axis=0), 1e-6)
    assert abs(z - s).max() > 0.01


def _stepped(w, own, x, z):
    """One step on F + 2 mean_x ||p - z||^2, p = softmax(x w): the gradient in the scores is 2 p (e - sum_l p_l e_l) with e = 2 (p - z)."""
    p = softmax(x @ w)
    e = 2 * (p - z)
    pull = x.T @ (p * (e - (p * e).sum(1, keepdims=True))) / len(x)
    return w - 0.4 * (entropy_gradient(*own, w) + 2.0 * pull)


def test_without_the_pull_it_is_training_alone():
    fed = classes()
    fed = dataclasses.replace(fed, public=(fed.x[:5], fed.y[:5]))
    got, wanted = (train(m, fed, 2, models=LINEAR) for m in (DDistillation(batch=4, rho=0.0), Local(batch=4)))
    for i in range(2):
        assert_alike(got.states[i].theta, wanted.states[i])


def test_what_it_can_not_work_with_is_refused(tmp_path):
    file = tmp_path / "edges.csv"
    file.write_text("0,1\n2,3\n")
    with pytest.raises(AtollError, match=r"not connected: it has 2 parts \(clients 0, 1; clients 2, 3\)"):
        begin(DDistillation(graph=str(file)), small_digits(4, public=5)).start()
    with pytest.raises(AtollError, match="public"):
        begin(DDistillation(), small_digits(2)).start()
    numbers = federation(np.ones((12, 2), np.float32), np.arange(12, dtype=np.float32), [(2, 2, 2)] * 2, labels=())
    with pytest.raises(AtollError, match="for regression"):
        check_method(DDistillation(), begin(DDistillation(), numbers, models=LINEAR).engine.facts)
