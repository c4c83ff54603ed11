"""Small federations and a short way to train a method on them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from sklearn.datasets import load_digits

from atoll.core.model import Model
from atoll.data.federation import Federation
from atoll.engine.engines import make_engine
from atoll.models import build, own
from atoll.parts.conditions import Conditions
from atoll.parts.selection import Uniform
from atoll.study.training import RoundCost, Training, facts_of

SPLITS = ("train", "validation", "test")


def federation(x: np.ndarray, y: np.ndarray, counts: list[tuple[int, int, int]], *, seen: int | None = None, public: Any = None, **more: Any) -> Federation:
    """Rows dealt out in order: all train rows client by client, then validation, then test. counts: (train, validation, test) per client."""
    table = np.array(counts)
    start, count, at = {}, {}, 0
    for s, split in enumerate(SPLITS):
        count[split] = table[:, s].astype(np.int64)
        start[split] = at + np.concatenate([[0], np.cumsum(table[:, s])[:-1]]).astype(np.int64)
        at += int(table[:, s].sum())
    names = tuple(f"client {i}" for i in range(len(counts)))
    given = {"labels": tuple(str(c) for c in range(int(y.max()) + 1)), "shift": 0.0, "scale": 1.0, **more}
    return Federation(
        name="test", x=x[:at], y=y[:at], start=start, count=count, names=names, seen=len(counts) if seen is None else seen, public=public, **given
    )


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    d = load_digits()
    order = np.random.default_rng(0).permutation(len(d.target))
    return d.images[order].astype(np.uint8), d.target[order].astype(np.int32)


def small_digits(clients: int = 4, public: int = 0) -> Federation:
    """Ragged clients of 9, 14, 19, ... train rows of 8x8 digits, 5 validation and 6 test rows each."""
    x, y = _digits()
    give = (x[-public:], y[-public:]) if public else None
    return federation(x, y, [(9 + 5 * i, 5, 6) for i in range(clients)], public=give, scale=1 / 16)


def quadratics(a: list[float], b: list[float]) -> Federation:
    """Clients f_i(w) = a_i/2 (w - b_i)^2, each as one least-squares row: x = sqrt(a_i), y = sqrt(a_i) b_i."""
    a_, b_ = np.sqrt(np.array(a, np.float32)), np.array(b, np.float32)
    x, y = np.tile(a_, 3)[:, None], np.tile(a_ * b_, 3)
    return federation(x, y, [(1, 1, 1)] * len(a), labels=())


class Fixed:
    """Asks the same clients each round, in the given order."""

    def __init__(self, *ids: int):
        self.ids = np.array(ids)

    def choose(self, fed):
        return self.ids


@dataclass
class Trained:
    """A method after some rounds."""

    training: Training
    costs: list[RoundCost]

    @property
    def server(self) -> Any:
        return self.training.server

    @property
    def states(self) -> dict[int, Any]:
        """Client -> private state."""
        return self.training.engine.executor.dump_states()

    def accuracy(self, split: str = "test", model: str = "personal") -> float:
        """Sample-weighted over all clients."""
        rows = [row for row in self.training.evaluate().to_dicts() if row["split"] == split and row["model"] == model]
        return sum(row["correct"] for row in rows) / sum(row["rows"] for row in rows)


def begin(
    method: Any,
    fed: Federation,
    *,
    models: tuple[str | Model, ...] = ("mlp:6",),
    engine: str = "simulate",
    per_round: int | None = None,
    seed: int = 0,
    threads: int | None = 1,
    lanes: int | None = None,
    together: int | None = 1,
    state_folder: Any = None,
    selector: Any = None,
    conditions: Conditions | None = None,
    planned: int | None = None,
    mix: int = 0,
    auc: bool = False,
) -> Training:
    """A training, not yet started."""
    outputs = len(fed.labels) or 1
    task = "classification" if fed.labels else "regression"
    built = []
    for model in models:
        if isinstance(model, str):
            model = build(model, fed.x.shape[1:], outputs, task)
        built.append(model)
    facts = facts_of(fed, tuple(built), method, has_pool=engine != "wire")
    made = make_engine(engine, fed, facts, seed, threads=threads, lanes=lanes, together=together, state_folder=state_folder, mix=mix, auc=auc)
    return Training(method, fed, facts, made, seed=seed, selector=selector or Uniform(per_round), conditions=conditions, rounds=planned)


def train(method: Any, fed: Federation, rounds: int, **how: Any) -> Trained:
    """A method after `rounds` rounds; `how` as in `begin`."""
    training = begin(method, fed, **how)
    training.start()
    return Trained(training, [training.step() for _ in range(rounds)])


def linear(**how: Any) -> dict[str, Any]:
    """Settings for the quadratics: one weight, no bias."""
    return {"models": ("softmax:bias=false",), **how}


class _Normed(nnx.Module):
    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs):
        self.dense = nnx.Linear(inputs, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, momentum=0.9, rngs=rngs)
        self.head = nnx.Linear(6, outputs, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.head(jax.nn.relu(self.norm(self.dense(x.reshape(len(x), -1)))))


def normed(fed: Federation) -> Model:
    """A small net with BatchNorm, for `models=`."""
    inputs, outputs = int(np.prod(fed.x.shape[1:])), len(fed.labels)
    return own(lambda rngs: _Normed(inputs, outputs, rngs), fed.x.shape[1:], outputs, name="normed")


def leaves(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def seldom(values: Sequence[Any], now: Callable[[Any], bool]) -> list[Any]:
    """Cases for a test that is dear: those that `now` picks run always, the others with the long tests."""
    return [value if now(value) else pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.long) for value in values]


def assert_same(a: Any, b: Any) -> None:
    """Equal bit for bit."""
    la, lb = leaves(a), leaves(b)
    assert len(la) == len(lb)
    for x, y in zip(la, lb, strict=True):
        np.testing.assert_array_equal(x, y)


def assert_alike(a: Any, b: Any) -> None:
    """Of two programs that do the same: equal bit for bit, and up to rounding where tests are compiled plainly (tests/conftest.py), which rounds them apart."""
    if "fusion_emitters=false" in os.environ.get("XLA_FLAGS", ""):
        assert_near(a, b)
    else:
        assert_same(a, b)


def assert_near(a: Any, b: Any, tolerance: float = 1e-5) -> None:
    """Equal up to `tolerance`, absolute and relative."""
    la, lb = leaves(a), leaves(b)
    assert len(la) == len(lb)
    for x, y in zip(la, lb, strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)
