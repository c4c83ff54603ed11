"""Exercises by the sensors of a watch: a made file of the form, and the real one where its package is installed."""

from __future__ import annotations

import pickle
from importlib.util import find_spec

import numpy as np
import pytest

from atoll.data import load
from atoll.data.federation import SPLITS
from atoll.data.sources import read
from atoll.data.table import TEST, TRAIN, VALIDATION
from tests.data.support import owners, refuses

needs_seglearn = pytest.mark.skipif(find_spec("seglearn") is None, reason="needs the watch: pip install --no-deps seglearn==1.2.5")


def content() -> dict:
    """Four recordings of subjects 3 and 7; each channel counts the samples, from another number on."""
    clock = [np.arange(n, dtype=float)[:, None] + 1000 * np.arange(6) for n in (1000, 1500, 1000, 2000)]
    return {"X": clock, "y": np.array([0, 1, 0, 1]), "subject": np.array([7, 3, 3, 7]), "side": np.zeros(4), "y_labels": ["PEN", "ABD"], "X_labels": ["ax"] * 6}


def written(tmp_path, what):
    file = tmp_path / "watch_dataset.npy"
    with file.open("wb") as stream:
        np.save(stream, np.array(what, object), allow_pickle=True)
    return file


def test_windows_of_a_file(tmp_path):
    table = read("watch", None, 0, {"path": written(tmp_path, content())})
    assert table.names == ("subject 3", "subject 7")
    assert table.x.shape[1] == 30
    first = table.time * 50  # sample at which a window begins, which is also what the clock says there
    for channel in range(6):
        np.testing.assert_allclose(table.x[:, channel], first + 49.5 + 1000 * channel, rtol=1e-6)  # mean
        np.testing.assert_allclose(table.x[:, 6 + channel], np.std(np.arange(100)), rtol=1e-5)
        np.testing.assert_allclose(table.x[:, 12 + channel], first + 1000 * channel)  # least
        np.testing.assert_allclose(table.x[:, 18 + channel], first + 99 + 1000 * channel)  # most
        np.testing.assert_allclose(table.x[:, 24 + channel], 1)  # change
    # 1000 samples: borders at 600 and 800; the window from 550 and that from 750 would reach over them.
    begins = {part: first[: np.argmax(np.diff(first) < 0) + 1][table.part[: np.argmax(np.diff(first) < 0) + 1] == part] for part in (TRAIN, VALIDATION, TEST)}
    assert begins[TRAIN].tolist() == list(range(0, 501, 50))
    assert begins[VALIDATION].tolist() == [600, 650, 700]
    assert begins[TEST].tolist() == [800, 850, 900]


def test_no_sample_is_in_two_splits(tmp_path):
    fed = load("watch", path=written(tmp_path, content()), parts=(0.5, 0.25, 0.25))
    owner = owners(fed)
    split = np.repeat(np.arange(3), [int(fed.count[s].sum()) for s in SPLITS])
    seen: dict = {}
    for row in range(len(fed.y)):
        for sample in range(int(fed.x[row, 12]), int(fed.x[row, 18]) + 1):
            # Recordings of one subject differ by their exercise.
            assert seen.setdefault((owner[row], fed.y[row], sample), split[row]) == split[row]
    assert set(split.tolist()) == {0, 1, 2}
    with refuses("can't deal out", "windows of a recording overlap"):
        load("watch", path=tmp_path / "watch_dataset.npy", skew="iid")


class Call:
    def __reduce__(self):
        return eval, ("1/0",)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (Call(), ["builtins.eval", "Don't trust"]),
        ({}, ["can't be read as seglearn's"]),
        ({**content(), "y": np.zeros(3, int)}, ["don't fit together"]),
        ({**content(), "X": [np.zeros((1000, 5))] * 4}, ["6 channels"]),
    ],
)
def test_files_that_are_not_the_watch(tmp_path, what, words):
    file = tmp_path / "watch_dataset.npy"
    if isinstance(what, Call):
        with file.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
            stream.write(pickle.dumps(what))
    else:
        written(tmp_path, what)
    with refuses("watch_dataset.npy", *words):
        load("watch", path=file)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("atoll.data.sources.files.find_spec", lambda name: None)
    with refuses("pip install --no-deps seglearn==1.2.5", "path=FILE"):
        load("watch")


@needs_seglearn
def test_the_real_watch():
    """Known by nearest mean of features: a subject's own means are better than those of all."""
    table = read("watch", None, 0, {})
    assert len(table.names) == 10
    assert len(table.labels) == 7
    assert len(table.y) == 4123
    x = (table.x - table.x.mean(axis=0)) / table.x.std(axis=0)
    train, test = table.part == TRAIN, table.part == TEST
    assert 0.15 < test.mean() < 0.2

    def right(rows: np.ndarray) -> int:
        means = np.stack([x[rows & train & (table.y == c)].mean(axis=0) for c in range(7)])
        return int((((x[rows & test][:, None] - means) ** 2).sum(axis=2).argmin(axis=1) == table.y[rows & test]).sum())

    everyone = np.ones(len(x), bool)
    assert sum(right(table.owner == i) for i in range(10)) > right(everyone) + 0.05 * test.sum()
