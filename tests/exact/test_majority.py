"""Majority by counting: hits, Laplace-smoothed frequencies, mean targets."""

import numpy as np
import pytest

from atoll.methods.majority import Majority
from atoll.parts.conditions import Conditions
from atoll.study.models import choose_models
from tests.harness import assert_near, federation, train


def scores(training):
    """(client, split) -> (rows, correct, loss)."""
    return {(row["client"], row["split"]): (row["rows"], row["correct"], row["loss"]) for row in training.evaluate().to_dicts()}


def labelled(train_y, validation_y, test_y):
    """Clients with these labels and inputs that say nothing."""
    y = np.concatenate([*train_y, *validation_y, *test_y]).astype(np.int32)
    counts = [tuple(map(len, parts)) for parts in zip(train_y, validation_y, test_y, strict=True)]
    return federation(np.zeros((len(y), 3), np.float32), y, counts, labels=("0", "1", "2", "3"))


def test_hits_and_loss_by_hand():
    """Client 0: label 2 leads 3 to 2. Client 1: 1 and 3 are equal, the first wins. Client 2 has 200 rows, more than one pass takes. Test labels that a
    client never saw cost log (n + 4). Validation and test labels differ from the train labels, and are not counted."""
    many = np.arange(200) % 3
    train_y = [[2, 0, 2, 0, 2], [3, 1, 1, 3], many]
    validation_y, test_y = [[0], [3, 3, 1], [0]], [[2, 2, 0, 1, 3], [1, 3, 3], [0, 1, 1]]
    got = scores(train(Majority(), labelled(train_y, validation_y, test_y), 1).training)
    for i, leader in enumerate([2, 1, 0]):
        p = (np.bincount(train_y[i], minlength=4) + 1) / (len(train_y[i]) + 4)
        for split, y in (("validation", validation_y[i]), ("test", test_y[i])):
            assert_near(got[i, split], (len(y), sum(label == leader for label in y), -np.log(p[y]).sum()))


def test_regression_predicts_the_mean_target():
    y = np.array([1, 2, 6, -1, -1, 4, 0, 5], np.float32)  # train [1, 2, 6], [-1]; validation [-1], [4]; test [0], [5]
    fed = federation(np.zeros((8, 2), np.float32), y, [(3, 1, 1), (1, 1, 1)], labels=())
    got = {at: score[2] for at, score in scores(train(Majority(), fed, 0).training).items()}
    assert_near(got, {(0, "validation"): 16.0, (0, "test"): 9.0, (1, "validation"): 25.0, (1, "test"): 36.0})


def test_sequences_predict_the_most_frequent_next_token():
    """Train tokens 1 1 0 and 2 1 1: token 1 leads. The test row 1 2 1 has two hits; p = (1 + 1, 4 + 1, 1 + 1) / (6 + 3)."""
    y = np.array([[1, 1, 0], [2, 1, 1], [0, 0, 0], [1, 2, 1]], np.int32)
    fed = federation(np.zeros((4, 3), np.int32), y, [(2, 1, 1)], labels=("a", "b", "c"))
    training = train(Majority(), fed, 0, models=choose_models(("gru:4",), fed)).training
    assert_near(scores(training)[0, "test"], (3, 2, -2 * np.log(5 / 9) - np.log(2 / 9)))
    assert_near(scores(training)[0, "validation"], (3, 0, -3 * np.log(2 / 9)))


@pytest.mark.parametrize("models", [("softmax",), ("softmax", "mlp:3")])
def test_nobody_is_asked_and_the_model_does_not_matter(models):
    fed = labelled([[0], [1], [2]], [[0], [0], [0]], [[0, 1], [1, 2], [3, 3]])
    trained = train(Majority(), fed, 2, models=models, conditions=Conditions(dropout=1.0))
    assert [(cost.cohort, cost.bytes_down, cost.bytes_up, cost.steps, cost.flops) for cost in trained.costs] == [(0, 0, 0, 0, 0)] * 2
    assert trained.states == {}
    assert [scores(trained.training)[i, "test"][1] for i in range(3)] == [1, 1, 0]
