"""FAug against FedAvg where there is nothing to fill up, SGD in NumPy on own and made rows, and its own counts."""

import functools
from typing import NamedTuple

import jax
import numpy as np
import pytest

from atoll.core.balance import label_counts
from atoll.core.errors import AtollError
from atoll.core.keys import common_key
from atoll.methods.faug import FAug
from atoll.methods.fedavg import FedAvg
from atoll.study.training import check_method
from tests.exact.plain import Circumstances, first_model, key, rows, sgd, weights
from tests.harness import assert_alike, assert_near, begin, federation, train

HOW = {"lr": 0.2, "epochs": 2, "batch": 4}
SMALL = {"seeds": 2, "targets": 1, "redundant": 3, "noise": 3, "hidden": 8, "gan_steps": 10, "gan_batch": 8}
SOFTMAX = {"models": ("softmax",)}
L = 4


def counted(*counts, labels=L):
    """Clients with so many train rows of each label, of images [3, 3] that are all different."""
    y = np.concatenate([np.repeat(np.arange(len(c)), c) for c in counts] + [np.arange(labels)] * 2 * len(counts))
    x = np.random.default_rng(0).integers(0, 256, (len(y), 3, 3)).astype(np.uint8)
    return federation(x, y.astype(np.int32), [(sum(c), labels, labels) for c in counts], scale=1 / 256)


UNEVEN = ((6, 1, 3, 0), (5, 5, 5, 0), (0, 4, 0, 0), (2, 1, 0, 0))  # many kinds of scarce; one label; nobody has label 3


@functools.cache
def trained(rounds, engine="simulate"):
    return train(FAug(**HOW, **SMALL), counted(*UNEVEN), rounds, engine=engine, **SOFTMAX)


class Filled(NamedTuple):
    y: object
    x: object


def filled(run):
    """Label counts and the rows themselves of every client after filling up."""
    method, fed = run.training.method, run.training.fed

    def look(k, s):
        even = method._filled(k, k.state)
        return Filled(label_counts(even), even.map(lambda rows: rows.x)), k.state

    return fed.ask(fed.everyone(), look, run.server.w)


@pytest.mark.parametrize("redundant", [0, 2])
def test_where_labels_are_even_it_is_fedavg(redundant):
    """Bit for bit, whether decoys are uploaded or nothing at all."""
    fed = counted((3, 3, 3, 3), (2, 2, 2, 2))
    a, b = (train(m, fed, 2) for m in (FAug(**HOW, **SMALL | {"redundant": redundant}), FedAvg(**HOW)))
    assert np.asarray(a.server.maker.known).any() == (redundant > 0)
    assert_alike(a.server.w, b.server)


@pytest.mark.parametrize("engine", ["simulate", "wire"])
def test_labels_are_even_after_filling_up(engine):
    run = trained(1, engine)
    assert run.server.maker.known.tolist() == [True, True, True, False]
    np.testing.assert_array_equal(filled(run).y, [[6, 6, 6, 0], [5, 5, 5, 0], [4, 4, 4, 0], [2, 2, 2, 0]])


def test_made_rows_are_the_generators_and_the_same_in_all_rounds():
    (_, first), (_, later) = filled(trained(1)).reply, filled(trained(2)).reply
    np.testing.assert_array_equal(first, later)
    for i, counts in enumerate(UNEVEN):
        x, _ = by_hand(trained(1), counted(*UNEVEN), i)
        np.testing.assert_allclose(first[i][: len(x)].reshape(len(x), -1), x, atol=1e-6)
        assert len(np.unique(x[sum(counts) :].round(5), axis=0)) == len(x) - sum(counts)  # all different


def by_hand(run, fed, i):
    """The rows of client i and, label by label, those that G makes from z ~ N(0, I): row j's z has the key (lasting key, j)."""
    x, y = rows(fed, i)
    known = np.asarray(run.server.maker.known)
    counts = np.bincount(y, minlength=L)
    more = np.repeat(np.arange(L), np.where(known, counts.max() - counts, 0))
    lasting = jax.random.fold_in(jax.random.fold_in(common_key(0), 1 << 29), i)
    z = [jax.random.normal(jax.random.fold_in(lasting, j), (3,)) for j in range(len(more))]
    G, middle, half = jax.tree.map(lambda a: np.asarray(a, np.float64), run.server.maker.G)
    told = np.concatenate([np.reshape(z, (len(more), 3)), np.eye(L)[more]], axis=1)
    hidden = np.maximum(told @ G.tree["dense1"]["kernel"] + G.tree["dense1"]["bias"], 0)
    made = middle + half * np.tanh(hidden @ G.tree["head"]["kernel"] + G.tree["head"]["bias"])
    return np.concatenate([x, made]), np.concatenate([y, more])


