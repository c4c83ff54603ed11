"""Balanced accuracy and the area under the ROC curve, against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from atoll.core.program import area
from atoll.data import load
from atoll.engine.device import mixed
from atoll.methods.fedavg_ft import FedAvgFT
from tests.harness import federation, linear, quadratics, seldom, train


@pytest.mark.parametrize("margins", [np.random.default_rng(0).normal(size=40), np.random.default_rng(1).integers(-3, 4, 40) / 2, np.zeros(40)])
def test_the_area_under_the_curve_with_ties_and_filling(margins):
    """Of 40 places the first 31 are rows; what stands behind them does not count."""
    y = np.random.default_rng(2).integers(0, 2, 40)
    found = jax.jit(area)(jnp.asarray(margins, jnp.float32), jnp.asarray(y), jnp.int32(31))
    assert found == pytest.approx(roc_auc_score(y[:31], margins[:31]), abs=1e-6)


def test_without_rows_of_both_labels_or_with_a_model_that_blew_up_there_is_no_area():
    margin = jnp.array([1.0, 2.0, 3.0])
    assert jnp.isnan(area(margin, jnp.array([1, 1, 0]), jnp.int32(2)))
    assert jnp.isnan(area(margin, jnp.array([0, 0, 1]), jnp.int32(2)))
    assert jnp.isnan(area(margin.at[0].set(jnp.nan), jnp.array([1, 0, 0]), jnp.int32(3)))
    assert area(margin.at[2].set(jnp.nan), jnp.array([1, 0, 1]), jnp.int32(2)) == 0  # behind the end


def people(labels, seed=0):
    """Three clients of 4 numbers a row, with uneven labels."""
    random = np.random.default_rng(seed)
    sizes = [(8, 4, 12), (6, 3, 9), (5, 2, 1)]
    rows = sum(map(sum, sizes))
    y = np.minimum(random.geometric(0.6, rows) - 1, labels - 1).astype(np.int32)
    return federation(random.normal(size=(rows, 4)).astype(np.float32), y, sizes, labels=tuple(map(str, range(labels))))


@pytest.mark.parametrize("engine", ["simulate", "loop", "wire"])
@pytest.mark.parametrize("labels", [2, 3])
def test_scores_of_clients_are_those_of_scikit_learn(engine, labels):
    """Of what a client predicts with, and of the common model; the linear model is worked out here."""
    fed = people(labels)
    trained = train(FedAvgFT(lr=0.1, batch=4), fed, 1, models=("softmax",), engine=engine)
    found = trained.training.evaluate().filter(model="global", split="test").sort("client")
    w = trained.server.tree["head"] if hasattr(trained.server, "tree") else trained.server.w.tree["head"]
    for i in range(3):
        at = slice(fed.start["test"][i], fed.start["test"][i] + fed.count["test"][i])
        out, y = fed.x[at] @ np.asarray(w["kernel"]) + np.asarray(w["bias"]), fed.y[at]
        present = np.unique(y)
        assert found["balanced"][i] == pytest.approx(np.mean([(out.argmax(1)[y == c] == c).mean() for c in present]), abs=1e-6)
        if set(out.argmax(1)) <= set(present) and len(present) > 1:  # scikit-learn warns of predicted labels that no row has, and of a single label
            assert found["balanced"][i] == pytest.approx(balanced_accuracy_score(y, out.argmax(1)), abs=1e-6)
        if labels == 2 and len(present) == 2:
            assert found["auc"][i] == pytest.approx(roc_auc_score(y, out[:, 1] - out[:, 0]), abs=1e-6)
        else:
            assert np.isnan(found["auc"][i])


def test_regression_has_neither():
    rows = train(FedAvgFT(lr=0.1, batch=0), quadratics([1.0, 2.0], [0.0, 1.0]), 1, **linear()).training.evaluate()
    assert rows["balanced"].is_nan().all()
    assert rows["auc"].is_nan().all()


@pytest.mark.parametrize("engine", seldom(["simulate", "loop", "wire"], lambda engine: engine != "loop"))
def test_every_clients_model_is_scored_on_rows_of_all_clients(engine):
    """Every other test row of the 22; personal models and the common one are worked out here."""
    fed, method = people(3), FedAvgFT(lr=0.1, batch=4)
    trained = train(method, fed, 1, models=("softmax",), engine=engine, mix=11)
    found = trained.training.evaluate().filter(pl.col("split") == "mix")
    assert set(found["rows"]) == {11}
    at = fed.start["test"][0] + 2 * np.arange(11)
    w = trained.server.tree["head"]
    right = ((fed.x[at] @ np.asarray(w["kernel"]) + np.asarray(w["bias"])).argmax(1) == fed.y[at]).sum()
    assert found.filter(model="global")["correct"].to_list() == [right] * 3
    plain = train(method, fed, 1, models=("softmax",), engine=engine)
    own = found.filter(model="personal").sort("client")["loss"]
    assert len(set(own)) == 3  # every client has fine-tuned on rows of its own
    everything = trained.training.evaluate().filter(pl.col("split") != "mix")
    assert_frame_equal(everything, plain.training.evaluate(), rel_tol=1e-5)


def test_a_mix_larger_than_the_test_rows_is_all_of_them_and_it_follows_the_phases():
    fed = people(3)
    assert [len(part.y) for part in mixed(fed, 100)] == [22]
    np.testing.assert_array_equal(mixed(fed, 22)[0].y, fed.y[fed.start["test"][0] :])
    assert mixed(fed, 0) == (None,)
    moving = load("digits", skew=["iid", "concept:2,every=3,kind=abrupt"], clients=4, limit=200)
    for part, phase in zip(mixed(moving, 10), moving.phases, strict=True):
        own = np.concatenate([phase.y[s : s + n] for s, n in zip(phase.start["test"], phase.count["test"], strict=True)])
        np.testing.assert_array_equal(part.y, own[np.arange(10) * len(own) // 10])


@pytest.mark.parametrize("engine", seldom(["simulate", "loop", "wire"], lambda engine: engine != "loop"))
def test_with_several_labels_each_is_set_against_the_others(engine):
    fed = people(4, seed=1)
    trained = train(FedAvgFT(lr=0.1, batch=4), fed, 1, models=("softmax",), engine=engine, auc=True)
    found = trained.training.evaluate().filter(model="global", split="test").sort("client")
    w = trained.server.tree["head"]
    for i in range(3):
        at = slice(fed.start["test"][i], fed.start["test"][i] + fed.count["test"][i])
        p, y = jax.nn.softmax(fed.x[at] @ np.asarray(w["kernel"]) + np.asarray(w["bias"])), fed.y[at]
        present = np.unique(y)
        if len(present) > 1:
            assert found["auc"][i] == pytest.approx(np.mean([roc_auc_score(y == c, p[:, c]) for c in present]), abs=1e-6)
        else:
            assert np.isnan(found["auc"][i])
