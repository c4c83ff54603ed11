"""LG-FedAvg's ensemble for new devices: training against LG-FedAvg, predictions against NumPy."""

import dataclasses

import numpy as np
import pytest

from atoll.methods.lg_ensemble import LGEnsemble
from atoll.methods.lg_fedavg import LGFedAvg
from tests.exact import dense
from tests.harness import Fixed, assert_alike, begin, small_digits, train

TINY = ("mlp:4",)
ENSEMBLE = LGEnsemble(lr=0.5, batch=5, warmup=1)


def losses(training) -> dict[int, float]:
    """Client -> mean loss on its test rows."""
    return {row["client"]: row["loss"] / row["rows"] for row in training.evaluate().to_dicts() if row["split"] == "test"}


def log_mean_softmax(models: list[dense.Weights], x: np.ndarray) -> np.ndarray:
    z = np.stack([dense.logits(w, x)[0] for w in models])
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.log((p / p.sum(axis=-1, keepdims=True)).mean(axis=0))


def test_training_and_predictions_of_who_has_trained_are_lg_fedavgs():
    plain, ensemble = (train(method, small_digits(3), 2, models=TINY) for method in (LGFedAvg(lr=0.5, batch=5, warmup=1), ENSEMBLE))
    assert_alike((ensemble.server.lg, ensemble.states), (plain.server, plain.states))
    assert losses(ensemble.training) == pytest.approx(losses(plain.training), rel=1e-5)


def test_new_devices_predict_with_the_mean_of_all_who_have_trained():
    """Clients 0 and 2 train, client 1 is seen but never asked, client 3 is held out: both take the mean of two softmaxes, written out."""
    fed = dataclasses.replace(small_digits(4), seen=3)
    training = begin(ENSEMBLE, fed, models=TINY, selector=Fixed(0, 2))
    training.start()
    for _ in range(3):
        training.step()
    assert training.server.has.tolist() == [True, False, True]
    states, g = training.engine.executor.dump_states(), dense.weights(training.server.lg.g)
    models = [dense.weights(states[i]) | g for i in (0, 2)]
    found = losses(training)
    for i in (1, 3):
        x, y = dense.rows(fed, i, "test")
        assert found[i] == pytest.approx(-log_mean_softmax(models, x)[np.arange(len(y)), y].mean(), rel=1e-4)
    assert found[0] == pytest.approx(dense.loss(models[0], *dense.rows(fed, 0, "test")), rel=1e-4)


def test_an_ensemble_of_equal_models_is_one_of_them():
    fed = dataclasses.replace(small_digits(4), seen=3)
    trained = train(ENSEMBLE, fed, 2, models=TINY)
    s = trained.server
    first = s.L.tree["dense1"]
    same = s._replace(L=type(s.L)({"dense1": {name: np.broadcast_to(leaf[:1], leaf.shape) for name, leaf in first.items()}}))
    trained.training.server = same
    w = dense.weights(trained.states[0]) | dense.weights(s.lg.g)
    assert losses(trained.training)[3] == pytest.approx(dense.loss(w, *dense.rows(fed, 3, "test")), rel=1e-4)
