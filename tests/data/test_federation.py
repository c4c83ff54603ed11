"""What a Federation checks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from atoll.data.federation import SPLITS, Federation, starts
from tests.data.support import refuses


def small(**changes: Any) -> Federation:
    """Two clients with 2, 1, 1 and 3, 0, 2 rows."""
    count = {"train": np.array([2, 3]), "validation": np.array([1, 0]), "test": np.array([1, 2])}
    x = np.arange(18, dtype=np.float32).reshape(9, 2)
    y = np.array([0, 1, 0, 1, 1, 0, 0, 1, 1], np.int32)
    given: dict[str, Any] = {"name": "small", "x": x, "y": y, "start": starts(count), "count": count, "names": ("ann", "bob")}
    return Federation(**{**given, "seen": 2, "labels": ("no", "yes"), **changes})


def test_starts_follow_the_row_order():
    fed = small()
    assert {split: fed.start[split].tolist() for split in SPLITS} == {"train": [0, 2], "validation": [5, 6], "test": [6, 7]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"names": ()}, ["no clients"]),
        ({"names": ("ann", "ann")}, ["'ann'", "differ"]),
        ({"seen": 0}, ["0 of 2 clients"]),
        ({"seen": 3}, ["3 of 2 clients"]),
        ({"groups": np.array([0])}, ["groups", "(2)"]),
        ({"groups": np.array([0.0, 1.0])}, ["groups"]),
        ({"shift": np.zeros(3)}, ["shift", "[3]", "[2]"]),
        ({"scale": np.nan}, ["scale", "finite"]),
        ({"x": np.zeros((9, 2))}, ["float64", "float32"]),
        ({"y": np.zeros(9, np.int64)}, ["int64", "int32"]),
        ({"labels": ()}, ["int32", "float32 for regression"]),
        ({"labels": ("no",)}, ["y in train row 1 of client 'ann' is 1", "out of range", "1 labels"]),
        ({"x": np.zeros((8, 2), np.float32)}, ["x has 8 rows", "y has 9", "own 9"]),
        ({"public": (np.zeros((3, 2), np.float32), np.zeros(2, np.int32))}, ["public x has 3", "public y has 2"]),
        ({"public": (np.zeros((3, 4), np.float32), np.zeros(3, np.int32))}, ["public", "[4]", "[2]"]),
        ({"public": (np.zeros((3, 2), np.uint8), np.zeros(3, np.int32))}, ["public", "uint8"]),
        ({"public": (np.zeros((3, 2), np.float32), np.full(3, 7, np.int32))}, ["public row 0", "is 7"]),
        ({"start": {"train": np.zeros(2)}}, ["start", "validation"]),
        ({"start": {split: np.zeros(2, np.int64) for split in SPLITS}}, ["order", "atoll.data.build"]),
    ],
)
def test_what_does_not_fit_is_refused(changes, words):
    small()
    with refuses("small:", *words):
        small(**changes)


@pytest.mark.parametrize(("split", "what"), [("train", "no train row"), ("test", "no test row")])
def test_every_client_needs_rows_to_train_and_to_test(split, what):
    count = {"train": np.array([5, 1]), "validation": np.array([1, 1]), "test": np.array([1, 0])}
    count[split] = np.array([count[split].sum(), 0])
    count["test" if split == "train" else "train"] = np.array([1, 1])
    n = sum(int(c.sum()) for c in count.values())
    with refuses("'bob'", what):
        small(count=count, start=starts(count), x=np.zeros((n, 2), np.float32), y=np.zeros(n, np.int32))


def test_a_missing_value_is_named_with_its_client_and_place():
    x = small().x.copy()
    x[7, 1] = np.nan
    with refuses("x is not a finite number", "test row 0 of client 'bob'", "value 1"):
        small(x=x)
    # Large finite values whose float32 sum would overflow are fine.
    small(x=np.full((9, 2), 3e38, np.float32))


def test_sequences_have_a_label_at_every_position():
    y = np.zeros((9, 4), np.int32)
    assert small(x=np.zeros((9, 4), np.int32), y=y).y.shape == (9, 4)
    y[2, 3] = 5
    with refuses("out of range"):
        small(y=y)


def test_it_can_not_be_changed_but_replaced():
    assert replace(small(), seen=1).seen == 1
    with pytest.raises(AttributeError):
        small().seen = 1  # type: ignore[misc]
