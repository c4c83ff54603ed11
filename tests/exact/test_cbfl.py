"""CBFL: one community is FedAvg; communities by hand in NumPy, within clients and between them; the autoencoder; what is sent once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atoll.core.autoencoder import codes, fresh
from atoll.core.errors import AtollError
from atoll.methods.cbfl import CBFL
from atoll.methods.fedavg import FedAvg
from tests.exact.plain import Circumstances, add, gradient, loss, rows, weights
from tests.harness import assert_near, begin, federation, small_digits, train

SMALL = {"A": 1, "ae_epochs": 1, "ae_batch": 8, "hidden": 6, "code": 3}
SIDES = [(6, 0), (0, 5), (4, 3), (2, 7)]  # train rows of each client around -1 and around 1


def model(server, k):
    return jax.tree.map(lambda leaf: leaf[k], server.theta)


def two_sides():
    """Rows of five values around -1 or 1, in no order; two labels that mean the opposite on the other side."""
    random = np.random.default_rng(0)
    side = [random.permutation(np.repeat([0, 1], n)) for n in SIDES]
    parts = [np.concatenate(side), *[np.tile([0, 1], 2 * len(SIDES)) for _ in range(2)]]
    at = np.concatenate(parts)
    x = (np.where(at, 1, -1)[:, None] + 0.3 * random.normal(size=(len(at), 5))).astype(np.float32)
    y = ((x[:, 0] - np.where(at, 1, -1) > 0) ^ (at == 1)).astype(np.int32)
    return federation(x, y, [(sum(n), 4, 4) for n in SIDES])


def test_one_community_is_fedavg_after_the_rounds_of_the_autoencoder():
    how = {"lr": 0.1, "epochs": 2, "batch": 4}
    one = train(CBFL(**how, **SMALL, K=1), small_digits(), 3, models=("softmax",))
    other = train(FedAvg(**how), small_digits(), 3, models=("softmax",), conditions=Circumstances(gone={1: [0, 1, 2, 3]}))
    assert_near(model(one.server, 0), other.server, 1e-6)
    scores = [[row["loss"] for row in t.training.evaluate().to_dicts()] for t in (one, other)]
    np.testing.assert_allclose(*scores, rtol=1e-5)


def test_communities_of_rows_by_hand():
    """Clients 0 and 1 have rows of one side only, 2 and 3 of both. Each community's model takes full-batch steps on each client's rows of it alone, and the
    server weighs by their numbers; test rows are predicted with their own community's model."""
    fed = two_sides()
    training = begin(CBFL(lr=0.5, epochs=2, batch=0, K=2, **{**SMALL, "ae_epochs": 40}), fed, models=("softmax",))
    training.start()
    before = [weights(model(training.server, k)) for k in range(2)]
    assert_near(before[0], before[1], 0)
    training.step()
    s = training.server
    assert_near(weights(model(s, 0)), before[0], 0)  # the first round was the autoencoder's

    def community(x):
        z = np.asarray(codes(s.coder.w, jnp.asarray(x, jnp.float32)), np.float64)
        return np.square(z[:, None] - np.asarray(s.coder.c)).sum(2).argmin(1)

    at = [community(rows(fed, i)[0]) for i in range(4)]
    sides = [(rows(fed, i)[0].mean(1) > 0).astype(int) for i in range(4)]
    first = at[0][0]  # the number of the lower side
    for i in range(4):
        np.testing.assert_array_equal(at[i], sides[i] ^ first)
    training.step()
    wanted = []
    for k in range(2):
        moved, n = [], []
        for i in range(4):
            x, y = rows(fed, i)
            x, y, w = x[at[i] == k], y[at[i] == k], before[k]
            for _ in range(2 if len(y) else 0):
                w = add(w, gradient(w, x, y), -0.5)
            moved.append(w)
            n.append(len(y))
        wanted.append(tuple(np.average(np.stack(parts), axis=0, weights=n) for parts in zip(*moved, strict=True)))
        assert_near(weights(model(training.server, k)), wanted[k])
    assert np.abs(wanted[0][0] - wanted[1][0]).max() > 0.05
    table = training.evaluate().filter(split="test", model="personal").sort("client")
    for i, row in enumerate(table.to_dicts()):
        x, y = rows(fed, i, "test")
        own = community(x)
        assert row["loss"] == pytest.approx(sum(loss(wanted[k], x[own == k], y[own == k]) for k in range(2)), rel=1e-4)
        assert row["cluster"] == np.bincount(at[i], minlength=2).argmax()


def test_sizes_of_communities_add_up_to_the_rows():
    training = begin(CBFL(**SMALL, K=3, batch=4), small_digits(5), models=("softmax",))
    training.start()
    training.step()
    s = training.server
    training.fed.begin_round(2, training.shared)
    up = training.fed.ask(training.fed.everyone(), training.method.update, s.theta)
    np.testing.assert_array_equal(np.asarray(up.weight).sum(axis=1), training.federation.count["train"])
    assert (np.asarray(up.weight).sum(axis=0) > 0).sum() > 1


def test_mini_batches_of_a_community_are_its_own_rows():
    """As many steps as its communities have batches, whatever the client has in all."""
    fed = two_sides()
    training = begin(CBFL(batch=2, epochs=3, K=2, **{**SMALL, "ae_epochs": 40}), fed, models=("softmax",))
    training.start()
    training.step()
    cost = training.step()
    assert cost.steps == sum(3 * (-(-a // 2) + -(-b // 2)) for a, b in SIDES)


def test_the_autoencoder_learns_to_make_rows_again():
    """Digits from 3 numbers each: after a few rounds codes tell more of them than the mean row does."""
    fed = small_digits(6)
    long = train(CBFL(**{**SMALL, "A": 8, "ae_epochs": 20, "hidden": 24}, ae_lr=0.01), fed, 8)
    x = np.concatenate([rows(fed, i)[0] for i in range(6)])
    w = long.server.coder.w
    z = np.asarray(codes(w, jnp.asarray(x, jnp.float32)))
    first, last = w.tree["decoder"]
    again = np.maximum(z @ np.asarray(first["kernel"]) + first["bias"], 0) @ np.asarray(last["kernel"]) + last["bias"]
    assert np.square(again - x).sum() < 0.8 * np.square(x - x.mean(0)).sum()


def test_codes_are_two_layers_of_the_rows():
    w = fresh(jax.random.key(0), 4, 5, 2)
    x = np.random.default_rng(0).normal(size=(3, 2, 2)).astype(np.float32)
    a, b = w.tree["encoder"]
    wanted = np.maximum(x.reshape(3, 4) @ np.asarray(a["kernel"]), 0) @ np.asarray(b["kernel"])
    np.testing.assert_allclose(codes(w, jnp.asarray(x)), wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(AtollError, match="tokens"):
        codes(w, jnp.zeros((3, 4), jnp.int32))


def test_encoder_and_centroids_are_sent_once():
    training = begin(CBFL(**SMALL, K=2, batch=4), small_digits())
    training.start()
    down = []
    for _ in range(3):
        training.step()
        down.append(int(training.fed.traffic.down[0]))
    ae = 4 * (2 * (64 * 6 + 6 * 3) + 6 + 3 + 6 + 64)
    models = sum(leaf.nbytes for leaf in jax.tree.leaves(training.server.theta))
    assert down == [2 * ae, models + ae + 4 * 2 * 3 + models, models]  # what a newcomer is welcomed with has the models too
