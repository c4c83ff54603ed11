"""Astraea against FedAvg, SGD in NumPy through clients in turn, and its own counts."""

import jax
import numpy as np
import pytest

from atoll.core.balance import complementary, divergence, ratios
from atoll.core.errors import AtollError
from atoll.core.keys import purpose_key
from atoll.methods.astraea import Astraea
from atoll.methods.fedavg import FedAvg
from atoll.parts.conditions import Conditions
from atoll.study.training import check_method
from tests.exact.plain import Circumstances, first_model, key, rows, sgd, weights
from tests.harness import Fixed, assert_alike, assert_near, begin, federation, small_digits, train

HOW = {"lr": 0.2, "epochs": 2, "batch": 4}
EVEN = {"T_a": -100.0, "T_d": 100.0}  # nothing is that uneven
SOFTMAX = {"models": ("softmax",)}


def pass_key(k, e):
    """The key of pass e of a client's program key k."""
    return k if e == 0 else jax.random.fold_in(k, (1 << 29) + e)


def raw_counts(fed):
    return np.array([np.bincount(rows(fed, i)[1], minlength=len(fed.labels)) for i in range(len(fed.names))])


@pytest.mark.parametrize("per_round", [1, 3])
def test_mediators_of_one_client_are_fedavg(per_round):
    """Bit for bit where one client trains; where several do, their models are added up in another order."""
    medi, plain = (train(m, small_digits(), 3, per_round=per_round) for m in (Astraea(**HOW, **EVEN, gamma=1), FedAvg(**HOW)))
    (assert_alike if per_round == 1 else lambda a, b: assert_near(a, b, 1e-6))(medi.server.w, plain.server)


def test_one_mediator_is_sgd_through_all_clients_in_turn():
    """In the order of the greedy choice, twice, with new batches in the second pass."""
    fed = small_digits(3)
    method = Astraea(**HOW, **EVEN, gamma=3, E_m=2)
    w = weights(first_model(begin(method, fed, **SOFTMAX)))
    (order,) = complementary(raw_counts(fed), 3)
    for round in (1, 2):
        for e in (0, 1):
            for i in order:
                w = sgd(w, *rows(fed, i), 0.2, 2, 4, pass_key(key("update", round, i), e))
    assert_near(weights(train(method, fed, 2, **SOFTMAX).server.w), w)


def test_mediators_are_averaged_by_their_rows():
    """Five clients of 9, 14, 19, 24, 29 rows in mediators of two, the last of one."""
    fed = small_digits(5)
    method = Astraea(**HOW, **EVEN, gamma=2)
    first = weights(first_model(begin(method, fed, **SOFTMAX)))
    groups = complementary(raw_counts(fed), 2)
    assert [len(g) for g in groups] == [2, 2, 1]
    models, n = [], []
    for group in groups:
        w = first
        for i in group:
            w = sgd(w, *rows(fed, i), 0.2, 2, 4, key("update", 1, i))
        models.append(w)
        n.append(sum(9 + 5 * i for i in group))
    wanted = tuple(sum(a * part for a, part in zip(n, parts, strict=True)) / sum(n) for parts in zip(*models, strict=True))
    assert_near(weights(train(method, fed, 1, **SOFTMAX).server.w), wanted)


@pytest.mark.parametrize("gone", [[0], [2], [0, 2]])
def test_who_does_not_answer_is_passed_over(gone):
    """One mediator: its model goes on to the next client, whoever is missing. A round that all miss is lost."""
    fed = small_digits(3)
    method = Astraea(**HOW, **EVEN, gamma=3)
    w = weights(first_model(begin(method, fed, **SOFTMAX)))
    (order,) = complementary(raw_counts(fed), 3)
    for i in order:
        w = w if i in gone else sgd(w, *rows(fed, i), 0.2, 2, 4, key("update", 1, i))
    trained = train(method, fed, 2, **SOFTMAX, conditions=Circumstances(gone={1: gone, 2: [0, 1, 2]}))
    assert_near(weights(trained.server.w), w)
    assert [cost.answered for cost in trained.costs] == [3 - len(gone), 0]


def test_who_was_not_reached_at_the_start_is_counted_when_it_is():
    fed = small_digits(3)
    method = Astraea(**HOW, gamma=3)
    training = begin(method, fed, conditions=Circumstances(gone={0: [1, 2], 1: [2]}))
    training.start()
    R, known = training.server.R, [(training.server.counts[:, 0] >= 0).tolist()]
    assert_near(R, ratios(raw_counts(fed)[0], -0.1, 0.1))
    for _ in range(2):
        training.step()
        known.append((training.server.counts[:, 0] >= 0).tolist())
        assert_alike(training.server.R, R)
    assert known == [[True, False, False], [True, True, False], [True, True, True]]


def test_nobody_at_the_start_is_told():
    training = begin(Astraea(), small_digits(3), conditions=Conditions(dropout=1.0))
    with pytest.raises(AtollError, match="none of them can be reached"):
        training.start()


