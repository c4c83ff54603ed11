"""FedMD against NumPy: the transfer phase, the consensus, the digest and the revisit, step by step, with Adam as Kingma and Ba wrote it."""

import dataclasses

import jax
import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.keys import common_key, host_generator
from atoll.methods.fedmd import FedMD, stratified
from tests.exact.entropy import entropy_gradient, rows
from tests.harness import Fixed, assert_alike, assert_near, begin, federation, leaves, small_digits, train

ALONE = FedMD(public_epochs=0, private_epochs=0, revisit_epochs=0, alignment=10, digest_batch=4)  # digests only


class Adam:
    """m <- .9 m + .1 g, v <- .999 v + .001 g^2, w <- w - lr m^ / (sqrt(v^) + 1e-8) with m^, v^ corrected for their start at 0."""

    def __init__(self, lr):
        self.lr, self.t, self.m, self.v = lr, 0, 0.0, 0.0

    def __call__(self, w, g):
        self.t += 1
        self.m, self.v = 0.9 * self.m + 0.1 * g, 0.999 * self.v + 0.001 * g**2
        return w - self.lr * (self.m / (1 - 0.9**self.t)) / (np.sqrt(self.v / (1 - 0.999**self.t)) + 1e-8)


def small_world():
    """Two clients of three and two train rows, four public rows, three labels."""
    random = np.random.default_rng(5)
    x, y = random.normal(size=(20, 4)).astype(np.float32), (np.arange(20) % 3).astype(np.int32)
    return federation(x[:13], y[:13], [(3, 2, 2), (2, 2, 2)], public=(x[16:], y[16:]), labels=("0", "1", "2"))


LINEAR = ("softmax:bias=false",)


def kernels(trained):
    return [np.asarray(trained.states[i].w.tree["head"]["kernel"], np.float64) for i in sorted(trained.states)]


def test_transfer_is_public_rows_first_then_own_rows():
    """Two full-batch steps of Adam on the public rows, then three on the own ones with fresh moments, from the common first model."""
    fed = small_world()
    method = FedMD(lr=0.1, public_epochs=2, private_epochs=3, digest_epochs=0, revisit_epochs=0)
    training = begin(method, fed, models=LINEAR)
    start = np.asarray(training.engine.facts.models[0].init(common_key(0)).tree["head"]["kernel"], np.float64)
    for i, got in enumerate(kernels(train(method, fed, 1, models=LINEAR))):
        w = start
        for (x, y), steps in ((fed.public, 2), (rows(fed, i), 3)):
            adam = Adam(0.1)
            for _ in range(steps):
                w = adam(w, entropy_gradient(np.asarray(x, np.float64), y, w))
        assert_near(got, w)


def test_a_round_by_hand():
    """Scores x W_i of the three rows drawn; consensus = their mean; the digest takes batches of two and of one rows with gradient
    x' sign(x W_i - consensus) / (rows x labels); the revisit one step of fresh Adam on the cross-entropy of the own rows."""
    fed = small_world()
    before = FedMD(lr=0.1, public_epochs=0, private_epochs=2, alignment=3, digest_batch=2, digest_epochs=0, revisit_epochs=0)
    method = dataclasses.replace(before, digest_epochs=2, revisit_epochs=1)
    W = kernels(train(before, fed, 1, models=LINEAR))
    A = stratified(fed.public[1], 3, host_generator(0, "alignment", 1))
    x = fed.public[0][A].astype(np.float64)
    consensus = np.mean([x @ w for w in W], axis=0)
    for i, got in enumerate(kernels(train(method, fed, 1, models=LINEAR))):
        w, adam = W[i], Adam(0.1)
        for batch in (slice(0, 2), slice(2, 3)) * 2:
            sign = np.sign(x[batch] @ w - consensus[batch])
            w = adam(w, x[batch].T @ sign / sign.size)
        w = Adam(0.1)(w, entropy_gradient(*rows(fed, i), w))
        assert_near(got, w)


@pytest.mark.parametrize("model", ["softmax", "mlp:6", "lenet"])
def test_equal_models_have_nothing_to_digest(model):
    """Scores and consensus are the same bits, so the gradient of their distance is 0 and Adam does not move."""
    fed = small_digits(3, public=20)
    training = begin(ALONE, fed, models=(model,))
    start = training.engine.facts.models[0].init(common_key(0))
    trained = train(ALONE, fed, 2, models=(model,))
    for state in trained.states.values():
        assert_alike(state.w, start)


def test_one_client_has_nothing_to_digest():
    fed = small_digits(1, public=20)
    method = dataclasses.replace(ALONE, private_epochs=3)
    start = train(dataclasses.replace(method, digest_epochs=0), fed, 1)
    assert_alike(train(method, fed, 2).states[0].w, start.states[0].w)


