"""FedAvg with fine-tuning: the common model is FedAvg's; what clients predict with is compared with closed forms and NumPy."""

import numpy as np
import pytest

from atoll.methods.fedavg import FedAvg
from atoll.methods.fedavg_ft import FedAvgFT
from tests.exact.plain import key, loss, rows, sgd, weights
from tests.harness import assert_alike, assert_near, leaves, linear, normed, quadratics, small_digits, train

HOW = {"lr": 0.2, "epochs": 2, "batch": 4}


def losses(trained, model, split="test"):
    """Summed loss of each client."""
    return np.array([row["loss"] for row in trained.training.evaluate().to_dicts() if row["split"] == split and row["model"] == model])


@pytest.mark.parametrize("what", ["all", "head"])
def test_the_common_model_is_fedavgs(what):
    plain, tuned = (train(made, small_digits(), 3, per_round=2) for made in (FedAvg(**HOW), FedAvgFT(**HOW, what=what)))
    assert_alike(tuned.server, plain.server)
    assert_alike(losses(tuned, "global"), losses(plain, "global"))
    assert (losses(tuned, "personal") != losses(plain, "global")).all()


@pytest.mark.parametrize("what", ["all", "head"])
def test_without_fine_tuning_it_is_fedavg(what):
    plain, tuned = (train(made, small_digits(), 3) for made in (FedAvg(**HOW), FedAvgFT(**HOW, ft_epochs=0, what=what)))
    assert_alike(losses(tuned, "personal"), losses(plain, "personal"))


@pytest.mark.parametrize(("ft_lr", "rate"), [(0.0, 0.1), (0.2, 0.2)])
def test_fine_tuning_of_quadratics(ft_lr, rate):
    """f_i = a_i/2 (w - b_i)^2: J full steps from w end at b_i + (1 - rate a_i)^J (w - b_i), whose squared error on the row is a_i times the distance squared.
    ft_lr=0 takes the rate of training."""
    a, b = np.array([1.0, 2.0, 4.0, 0.5]), np.array([0.0, 1.0, -1.0, 3.0])
    trained = train(FedAvgFT(lr=0.1, batch=0, ft_epochs=3, ft_lr=ft_lr), quadratics(list(a), list(b)), 5, **linear())
    w = leaves(trained.server)[0].item()
    assert_near(losses(trained, "global"), a * (w - b) ** 2)
    assert_near(losses(trained, "personal"), a * (1 - rate * a) ** 6 * (w - b) ** 2)


def test_fine_tuning_in_batches_has_randomness_of_its_own():
    """NumPy, with the batches of the program `personalize` in round 2; those of training would give another model."""
    fed = small_digits()
    trained = train(FedAvgFT(**HOW, ft_epochs=3, ft_lr=0.1), fed, 2, models=("softmax",))
    w = weights(trained.server)
    for i in range(4):
        got = losses(trained, "personal")[i]
        wanted, other = (loss(sgd(w, *rows(fed, i), 0.1, 3, 4, key(program, 2, i)), *rows(fed, i, "test")) for program in ("personalize", "update"))
        assert got == pytest.approx(wanted, rel=1e-5)
        assert abs(wanted - other) > 1e-3


@pytest.mark.parametrize("batch_norm", [False, True])
def test_fine_tuning_the_head_keeps_the_base(batch_norm):
    """Softmax regression in NumPy on the features that the common base predicts with, from the common head."""
    fed = small_digits(2)
    trained = train(FedAvgFT(**HOW, ft_epochs=3, what="head"), fed, 2, models=(normed(fed) if batch_norm else "mlp:6",))
    net, w = trained.training.engine.facts.models[0], trained.server
    for i in range(2):
        (x, y), (test_x, test_y) = rows(fed, i), rows(fed, i, "test")
        z, test_z = (np.asarray(net.features(w, part.reshape(-1, 8, 8).astype(np.float32)), np.float64) for part in (x, test_x))
        head = sgd(weights(w), z, y, 0.2, 3, 4, key("personalize", 2, i))
        assert losses(trained, "personal")[i] == pytest.approx(loss(head, test_z, test_y), rel=1e-4)


def test_a_model_that_is_all_head():
    fed = small_digits()
    one, other = (train(FedAvgFT(**HOW, what=what), fed, 1, models=("softmax",)) for what in ("all", "head"))
    assert_near(losses(one, "personal"), losses(other, "personal"))
