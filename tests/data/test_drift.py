"""Windows that move on with time and concepts that change: which rows clients have in which phase."""

import dataclasses

import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.data import load
from atoll.data.building import assemble
from atoll.data.phases import changing
from atoll.data.sheet import sheet, split_hash
from atoll.data.skew import Concept, Window
from atoll.data.table import Table

HOW = {"seed": 0, "unseen": 0.0, "split": (0.5, 0.25, 0.25)}


def rows_of(fed, phase, client):
    """x of all rows of a client in a phase."""
    one = fed.phases[phase]
    return np.concatenate([one.x[one.start[s][client] : one.start[s][client] + one.count[s][client]] for s in ("train", "validation", "test")])


def timed(times, owner):
    """A table whose x is the time and whose first value is standardised."""
    n = len(times)
    names = tuple(f"client {i}" for i in range(max(owner) + 1))
    x = np.array(times, np.float32)[:, None]
    y = np.arange(n, dtype=np.int32) % 2
    return Table("rows", x, y, ("0", "1"), owner=np.array(owner), names=names, time=np.array(times, np.int64), standardise=np.ones(1, bool))


def windowed(table, window):
    return changing(table, window, None, 0, lambda one: assemble(one, **HOW))


def test_windows_are_cut_at_the_same_times_for_all():
    """Half of the 14 rows were recorded by time 7: two of client 0 and five of client 1."""
    table = timed([1, 2, 30, 31, 32, 33, 3, 4, 5, 6, 7, 8, 34, 35], [0] * 6 + [1] * 8)
    fed = windowed(table, Window(2, every=3))
    assert sorted(rows_of(fed, 0, 0).ravel()) == [1, 2]
    assert sorted(rows_of(fed, 1, 0).ravel()) == [30, 31, 32, 33]
    assert sorted(rows_of(fed, 0, 1).ravel()) == [3, 4, 5, 6, 7]
    assert sorted(rows_of(fed, 1, 1).ravel()) == [8, 34, 35]
    assert (fed.drift.every, fed.drift.order, fed.drift.again) == (3, (0, 1), False)
    assert "rows in order of time" in fed.history[-1]


def test_or_each_client_by_itself():
    table = timed([1, 2, 30, 31, 32, 33, 3, 4, 5, 6, 7, 8, 34, 35], [0] * 6 + [1] * 8)
    fed = windowed(table, Window(2, by="client"))
    assert [sorted(rows_of(fed, p, 0).ravel()) for p in (0, 1)] == [[1, 2, 30], [31, 32, 33]]
    assert [sorted(rows_of(fed, p, 1).ravel()) for p in (0, 1)] == [[3, 4, 5, 6], [7, 8, 34, 35]]


def test_all_is_scaled_as_in_the_first_window():
    """What a site could have known when it began."""
    table = timed(list(range(8)), [0] * 8)
    fed = windowed(table, Window(2))
    train = fed.x[: fed.count["train"][0]]
    assert fed.shift == pytest.approx(train.mean())
    assert fed.scale == pytest.approx(1 / train.std())
    assert fed.phases[1].shift == fed.shift
    assert fed.phases[1].x.mean() > 4 > fed.x.mean()


def test_too_few_rows_in_a_window():
    table = timed([1, 2, 3, 4, 5, 30, 6, 7, 31, 32, 33, 34], [0] * 6 + [1] * 6)
    with pytest.raises(AtollError, match=r"'client 1' has 1 row in window 1 .*fewer windows, or .*by=client"):
        windowed(table, Window(2))
    with pytest.raises(AtollError, match=r"in window 2 .*Take fewer windows\."):
        windowed(table, Window(4, by="client"))


def test_windows_without_times_deal_each_clients_rows_out_at_random():
    fed = load("digits", skew=("iid", "window:3,every=4"), clients=5, seed=1)
    whole = load("digits", skew="iid", clients=5, seed=1)
    for client in range(5):
        parts = [rows_of(fed, phase, client).reshape(-1, 64) for phase in range(3)]
        assert np.ptp([len(part) for part in parts]) <= 1
        together, all_rows = (np.array(sorted(map(tuple, rows))) for rows in (np.concatenate(parts), rows_of(whole, 0, client).reshape(-1, 64)))
        np.testing.assert_array_equal(together, all_rows)


