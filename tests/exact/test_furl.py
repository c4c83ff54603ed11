"""FURL against one step of a server that holds the table of all users' vectors, by differences of losses written in NumPy."""

import dataclasses

import numpy as np
import pytest

from atoll.core.keys import common_key
from atoll.methods.furl import FURL
from tests.exact import dense
from tests.harness import assert_near, small_digits, train

TINY = ("mlp:8",)  # blocks dense1 (encoder), head (left out); so wide that every row wakes some unit, as differences need it
METHOD = FURL(lr=0.5, batch=20, d=2, hidden=3, new_epochs=2)  # all rows of a client are one batch


def loss(w: dense.Weights, x: np.ndarray, y: np.ndarray) -> float:
    """Mean cross-entropy of MLP([encoded row; u])."""
    h = np.maximum(x @ w["e"]["kernel"] + w["e"]["bias"], 0)
    return dense.loss({b: w[b] for b in ("dense1", "head")}, np.hstack([h, np.tile(w["user"]["u"], (len(x), 1))]), y)


def parts(theta, u) -> dense.Weights:
    return dense.weights(theta.m) | {"e": dense.weights(theta.e)["dense1"], "user": {"u": np.asarray(u, np.float64)}}


def test_rounds_are_those_of_a_server_with_all_vectors():
    """Of 9 and 14 rows: what is common moves by gradients weighted by rows, each vector by its owner's, unweighted; in round 2 from where it was."""
    fed = small_digits(2)
    first, second = (train(METHOD, fed, rounds, models=TINY) for rounds in (1, 2))
    training = train(METHOD, fed, 0, models=TINY).training
    w = parts(training.server, np.zeros(2))
    users = [np.zeros(2), np.zeros(2)]
    assert_near(dense.weights(training.server.e), {"dense1": dense.weights(training.engine.facts.models[0].init(common_key(0)))["dense1"]})
    for trained in (first, second):
        moved = []
        for i in range(2):
            x, y = dense.train_rows(fed, i)
            at = w | {"user": {"u": users[i]}}
            moved.append(dense.step(at, dense.slopes(at, lambda w, x=x, y=y: loss(w, x, y)), METHOD.lr))
        users = [each["user"]["u"] for each in moved]
        w = dense.mean(moved, [9 / 23, 14 / 23])
        found = parts(trained.server, 0)
        assert_near({b: found[b] for b in found if b != "user"}, {b: w[b] for b in found if b != "user"})
        assert_near([trained.states[i].u for i in range(2)], users)
        assert min(np.abs(u).max() for u in users) > 1e-3


def test_a_new_user_fits_its_vector_alone():
    """Client 1 is held out: two steps on its own rows, from 0, with all else frozen."""
    fed = dataclasses.replace(small_digits(2), seen=1)
    trained = train(METHOD, fed, 1, models=TINY)
    w, (x, y) = parts(trained.server, np.zeros(2)), dense.train_rows(fed, 1)
    for _ in range(2):
        w = w | dense.step({"user": w["user"]}, dense.slopes({"user": w["user"]}, lambda some, w=w: loss(w | some, x, y)), METHOD.lr)
    row = next(row for row in trained.training.evaluate().to_dicts() if row["client"] == 1 and row["split"] == "test")
    assert not row["joined"]
    assert row["loss"] / row["rows"] == pytest.approx(loss(w, *dense.rows(fed, 1, "test")), rel=1e-4)
    assert np.abs(w["user"]["u"]).max() > 1e-3