def uneven(clients=6):
    """Labels 0, 1, 2 in 6 : 3 : 1, as images of noise."""
    n = 100 * clients
    y = np.tile(np.array([0] * 6 + [1] * 3 + [2], np.int32), n // 10)
    x = np.random.default_rng(0).integers(0, 17, (n + 2 * clients, 8, 8)).astype(np.uint8)
    return federation(x, np.concatenate([y, np.arange(2 * clients, dtype=np.int32) % 3]), [(100, 1, 1)] * clients, scale=1 / 16)


def test_counts_after_resampling_are_the_ones_wanted():
    """m +- s sqrt(z T) rows of each label, up to what chance does to them."""
    fed = uneven()
    C = raw_counts(fed).sum(0)
    np.testing.assert_array_equal(C, [360, 180, 60])
    m, s = C.mean(), C.std()
    z = (C - m) / s
    got = begin(Astraea(T_a=-0.4, T_d=0.3), fed)
    got.start()
    wanted = [m + s * np.sqrt(z[0] * 0.3), C[1], m - s * np.sqrt(z[2] * -0.4)]
    R = np.array(wanted) / C
    chance = np.sqrt(C * (R % 1) * (1 - R % 1))
    np.testing.assert_array_less(np.abs(got.server.counts.sum(0) - wanted), 4 * chance + 1e-3)
    assert got.server.counts.sum(0)[1] == 180  # -0.1 < z < 0: within the thresholds


def test_even_labels_are_left_alone():
    x = np.random.default_rng(0).integers(0, 17, (48, 8, 8)).astype(np.uint8)
    fed = federation(x, np.arange(48, dtype=np.int32) % 4, [(12, 2, 2)] * 3, scale=1 / 16)
    training = begin(Astraea(**HOW), fed)
    training.start()
    assert training.server.R is None
    np.testing.assert_array_equal(training.server.counts, np.full((3, 4), 3))
    one, plain = (train(m, fed, 2, per_round=1) for m in (Astraea(**HOW, gamma=1), FedAvg(**HOW)))
    assert_alike(one.server.w, plain.server)


def test_training_on_resampled_rows_by_hand():
    """Copies that are not changed at all: SGD in NumPy on rows as often as R_y and the client's draw say."""
    fed = uneven(2)
    method = Astraea(**HOW, gamma=1, shift=0.0, rotate=0.0, shear=0.0, zoom=0.0)
    training = begin(method, fed, **SOFTMAX)
    first = weights(first_model(training))
    R = np.asarray(training.server.R, np.float32)
    parts, n = [], []
    for i in range(2):
        x, y = rows(fed, i)
        lasting = jax.random.fold_in(jax.random.fold_in(purpose_key(0, "server init", 0), 1 << 29), i)
        u = np.array([jax.random.uniform(jax.random.fold_in(lasting, j)) for j in range(100)])
        times = np.floor(R[y] + u).astype(int)
        assert {0, 1, 2} < set(times.tolist())
        x, y = np.repeat(x, times, axis=0), np.repeat(y, times)
        np.testing.assert_array_equal(np.bincount(y), training.server.counts[i])
        parts.append(sgd(first, x, y, 0.2, 2, 4, key("update", 1, i)))
        n.append(len(y))
    wanted = tuple((n[0] * a + n[1] * b) / sum(n) for a, b in zip(*parts, strict=True))
    assert_near(weights(train(method, fed, 1, **SOFTMAX).server.w), wanted)


def test_copies_are_changed_images():
    a, b = (train(Astraea(**HOW, rotate=r), uneven(2), 1).server for r in (0.0, 10.0))
    np.testing.assert_array_equal(a.counts, b.counts)
    assert np.abs(jax.tree.leaves(a.w)[0] - jax.tree.leaves(b.w)[0]).max() > 1e-4


def test_a_client_whose_rows_were_all_dropped_is_left_out():
    """Its one row is of the label that all have, and its draw drops it: n = 0 would be no mean at all. batch=0 takes all rows at once."""
    x = np.random.default_rng(0).integers(0, 17, (320, 8, 8)).astype(np.uint8)
    y = np.concatenate([np.zeros(8, np.int32), [1] * 2, np.zeros(290, np.int32), [1] * 2, np.zeros(18, np.int32)]).astype(np.int32)
    fed = federation(x, y, [(10, 1, 1), *[(1, 1, 1)] * 8, (276, 1, 1)], scale=1 / 16)
    method = Astraea(lr=0.1, batch=0, gamma=2)
    training = begin(method, fed)
    training.start()
    empty = np.flatnonzero(training.server.counts.sum(1) == 0)
    assert len(empty) > 1
    training.step()
    assert np.isfinite(training.evaluate()["loss"].to_numpy()).all()
    alone = begin(method, fed, selector=Fixed(*empty))
    alone.start()
    before = alone.server.w
    alone.step()
    assert_alike(alone.server.w, before)


def test_counts_and_ratios_are_booked_once():
    """Before the first round: 10 counts up, 10 ratios down, 10 new counts up, for each of 3 clients; in it the model of one pass."""
    trained = train(Astraea(**HOW), small_digits(3), 2)
    model = sum(leaf.nbytes for leaf in jax.tree.leaves(trained.server.w))
    training = begin(Astraea(**HOW), small_digits(3))
    opening = training.start()
    assert (opening.round, opening.cohort, opening.bytes_down, opening.bytes_up) == (0, 3, 3 * 40, 3 * 80)
    assert [cost.bytes_down for cost in trained.costs] == [3 * (model + 44)] * 2
    assert [cost.bytes_up for cost in trained.costs] == [3 * (model + 4)] * 2


def test_every_round_builds_its_mediators_of_its_own_clients():
    """With labels {0}, {1}, {0}, {1}, {2}, {2}, three to a mediator: every mediator has all three labels."""
    counts = np.array([[9, 0, 0], [0, 9, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9], [0, 0, 9]])
    assert all(divergence(counts[g].sum(0)) == 0 for g in complementary(counts, 3))


def test_rows_that_are_no_images_are_refused():
    fed = federation(np.zeros((9, 3), np.float32), np.arange(9, dtype=np.int32) % 2, [(1, 1, 1)] * 3)
    with pytest.raises(AtollError, match="Give it images"):
        check_method(Astraea(), begin(Astraea(), fed).engine.facts)
