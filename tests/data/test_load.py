"""From a source's name to a federation."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.data import SOURCES, Federation, load
from atoll.data.sheet import split_hash
from tests.data.support import owners, refuses


def keys(x: np.ndarray, y: np.ndarray) -> list[bytes]:
    """Every row as bytes, sorted."""
    return sorted(row.tobytes() + label.tobytes() for row, label in zip(x, y, strict=True))


def all_rows(fed: Federation) -> list[bytes]:
    x, y = (fed.x, fed.y) if fed.public is None else (np.concatenate([a, b]) for a, b in zip((fed.x, fed.y), fed.public, strict=True))
    return keys(x, y)


@settings(max_examples=25, deadline=None)
@given(
    skew=st.sampled_from(["natural", "iid", "dirichlet:0.05", "dirichlet:1", "classes:3", "quantity:power=1.2", "quantity:lognormal=1"]),
    public=st.sampled_from([0, 0.1, 200]),
    unseen=st.sampled_from([0.0, 0.25]),
    seed=st.integers(0, 100),
)
def test_rows_are_neither_lost_nor_doubled_nor_changed(skew, public, unseen, seed):
    fed = load("digits", skew=skew, public=public, unseen=unseen, seed=seed)
    assert all_rows(fed) == all_rows(load("digits"))
    assert (0 if fed.public is None else len(fed.public[1])) == (180 if public == 0.1 else public)
    assert split_hash(fed) == split_hash(load("digits", skew=skew, public=public, unseen=unseen, seed=seed))
    assert split_hash(fed) != split_hash(load("digits", skew=skew, public=public, unseen=unseen, seed=seed + 1))


def test_digits_are_the_fourteen_forms():
    """Sizes from where forms begin. Complete forms (130 digits) ask for the same digits in the same order."""
    from sklearn.datasets import load_digits

    fed = load("digits")
    assert fed.name == "digits by writing form"
    sizes = sum(fed.count.values())
    assert sizes.tolist() == [130, 126, 130, 130, 130, 130, 130, 123, 128, 130, 128, 130, 122, 130]
    assert sizes.sum() == 1797
    assert fed.x.dtype == np.uint8
    assert fed.x.max() == 16
    assert fed.scale == 1 / 16
    x, y = load_digits(return_X_y=True)
    owner = owners(fed)
    first = {form: keys(fed.x[owner == form], fed.y[owner == form]) for form in range(14)}
    at = np.concatenate([[0], np.cumsum(sizes)])
    labels = [y[at[form] : at[form + 1]] for form in range(14)]
    for form in range(14):
        there = slice(at[form], at[form + 1])
        assert first[form] == keys(x[there].reshape(-1, 8, 8).astype(np.uint8), y[there].astype(np.int32))
        if len(labels[form]) == 130:
            assert (labels[form] == labels[0]).mean() > 0.98


def test_forms_can_be_told_apart_and_random_clients_can_not():
    """An SVM recognises the form from the pixels at .59 (chance .07), which makes the clients natural; after dealing out at random it can't."""
    from sklearn.svm import SVC

    for skew, low, high in (("natural", 0.4, 0.8), ("iid", 0.0, 0.15)):
        fed = load("digits", skew=skew)
        owner, x = owners(fed), fed.x.reshape(len(fed.x), -1) / 16
        train, test = slice(0, fed.count["train"].sum()), slice(fed.start["test"][0], None)
        accuracy = SVC(C=10).fit(x[train], owner[train]).score(x[test], owner[test])
        assert low < accuracy < high


def test_a_partition_takes_as_many_clients_as_there_are_forms_unless_told():
    assert len(load("digits", skew="iid").names) == 14
    assert len(load("digits", skew="iid", clients=30).names) == 30
    assert load("digits", skew="iid", clients=30).name == "digits, iid"


def test_some_natural_clients():
    few, every = load("digits", clients=3, seed=5), load("digits", seed=5)
    assert len(few.names) == 3
    assert set(few.names) < set(every.names)
    sizes = dict(zip(every.names, sum(every.count.values()), strict=True))
    assert sum(few.count.values()).tolist() == [sizes[name] for name in few.names]
    assert any("3 of 14 natural clients" in line for line in few.history)
    with refuses("14 natural clients, not 15", "iid"):
        load("digits", clients=15)


