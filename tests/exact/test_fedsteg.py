"""FedSteg against FedHealth, bit for bit, and a case in which no detector can be better than chance."""

import pytest

from atoll.data import load
from atoll.methods.fedhealth import FedHealth, FedSteg
from tests.harness import assert_alike, begin, normed, small_digits, train

HOW = {"lr": 0.2, "epochs": 2, "batch": 4, "ft_epochs": 3, "ft_lr": 0.1, "eta": 3.0}


@pytest.mark.parametrize("net", ["mlp:7,6", "normed"])
def test_it_is_fedhealth(net):
    fed = small_digits()
    steg, health = (train(kind(**HOW), fed, 2, models=(normed(fed) if net == "normed" else net,), per_round=3) for kind in (FedSteg, FedHealth))
    assert_alike(steg.server, health.server)
    a, b = (run.training.evaluate().drop("method") for run in (steg, health))
    assert a.equals(b)
    assert [cost.bytes_up for cost in steg.costs] == [cost.bytes_up for cost in health.costs]


def test_where_nothing_is_hidden_every_detector_is_right_for_half():
    """Rate 0: a stego image is its cover, and both get the same answer, whatever was learned on images with messages."""
    method, models, small = FedSteg(**HOW), ("steganalyser:2,hidden=3",), {"side": 64, "clients": 2}
    learned = train(method, load("steganalysis", rates=[1.0], **small), 1, models=models)
    nothing = begin(method, load("steganalysis", rates=[0.0], **small), models=models)
    nothing.restore(1, learned.server, {})
    for row in nothing.evaluate().to_dicts():
        assert row["correct"] == row["rows"] / 2
