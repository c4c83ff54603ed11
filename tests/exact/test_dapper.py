"""DAPPER: where it ends on quadratics, one adaptation in NumPy with the choice of shares, and what is sent when."""

import dataclasses
import math

import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.keys import host_generator
from atoll.methods.dapper import DAPPER
from tests.exact.entropy import classes, entropy, entropy_gradient, kernel
from tests.exact.test_mapper import LINEAR, parts
from tests.harness import Fixed, assert_alike, assert_near, begin, federation

COUNTS = ((10, 2, 2), (15, 2, 2), (20, 2, 2))
WHOLE = 64  # rows in a batch: all there are


def with_public(fed, n=24):
    random = np.random.default_rng(5)
    return dataclasses.replace(fed, public=(random.normal(size=(n, 4)).astype(np.float32), np.arange(n, dtype=np.int32) % 3))


def sent(fed, k, r):
    """The rows of the central sample that a client gets: r times its own, rounded up to a power of two."""
    x, y = fed.public
    size = 2 ** math.ceil(math.log2(r * fed.count["train"][k]))
    chosen = host_generator(0, f"sample {k}", 0).permutation(len(y))[:size]
    return x[chosen].astype(np.float64), y[chosen]


def test_an_adaptation_in_numpy():
    """h_C: two full steps on the central sample. From there, for each of the shares 0, 1/2, 1, three steps by share grad L_k + (1 - share) grad L_C'; the
    model with the smallest loss on the rows kept apart is the client's. Sizes sent: 8, 8 and 16 of 24 rows."""
    fed, eta = with_public(classes(COUNTS)), 0.8
    training = begin(DAPPER(lr=eta, epochs=3, central_epochs=2, batch=WHOLE, r=0.6, grid=2, kept=0.4), fed, models=LINEAR)
    training.start()
    w = kernel(training.engine.facts.models[0].init(training.fed.key()))
    C = fed.public[0].astype(np.float64), fed.public[1]
    for _ in range(2):
        w = w - eta * entropy_gradient(*C, w)
    assert_near(kernel(training.server.h_C), w, 2e-6)
    training.step()
    states, taken = training.engine.executor.dump_states(), []
    for k in range(3):
        own, kept = parts(fed, k)
        some = sent(fed, k, 0.6)
        assert len(some[1]) == (8, 16, 16)[k]
        tried = []
        for share in (0.0, 0.5, 1.0):
            h = w
            for _ in range(3):
                h = h - eta * (share * entropy_gradient(*own, h) + (1 - share) * entropy_gradient(*some, h))
            tried.append((entropy(*kept, h), share, h))
        _, share, h = min(tried, key=lambda one: one[0])
        taken.append(share)
        assert float(states[k].share) == share
        assert_near(kernel(states[k].h), h, 2e-6)
    assert len(set(taken)) > 1


def test_it_ends_where_the_weighted_slope_is_zero_and_is_done_once():
    """Least squares: h = (0.3 A_k + 0.7 A_C)^-1 (0.3 b_k + 0.7 b_C). Client 0 is asked in both rounds and works and is sent something in the first only;
    before client 1 is asked it predicts with h_C, and so does the unseen client 2."""
    random = np.random.default_rng(2)
    x, y = random.normal(size=(48, 2)).astype(np.float32), random.normal(size=48).astype(np.float32)
    C = random.normal(size=(8, 2)).astype(np.float32), random.normal(size=8).astype(np.float32)
    fed = federation(x, y, [(12, 2, 2)] * 3, labels=(), seen=2, public=C)
    method = DAPPER(lr=0.3, epochs=300, batch=WHOLE, lowest=0.3, highest=0.3, kept=0.4)
    training = begin(method, fed, models=LINEAR, selector=Fixed(0))
    training.start()
    training.step()
    first = training.engine.executor.dump_states()
    assert set(first) == {0}
    once = 4 * (2 + 8 * 2 + 8)  # h_C and all of C, which is less than r m_k rows
    assert training.fed.traffic.down.tolist() == [once, 0, 0, 0]
    scores = {(row["client"], row["model"]): row["loss"] for row in training.evaluate().filter(split="test").to_dicts()}
    for k in range(3):
        assert (scores[k, "personal"] == pytest.approx(scores[k, "global"], rel=1e-5)) == (k > 0)
    training.fed._selector = Fixed(0, 1)
    training.step()
    assert training.fed.traffic.down.tolist() == [0, once, 0, 0]
    assert training.fed.traffic.up.tolist() == [0] * 4
    states = training.engine.executor.dump_states()
    assert_alike(states[0], first[0])
    for k in range(2):
        (a, b), _ = parts(fed, k)
        A = 0.3 * a.T @ a / len(a) + 0.7 * C[0].T @ C[0] / 8
        assert_near(kernel(states[k].h)[:, 0], np.linalg.solve(A, 0.3 * a.T @ b / len(a) + 0.7 * C[0].T @ C[1] / 8))


def test_shares_are_in_order():
    with pytest.raises(AtollError, match="lowest to highest"):
        DAPPER(lowest=0.8, highest=0.2)