def test_limit_keeps_clients_in_proportion():
    fed = load("digits", limit=280)
    sizes = sum(fed.count.values())
    assert sizes.sum() == 280
    assert sizes.min() >= 18
    assert load("digits", limit=10_000).history == load("digits").history
    assert sum(load("digits", limit=28).count.values()).tolist() == [2] * 14
    with refuses("limit=27", "14 clients", "28"):
        load("digits", limit=27)
    assert sum(int(c.sum()) for c in load("digits", skew="iid", clients=50, limit=100).count.values()) == 100


def test_public_rows_leave_every_client_something():
    fed = load("digits", public=1769)
    assert sum(fed.count.values()).tolist() == [2] * 14
    with refuses("public=1770", "1,769 can be spared"):
        load("digits", public=1770)
    fed = load("digits", public=140)
    assert np.ptp(sum(fed.count.values()) / np.array([130, 126, 130, 130, 130, 130, 130, 123, 128, 130, 128, 130, 122, 130])) < 0.02


def test_unseen_clients_keep_rows_of_all_splits():
    fed = load("digits", unseen=0.2)
    assert fed.seen == 11
    assert all((fed.count[split][fed.seen :] > 0).all() for split in fed.count)


def test_skews_and_splits_draw_apart():
    """The same seed deals rows out in the same way whatever is done with them after."""
    a, b = load("digits", skew="dirichlet:0.3", seed=1), load("digits", skew=["swap:4", "dirichlet:0.3"], seed=1, unseen=0.3)
    sizes = [dict(zip(fed.names, sum(fed.count.values()).tolist(), strict=True)) for fed in (a, b)]
    assert sizes[0] == sizes[1]


def test_history_tells_every_step():
    fed = load("digits", skew=["dirichlet:0.01", "swap:2"], limit=1000, public=0.1, unseen=0.2, seed=3)
    steps = ["scikit-learn digits", "limited to 1,000 of 1,797", "100 of 1,000 rows given away", "dirichlet:0.01 over 14", "swap:2", "60/20/20 %"]
    assert [step in line for step, line in zip(steps, fed.history, strict=True)] == [True] * 6
    moved = next(line for line in fed.history if "dirichlet" in line)
    assert int(moved.split("clients: ")[1].split()[0]) > 0
    assert "3 of 14 clients unseen; seed 3" in fed.history[-1]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"data": "digitss"}, ["Unknown source of data 'digitss'", "Did you mean digits?"]),
        ({"data": "csv", "pth": "x"}, ["Unknown option of source csv 'pth'", "Did you mean path?"]),
        ({"data": "digits", "path": "x"}, ["digits has no options", "'path'"]),
        ({"clients": 0}, ["clients=0"]),
        ({"clients": 2.5}, ["clients=2.5"]),
        ({"seed": -1}, ["seed=-1"]),
        ({"limit": 1}, ["limit=1"]),
        ({"public": -1}, ["public=-1"]),
        ({"public": 1.5}, ["public=1.5"]),
        ({"public": float("nan")}, ["public=nan"]),
        ({"unseen": -0.1}, ["unseen=-0.1"]),
        ({"split": (0.8, 0.2, 0.0)}, ["split=(0.8, 0.2, 0.0)"]),
        ({"skew": "iid", "clients": 899}, ["1,797 rows", "899 clients"]),
        ({"skew": "classes:1", "clients": 890}, ["row", "at least 2"]),
        ({"skew": "classes:11"}, ["only 10 classes"]),
        ({"skew": "classes:1", "clients": 9}, ["classes:2 or more", "10 clients"]),
        ({"data": "linear", "skew": "dirichlet:1"}, ["goes by labels", "iid"]),
        ({"data": "linear", "skew": "classes:2"}, ["goes by labels"]),
    ],
)
def test_what_can_not_be_is_refused(how, words):
    with refuses(*words):
        load(**how)


def test_every_source_says_what_it_is():
    for name, source in SOURCES.items():
        assert source.name == name
        assert source.what
        assert source.where
        assert source.licence


def test_nothing_here_imports_jax():
    code = "import sys, atoll.data, atoll.data.sheet; atoll.data.load('digits', skew=['dirichlet:0.1', 'rotate:3']); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
