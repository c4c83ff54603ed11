"""The data sheet, against counts by hand."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from atoll.data import load
from atoll.data.federation import Federation, starts
from atoll.data.sheet import label_table, majority_accuracy, print_sheet, sheet, split_hash


def small() -> Federation:
    """Client ann: train labels 0 0 1, test 0 1. Client bob: train 1, validation 0, test 1 1 0."""
    count = {"train": np.array([3, 1]), "validation": np.array([0, 1]), "test": np.array([2, 3])}
    y = np.array([0, 0, 1, 1, 0, 0, 1, 1, 1, 0], np.int32)
    x = np.arange(10, dtype=np.float32)[:, None]
    return Federation("small", x, y, starts(count), count, ("ann", "bob"), 1, ("no", "yes"), groups=np.array([0, 1]), history=("by hand",))


def test_the_sheet_of_a_small_federation():
    content = sheet(small())
    keys = ["name", "history", "clients", "seen", "unseen", "labels", "sizes", "names", "label_table", "majority_accuracy", "split_hash", "groups"]
    assert list(content) == [*keys, "drift", "attackers", "heterogeneity"]
    assert [one["kind"] for one in content.pop("heterogeneity")][:2] == ["quantity", "labels"]
    digest = content.pop("split_hash")
    assert len(digest) == 64
    assert json.loads(json.dumps(content)) == {
        "name": "small",
        "history": ["by hand"],
        "clients": 2,
        "seen": 1,
        "unseen": 1,
        "labels": ["no", "yes"],
        "sizes": {"train": [3, 1], "validation": [0, 1], "test": [2, 3]},
        "names": ["ann", "bob"],
        "label_table": [[2, 1], [0, 1]],
        "majority_accuracy": pytest.approx(3 / 5),  # ann: 1 of 2, bob: 2 of 3
        "groups": [0, 1],
        "drift": None,
        "attackers": None,
    }


def test_the_sheet_says_how_clients_differ():
    fed = load("digits", skew=["iid", "swap:4", "flip:0.3"], clients=10)
    content = json.loads(json.dumps(sheet(fed), allow_nan=False))
    assert fed.attackers is not None
    assert content["attackers"] == fed.attackers.tolist()
    words = {one["key"]: one["word"] for one in content["heterogeneity"]}
    assert (words["label_tv"], words["disagreement"], words["attackers"]) == ("none", "strong", "strong")
    assert sheet(fed) == sheet(load("digits", skew=["iid", "swap:4", "flip:0.3"], clients=10))  # the same numbers every time


def test_regression_has_no_labels_to_count():
    content = sheet(load("quadratic"))
    assert content["label_table"] == []
    assert content["majority_accuracy"] is None
    assert content["groups"] is None
    json.dumps(content, allow_nan=False)


def test_labels_of_sequences_are_counted_by_position():
    fed = small()
    y = np.stack([fed.y, 1 - fed.y, fed.y], axis=1)
    fed = replace(fed, x=np.zeros((10, 3), np.int32), y=y)
    assert label_table(fed, "train").tolist() == [[5, 4], [1, 2]]
    assert majority_accuracy(fed) == pytest.approx((3 + 5) / 15)


def test_equal_splits_have_equal_hashes_and_any_change_shows():
    fed = small()
    assert split_hash(fed) == split_hash(small())
    assert split_hash(fed) == split_hash(replace(fed, name="other", seen=2, history=()))
    x, y = fed.x.copy(), fed.y.copy()
    x[[0, 1]], y[3] = x[[1, 0]], 0
    moved = {"train": np.array([2, 2]), "validation": np.array([0, 1]), "test": np.array([2, 3])}
    others = [replace(fed, x=x), replace(fed, y=y), replace(fed, names=("ann", "bop")), replace(fed, count=moved, start=starts(moved))]
    assert len({split_hash(other) for other in [fed, *others]}) == 5


def test_the_hash_of_the_default_is_stable():
    """Printed once by this function; a change of it means that nobody's earlier splits can be had again, which the changelog must say."""
    assert split_hash(load("digits")) == split_hash(load("digits", skew="natural"))
    assert split_hash(load("digits")).startswith("c66be7ccd601f9a9")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (
            {"data": "digits", "unseen": 0.2},
            ["digits by writing form", "11 seen, 3 unseen", "uint8 8x8, 10 labels", "form 0", "(unseen)", "majority", "seed 0", "Gini of sizes", "by chance"],
        ),
        ({"data": "digits", "skew": ["iid", "swap:3"], "clients": 40, "public": 17}, ["3 groups", "(20 of 40 clients)", "client 39", "public rows", "17"]),
        ({"data": "digits", "skew": ["iid", "swap:4", "flip:0.3"], "clients": 10}, ["3 attackers", "preference", "strong", "labels differ at the same x"]),
        ({"data": "linear"}, ["a number to predict", "float32 20", "4 groups"]),
        ({"data": "synthetic", "classes": 40}, ["40 labels", "█"]),
    ],
)
def test_what_is_printed(how, words):
    out = io.StringIO()
    fed = load(**how)
    print_sheet(fed, Console(file=out, width=110))
    text = out.getvalue()
    for word in [*words, split_hash(fed)]:
        assert word in text, text
    assert max(map(len, text.splitlines())) < 160
