"""FedHealth against FedAvg, FedAvg+FT, NumPy's covariance, and a step of adapting by finite differences."""

import numpy as np
import pytest

from atoll.core.adaptation import Moments
from atoll.core.errors import AtollError
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedavg_ft import FedAvgFT
from atoll.methods.fedhealth import FedHealth
from atoll.study.training import check_method
from tests.exact import dense
from tests.harness import assert_alike, assert_near, begin, normed, small_digits, train

HOW = {"lr": 0.2, "epochs": 2, "batch": 4}


def losses(trained, model="personal"):
    return np.array([row["loss"] for row in trained.training.evaluate().to_dicts() if row["split"] == "test" and row["model"] == model])


class Adapted:
    """The weights that clients predict with, asked for with a key of their own."""

    def __init__(self, method):
        self.method = method

    def of(self, trained, clients):
        def look(k, s):
            return self.method.personalize(k, s)

        return trained.training.fed.ask(clients, look, trained.server).reply


def test_the_common_model_is_fedavgs():
    health, plain = train(FedHealth(**HOW), small_digits(), 3, per_round=2), train(FedAvg(**HOW), small_digits(), 3, per_round=2)
    assert_alike(health.server.w_S, plain.server)
    assert_alike(losses(health, "global"), losses(plain, "global"))


# BatchNorm enlarges rounding: only where tests are compiled as users compile
@pytest.mark.parametrize("net", ["mlp:6", pytest.param("normed", marks=pytest.mark.long)])
def test_without_alignment_and_frozen_blocks_it_is_fine_tuning(net):
    fed = small_digits()
    models = (normed(fed),) if net == "normed" else (net,)
    method = FedHealth(**HOW, eta=0.0, upper=3 if net == "normed" else 2, ft_lr=0.1)
    health, tuned = (train(m, fed, 2, models=models) for m in (method, FedAvgFT(**HOW, ft_lr=0.1)))
    assert_alike(losses(health), losses(tuned))


def test_the_alignment_changes_what_clients_predict_with():
    fed = small_digits()
    assert (losses(train(FedHealth(**HOW, eta=0.0), fed, 2)) != losses(train(FedHealth(**HOW, eta=10.0), fed, 2))).all()


@pytest.mark.parametrize(("net", "upper", "frozen"), [("mlp:7,6", 2, ["dense1"]), ("mlp:7,6", ("dense1",), ["dense2", "head"]), ("normed", 2, ["dense"])])
def test_frozen_blocks_stay_as_they_are(net, upper, frozen):
    fed = small_digits(3)
    method = FedHealth(**HOW, upper=upper, eta=5.0)
    trained = train(method, fed, 2, models=(normed(fed) if net == "normed" else net,))
    got = Adapted(method).of(trained, [0, 1, 2])
    for block in trained.training.engine.facts.models[0].blocks:
        for a, b in zip(*(sorted(tree[block].items()) for tree in (got.tree, trained.server.w_S.tree)), strict=True):
            for i in range(3):
                assert np.array_equal(a[1][i], b[1]) == (block in frozen), (block, a[0])
    if net == "normed":
        old, new = (tree["buffers"]["norm"]["mean"] for tree in (trained.server.w_S.tree, got.tree))
        assert (new[0] != old).any()  # the norm is not frozen: it follows the client's rows


def test_the_source_are_the_features_of_all_rows_of_the_rounds_clients():
    fed = small_digits()
    trained = train(FedHealth(**HOW), fed, 2, models=("mlp:7,6",), per_round=3)
    S = sorted(trained.training.fed.traffic.answered)
    assert len(S) == 3
    _, inputs = dense.logits(dense.weights(trained.server.w_S), np.concatenate([dense.train_rows(fed, i)[0] for i in S]))
    z = inputs[-1]
    assert_near(trained.server.source, Moments(z.mean(0), np.cov(z.T), len(z)), 1e-4)


def total_loss(w, x, y, C_S, eta):
    _, inputs = dense.logits(w, x)
    d = len(C_S)
    return dense.loss(w, x, y) + eta * np.sum((C_S - np.cov(inputs[-1].T)) ** 2) / (4 * d * d)


def test_a_step_of_adapting_by_finite_differences():
    """One batch of all rows: theta = w - lr grad (CE + eta ||C_S - C_T||^2 / (4 d^2)), for every weight of the trained blocks."""
    fed, lr, eta, h = small_digits(3), 0.2, 300.0, 1e-5
    method = FedHealth(**HOW, ft_epochs=1, eta=eta)
    trained = train(method, fed, 3, models=("mlp:7,6",))
    method = FedHealth(**{**HOW, "batch": 32}, ft_epochs=1, eta=eta)
    got = Adapted(method).of(trained, [0, 1, 2])
    C_S = np.asarray(trained.server.source.covariance, np.float64)
    for i in range(3):
        w, (x, y) = dense.weights(trained.server.w_S), dense.train_rows(fed, i)
        new = {block: {name: np.asarray(leaf[i], np.float64) for name, leaf in part.items()} for block, part in got.tree.items()}
        aligned = 0.0
        for block in ("dense2", "head"):
            for name, leaf in w[block].items():
                for at in np.ndindex(leaf.shape):
                    both = []
                    for e in (eta, 0.0):
                        old, ends = leaf[at], []
                        for sign in (1, -1):
                            leaf[at] = old + sign * h
                            ends.append(total_loss(w, x, y, C_S, e))
                        leaf[at] = old
                        both.append((ends[0] - ends[1]) / (2 * h))
                    aligned = max(aligned, abs(both[0] - both[1]))
                    assert new[block][name][at] == pytest.approx(leaf[at] - lr * both[0], abs=2e-5), (block, name, at)
        assert aligned > 0.01  # the alignment's own gradient would be seen


def test_before_the_first_round_there_is_nothing_to_align_to():
    fed = small_digits()
    aligned, tuned = (begin(m, fed) for m in (FedHealth(**HOW, eta=50.0), FedAvgFT(**HOW)))
    for training in (aligned, tuned):
        training.start()
    a, b = (training.evaluate().filter(model="personal")["loss"].to_numpy() for training in (aligned, tuned))
    assert_alike(a, b)


@pytest.mark.parametrize(
    ("model", "settings", "words"), [("softmax", {"upper": 1}, "hidden layer"), ("mlp:6", {"upper": 1}, "larger upper"), ("mlp:6", {"upper": 0}, "no block")]
)
def test_what_can_not_be_aligned_is_refused(model, settings, words):
    method = FedHealth(**settings)
    training = begin(method, small_digits(2), models=(model,))
    with pytest.raises(AtollError, match=words):
        check_method(method, training.engine.facts)
    head_only = FedHealth(upper=1, eta=0.0)  # nothing is aligned, so the head alone may be trained
    check_method(head_only, begin(head_only, small_digits(2)).engine.facts)