def test_different_models_do_digest():
    """The other side of the two tests above."""
    fed = small_digits(2, public=20)
    moved = train(ALONE, fed, 1, models=("softmax", "mlp:6"))
    alone = train(dataclasses.replace(ALONE, digest_epochs=0), fed, 1, models=("softmax", "mlp:6"))
    for i in range(2):
        assert not np.array_equal(leaves(moved.states[i].w)[-1], leaves(alone.states[i].w)[-1])


def test_an_ideal_digest_makes_all_agree():
    """The mean of what linear models say of a row is what their mean says of it: a consensus that each of them can reach. Digested long enough and in small
    steps, all say the same of every public row. Their first scores are far apart."""
    fed = small_world()
    apart = FedMD(lr=0.1, public_epochs=0, private_epochs=5, alignment=4, digest_epochs=0, revisit_epochs=0)
    W = kernels(train(apart, fed, 1, models=LINEAR))
    x = np.asarray(fed.public[0], np.float64)
    assert np.abs(x @ W[0] - x @ W[1]).max() > 0.5
    for lr, digests in ((0.01, 2000), (0.001, 4000)):  # what is left is of the size of a step
        digested = dataclasses.replace(apart, lr=lr, digest_epochs=digests)
        training = begin(digested, fed, models=LINEAR)
        training.start()
        party = train(apart, fed, 1, models=LINEAR).states
        training.restore(1, None, party)
        training.step()
        agreed = [np.asarray(state.w.tree["head"]["kernel"], np.float64) for state in training.engine.executor.dump_states().values()]
        for w in agreed:
            assert_near(x @ w, x @ np.mean(W, axis=0), 20 * lr)


def test_without_digest_everybody_trains_alone():
    fed = small_digits(4, public=20)
    method = FedMD(public_epochs=1, private_epochs=1, digest_epochs=0, revisit_epochs=1, alignment=10)
    together = train(method, fed, 2, models=("mlp:6", "softmax"))
    for i in range(4):
        only = train(method, fed, 2, models=("mlp:6", "softmax"), selector=Fixed(i))
        assert_alike(only.states[i].w, together.states[i].w)


def test_an_unjoined_client_is_the_transfer_baseline():
    """No round: the personal model is the one of the transfer phase, trained with nobody's help."""
    fed = small_digits(2, public=20)
    method = FedMD(public_epochs=2, private_epochs=2, digest_epochs=0, revisit_epochs=0)
    joined, unjoined = train(method, fed, 1), train(method, fed, 0)
    key = [[row["correct"], row["loss"]] for row in joined.training.evaluate().to_dicts()]
    assert_near(key, [[row["correct"], row["loss"]] for row in unjoined.training.evaluate().to_dicts()])


def test_traffic_does_not_know_the_model():
    """Down: N_a = 12 row numbers and 12 x 10 scores; up: 12 x 10 scores and a weight; four bytes each. The public set has 20 rows."""
    for model in ("softmax", "mlp:40"):
        trained = train(dataclasses.replace(ALONE, alignment=12), small_digits(2, public=20), 1, models=(model,))
        cost = trained.costs[0]
        assert (cost.bytes_down, cost.bytes_up) == (2 * 4 * (12 + 120), 2 * 4 * (120 + 1))
    whole = train(ALONE, small_digits(2, public=5), 1).costs[0]
    assert whole.bytes_up == 2 * 4 * (5 * 10 + 1)  # fewer public rows than asked for: all of them


def test_public_rows_are_needed():
    with pytest.raises(AtollError, match="public"):
        train(ALONE, small_digits(2), 1)


def test_the_alignment_set_is_stratified():
    """Labels 0, 1, 2 in the shares 1/2, 1/3, 1/6: a third of the rows has a third of each, exactly where that is whole; all rows come up alike."""
    y = np.repeat([0, 1, 2], [30, 20, 10]).astype(np.int32)
    random = np.random.default_rng(0)
    drawn = np.array([stratified(y, 12, random) for _ in range(500)])
    assert all(len(set(A)) == 12 for A in drawn.tolist())
    assert all(abs(np.bincount(y[A], minlength=3) - [6, 4, 2]).max() <= 1 for A in drawn)
    often = np.bincount(drawn.ravel(), minlength=60) / 500
    assert abs(often - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / 500)
    assert sorted(stratified(y, 60, random).tolist()) == list(range(60))
    assert not np.array_equal(y[drawn[0]], np.sort(y[drawn[0]]))
    assert drawn.dtype == np.int32


def test_dropped_parties_do_not_count():
    """The consensus is of those who answered: with two of three gone it is the last one's own, and it stays as it was."""
    fed = small_digits(3, public=20)
    start = begin(ALONE, fed, models=("mlp:6", "softmax", "softmax:bias=false")).engine.facts.models[1].init(common_key(0))
    trained = train(ALONE, fed, 1, models=("mlp:6", "softmax", "softmax:bias=false"), selector=Fixed(1))
    assert set(trained.states) == {1}
    assert_alike(trained.states[1].w, start)
    assert jax.tree.leaves(trained.states[1].A)[0].shape == (10,)
