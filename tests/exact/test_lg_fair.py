"""Fair LG-FedAvg against LG-FedAvg on rows without the attribute, and its two gradients against differences of losses written in NumPy."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.keys import common_key
from atoll.methods.lg_fair import LGFair, _adversary
from atoll.methods.lg_fedavg import LGFedAvg
from tests.exact import dense
from tests.exact.plain import key
from tests.harness import Fixed, assert_near, begin, small_digits, train

TINY = ("mlp:4",)  # blocks dense1 (local), head (global)
PIXEL = 28
FAIR = LGFair(lr=0.5, batch=9, protected=PIXEL, lam=2.0)


def with_pixel(fed, change: Callable[[np.ndarray], np.ndarray], first: int = 0):
    """The federation with another value of the pixel in rows from `first` on."""
    x = fed.x.copy()
    flat = x.reshape(len(x), -1)
    flat[first:, PIXEL] = change(flat[first:, PIXEL])
    return dataclasses.replace(fed, x=x)


def test_without_hiding_it_is_lg_fedavg_on_rows_without_the_attribute():
    blind = with_pixel(small_digits(2), np.zeros_like)
    plain = train(LGFedAvg(lr=0.5, batch=9), blind, 2, models=TINY)
    fair = train(dataclasses.replace(FAIR, lam=0.0), small_digits(2), 2, models=TINY)
    assert_near(fair.server, plain.server.g, 1e-6)
    assert_near([fair.states[i].l for i in range(2)], [plain.states[i] for i in range(2)], 1e-6)


def test_a_round_by_hand():
    """Of client 0, whose 9 rows are one batch.

    The adversary steps first, on its own loss alone. The local layers then learn the task and to make it fail, the head the task alone.
    """
    fed = small_digits(2)
    trained = train(FAIR, fed, 1, models=TINY, selector=Fixed(0))
    w = dense.weights(trained.training.engine.facts.models[0].init(common_key(0)))
    a = dense.weights(_adversary(4).init(key("join", 0, 0)))
    x, y = dense.train_rows(fed, 0)
    z, x = x[:, PIXEL] > 0, np.where(np.arange(64) == PIXEL, 0, x)
    assert 0 < z.sum() < len(z)

    def guess(a: dense.Weights, w: dense.Weights) -> float:
        H = np.maximum(x @ w["dense1"]["kernel"] + w["dense1"]["bias"], 0)
        s = dense.logits(a, H)[0][:, 0]
        return float(np.mean(np.logaddexp(0, s) - z * s))

    a_new = dense.step(a, dense.slopes(a, lambda a: guess(a, w)), FAIR.adversary_lr)
    total = dense.slopes(w, lambda w: dense.loss(w, x, y) - FAIR.lam * guess(a_new, w))
    assert_near(dense.weights(trained.states[0].a), a_new)
    assert_near(dense.weights(trained.states[0].l) | dense.weights(trained.server), dense.step(w, total, FAIR.lr))
    task = dense.gradient(w, x, y)
    assert_near(total["head"], task["head"], 1e-6)
    assert np.abs(total["dense1"]["kernel"] - task["dense1"]["kernel"]).max() > 1e-3


def test_predictions_do_not_depend_on_the_attribute():
    fed = small_digits(2)
    turned = with_pixel(fed, lambda pixel: 16 - pixel, first=9 + 14)  # all but train rows
    tables = [train(FAIR, some, 1, models=TINY).training.evaluate().to_dicts() for some in (fed, turned)]
    assert [row["loss"] for row in tables[0]] == [row["loss"] for row in tables[1]]


def test_what_does_not_fit_the_model_is_refused():
    model = begin(LGFedAvg(), small_digits(1), models=TINY).engine.facts.models[0]
    for method, what in ((LGFair(protected=64), "64 values"), (LGFair(shared=("dense1",)), "last blocks"), (LGFair(shared=2), "last blocks")):
        with pytest.raises(AtollError, match=what):
            method.check_model(model)