def test_abrupt_concepts_give_every_label_another_name():
    """The same rows in the same splits; between any two of three concepts no label keeps its name, and all of a label get the same."""
    fed = load("digits", skew=("dirichlet:1", "concept:3,every=5"), clients=6, seed=2)
    plain = load("digits", skew="dirichlet:1", clients=6, seed=2)
    np.testing.assert_array_equal(fed.y, plain.y)
    for phase in fed.phases:
        np.testing.assert_array_equal(phase.x, plain.x)
    ys = [phase.y for phase in fed.phases]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        names = {(i, j) for i, j in zip(ys[a].tolist(), ys[b].tolist(), strict=True)}
        assert len(names) == 10
        assert all(i != j for i, j in names)
    assert fed.drift.order == (0, 1, 2)


def test_recurring_concepts_come_back():
    fed = load("digits", skew=("iid", "concept:2,every=3,kind=recurring"), clients=4)
    assert [fed.drift.phase(r) for r in (1, 4, 7, 10, 13)] == [0, 1, 0, 1, 0]


def test_gradual_change_takes_more_and_more_rows():
    """A quarter, a half, three quarters, all; who has changed stays changed."""
    fed = load("digits", skew=("iid", "concept:2,every=2,kind=gradual"), clients=4, seed=3)
    moved = np.array([phase.y != fed.y for phase in fed.phases])
    assert np.abs(moved.mean(axis=1) - [0, 0.25, 0.5, 0.75, 1]).max() < 4 * np.sqrt(0.25 / 1797)
    assert (moved[1:] >= moved[:-1]).all()
    np.testing.assert_array_equal(fed.phases[2].y[moved[2]], fed.phases[4].y[moved[2]])


def test_a_share_of_clients_changes():
    fed = load("digits", skew=("iid", "concept:2,share=0.5"), clients=6, seed=4)
    later = fed.phases[1]
    differs = [(later.y[s : s + n] != fed.y[s : s + n]).any() for s, n in zip(fed.start["train"], fed.count["train"], strict=True)]
    assert sum(differs) == 3


def test_concepts_that_turn_images():
    fed = load("digits", skew=("iid", "concept:4,what=rotation"), clients=3)
    for n, phase in enumerate(fed.phases):
        np.testing.assert_array_equal(phase.x, np.rot90(fed.x, n, axes=(1, 2)))
        np.testing.assert_array_equal(phase.y, fed.y)


def test_windows_and_concepts_together():
    """Period 3 has the second window, which stays, under the third concept."""
    fed = load("digits", skew=("iid", "window:2,every=4", "concept:3,every=4"), clients=4)
    assert fed.drift.about == ("window 1, concept 1", "window 2, concept 2", "window 2, concept 3")
    np.testing.assert_array_equal(fed.phases[1].x, fed.phases[2].x)
    assert not np.array_equal(fed.phases[1].y, fed.phases[2].y)
    with pytest.raises(AtollError, match="same `every`"):
        load("digits", skew=("iid", "window:2,every=4", "concept:3,every=5"), clients=4)


@pytest.mark.parametrize(
    ("skew", "message"),
    [
        ("concept:1", "at least 2 concepts"),
        ("window:2,every=0", "at least 2 windows, each for at least one round"),
        ("concept:2,kind=sudden", "Unknown kind of concept change"),
        ("concept:2,what=colour", "Unknown thing"),
        ("window:2,by=row", "Unknown way to cut windows"),
        ("concept:2,share=0", "share of clients"),
        ("concept:11", "which allow 10 groups at most"),
    ],
)
def test_what_can_not_be(skew, message):
    with pytest.raises(AtollError, match=message):
        load("digits", skew=("iid", skew), clients=3)


def test_the_sheet_tells_of_the_change():
    fed = load("digits", skew=("iid", "concept:2,every=7"), clients=3)
    assert sheet(fed)["drift"] == {"every": 7, "order": [0, 1], "again": False, "about": ["concept 1", "concept 2"]}
    assert split_hash(fed) != split_hash(dataclasses.replace(fed, drift=None))
    assert Concept(2, 7) == Concept(k=2, every=7, kind="abrupt")


def test_every_phase_is_resampled():
    fed = load("digits", skew=("dirichlet:0.3", "concept:2"), clients=4, resample="smote")
    assert fed.x.dtype == fed.phases[1].x.dtype == np.float32
    assert fed.count["train"].sum() == fed.phases[1].count["train"].sum() > 0.6 * 1797 + 100