def test_training_by_hand():
    """SGD on own and made rows shuffled together, weighed by their number; the model of two rounds."""
    fed, run = counted(*UNEVEN), trained(2)
    w = weights(first_model(begin(FAug(**HOW, **SMALL), fed, **SOFTMAX)))
    even = [by_hand(run, fed, i) for i in range(4)]
    n = [len(y) for _, y in even]
    assert n == [18, 15, 12, 6]
    for round in (1, 2):
        parts = [sgd(w, *even[i], 0.2, 2, 4, key("update", round, i)) for i in range(4)]
        w = tuple(sum(c * p for c, p in zip(n, of, strict=True)) / sum(n) for of in zip(*parts, strict=True))
    assert_near(weights(run.server.w), w)


def pixels(x, y):
    return {(*row, label) for row, label in zip((x.reshape(-1, 9) * 256).round().astype(int).tolist(), y.tolist(), strict=True)}


def test_seeds_are_rows_of_the_scarcest_labels_and_of_others():
    fed = counted(*UNEVEN[:3], (9, 3, 2, 7))
    method = FAug(**HOW, seeds=2, targets=2, redundant=1)
    training = begin(method, fed, **SOFTMAX)
    up = training.fed.ask(training.fed.everyone(), method.upload)
    assert up.y.shape == (4, 6)
    targets = ([1, 2, 2], [], [], [1, 1, 2, 2])  # rows of the two scarcest labels, two of each if there are
    for i, wanted in enumerate(targets):
        x, y = rows(fed, i)
        real = up.y[i] >= 0
        assert pixels(up.x[i][real], up.y[i][real]) <= pixels(x, y)
        assert len(np.unique(up.x[i][real], axis=0)) == real.sum()  # no row twice
        assert not up.x[i][~real].any()
        assert sorted(up.y[i][:4][real[:4]].tolist()) == wanted
        decoys = up.y[i][4:].tolist()
        assert decoys[0] == decoys[1]
        assert decoys[0] in set(y.tolist()) - set(wanted)


def test_seeds_and_generator_are_booked_once():
    """Before the first round (1 + 3) x 2 rows of 9 float32 and a label up. At first contact the model, the generator and a bool per label down."""

    class Turns:
        def choose(self, fed):
            return np.array([[0, 1], [1, 2], [0, 1]][fed.round - 1])

    fed, method = counted(*UNEVEN[:3]), FAug(**HOW, **SMALL)
    opening = begin(method, fed, **SOFTMAX).start()
    assert (opening.cohort, opening.bytes_down, opening.bytes_up) == (3, 0, 3 * 8 * (9 * 4 + 4))
    run = train(method, fed, 3, selector=Turns(), **SOFTMAX)
    model = sum(leaf.nbytes for leaf in jax.tree.leaves(run.server.w))
    generator = 4 * ((3 + L + 1) * 8 + (8 + 1) * 9 + 2 * 9) + L
    assert [cost.bytes_down for cost in run.costs] == [2 * (model + generator), 2 * model + generator, 2 * model]
    assert [cost.bytes_up for cost in run.costs] == [2 * (model + 4)] * 3
    assert_alike([run.states[i] for i in range(3)], [run.server.maker] * 3)


def test_seeds_of_a_client_that_is_not_there_are_missed():
    """Only it has label 2, so nobody makes rows of that; later it gets the generator all the same."""
    fed = counted((6, 1, 0, 0), (2, 2, 5, 0), (3, 4, 0, 0))
    run = train(FAug(**HOW, **SMALL), fed, 1, **SOFTMAX, conditions=Circumstances(gone={0: [1]}))
    assert run.server.maker.known.tolist() == [True, True, False, False]
    assert run.server.given.all()
    np.testing.assert_array_equal(filled(run).y, [[6, 6, 0, 0], [5, 5, 5, 0], [4, 4, 0, 0]])


def test_the_seed_of_the_run_changes_the_generator_and_the_seeds():
    a, b = (begin(FAug(**HOW, **SMALL), counted(*UNEVEN), seed=seed, **SOFTMAX) for seed in (0, 1))
    a.start()
    b.start()
    assert np.abs(a.server.maker.G.w.tree["head"]["kernel"] - b.server.maker.G.w.tree["head"]["kernel"]).max() > 0.01


def test_what_has_no_labels_and_what_are_no_numbers_is_refused():
    plain = federation(np.zeros((9, 3), np.float32), np.zeros(9, np.float32), [(1, 1, 1)] * 3, labels=())
    with pytest.raises(AtollError, match="have none"):
        check_method(FAug(), begin(FAug(), plain, models=("softmax",)).engine.facts)
    tokens = federation(np.ones((9, 3), np.int32), np.arange(9, dtype=np.int32) % 2, [(1, 1, 1)] * 3)
    with pytest.raises(AtollError, match="tokens"):
        begin(FAug(), tokens, models=("gru:vocabulary=5",)).start()
