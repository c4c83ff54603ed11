"""Measures of heterogeneity against closed forms, SciPy and scikit-learn, and on data whose heterogeneity is known."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import roc_auc_score

from atoll.data import load
from atoll.data.federation import Federation, starts
from atoll.metrics.heterogeneity import Measure, drift, earth_mover, gini, heterogeneity, jensen_shannon, total_variation
from atoll.metrics.heterogeneity.changes import by_phases
from atoll.metrics.heterogeneity.features import area, owner_scores, ranks, wasserstein
from atoll.metrics.heterogeneity.labels import between_pairs, dealt_at_random, to_everybody
from atoll.metrics.heterogeneity.preference import alike, disagreement
from atoll.metrics.heterogeneity.sample import CLIENTS, ROWS, Sample, sample


def found(fed: Federation) -> dict[str, Measure]:
    return {one.key: one for one in heterogeneity(fed)}


def federation(x: np.ndarray, y: np.ndarray, owner: np.ndarray, labels: int) -> Federation:
    """Train rows as given, in any order, and one test row per client."""
    order = np.argsort(owner, kind="stable")
    clients = int(owner.max()) + 1
    count = {"train": np.bincount(owner, minlength=clients), "validation": np.zeros(clients, int), "test": np.ones(clients, int)}
    at = np.concatenate([order, order[np.searchsorted(owner[order], np.arange(clients))]])
    names = tuple(f"client {i}" for i in range(clients))
    return Federation("made", x[at].astype(np.float32), y[at].astype(np.int32), starts(count), count, names, clients, tuple(map(str, range(labels))))


def test_gini():
    assert gini(np.array([5, 5, 5])) == 0
    assert gini(np.array([0, 0, 0, 8])) == pytest.approx(3 / 4)  # one of four has everything
    sizes = np.random.default_rng(0).pareto(1, 40)
    assert gini(sizes) == pytest.approx(np.abs(sizes[:, None] - sizes).sum() / (2 * 40**2 * sizes.mean()))


def test_distances_of_distributions():
    p, q = np.array([0.5, 0.5, 0, 0]), np.array([0, 0, 0.25, 0.75])
    assert total_variation(p, q) == jensen_shannon(p, q) == 1  # nothing in common
    assert earth_mover(p, q) == pytest.approx(stats.wasserstein_distance(range(4), range(4), p, q)) == pytest.approx(2.25)
    assert total_variation(p, p) == jensen_shannon(p, p) == earth_mover(p, p) == 0
    a, b = np.random.default_rng(0).dirichlet(np.ones(6), (2, 5))
    np.testing.assert_allclose(jensen_shannon(a, b), jensenshannon(a, b, base=2, axis=1) ** 2)
    np.testing.assert_allclose(total_variation(a, b), [sum(max(0, u - v) for u, v in zip(s, t, strict=True)) for s, t in zip(a, b, strict=True)])


def test_clients_with_one_label_each_are_as_far_as_can_be():
    """K clients of one size with a label each: total variation 1 - 1/K to all rows, 1 between two; Jensen-Shannon as by hand."""
    counts = 7 * np.eye(5, dtype=int)
    assert to_everybody(counts, total_variation) == pytest.approx(0.8)
    assert between_pairs(counts, total_variation) == between_pairs(counts, jensen_shannon) == 1
    middle = np.array([0.6, 0.1, 0.1, 0.1, 0.1])
    assert to_everybody(counts, jensen_shannon) == pytest.approx(-(middle * np.log2(middle)).sum() - np.log2(5) / 2)
    counts = np.array([[3, 1], [1, 3], [0, 0]])  # a client without rows does not count
    assert to_everybody(counts, total_variation) == pytest.approx(0.25)
    assert between_pairs(counts, total_variation) == pytest.approx(0.5)


def test_dealing_out_at_random_keeps_sizes_and_has_the_right_mean():
    counts = np.array([[30, 0, 0], [0, 20, 10], [5, 5, 50]])
    drawn = np.array([dealt_at_random(counts, np.random.default_rng(seed)) for seed in range(2000)])
    assert (drawn.sum(axis=2) == counts.sum(axis=1)).all()
    np.testing.assert_allclose(drawn.mean(axis=0), np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum(), atol=0.3)


def test_wasserstein_distances_are_scipys():
    rng = np.random.default_rng(0)
    owner = np.repeat([0, 1, 2], [5, 40, 17])
    x = rng.normal(owner[:, None], [1, 5, 1, 1], (62, 4))
    x[:, 2], x[:, 3] = 3, rng.integers(0, 3, 62)  # a constant, and one with ties
    got = wasserstein(x, owner)
    for i in range(3):
        for j in (0, 1, 3):
            assert got[i, j] == pytest.approx(stats.wasserstein_distance(x[owner == i, j], x[:, j]) / x[:, j].std())
    assert np.isnan(got[:, 2]).all()


def test_areas_under_curves_are_scikit_learns_and_over_pairs_of_one_label():
    rng = np.random.default_rng(1)
    owner, label = rng.integers(0, 3, 90), rng.integers(0, 2, 90)
    scores = np.round(rng.random((90, 3)) + 0.3 * np.eye(3)[owner], 1)  # with ties
    once = np.zeros(90, int)
    expected = np.mean([roc_auc_score(owner == i, scores[:, i]) for i in range(3)])
    assert area(ranks(scores, once), owner, once) == pytest.approx(expected)

    def by_hand(i: int) -> float:
        pairs = [(a, b) for a in np.flatnonzero(owner == i) for b in np.flatnonzero(owner != i) if label[a] == label[b]]
        return float(np.mean([(scores[a, i] > scores[b, i]) + 0.5 * (scores[a, i] == scores[b, i]) for a, b in pairs]))

    assert area(ranks(scores, label), owner, label) == pytest.approx(np.mean([by_hand(i) for i in range(3)]))


def test_owners_that_show_in_x_are_told_and_others_not():
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(4), 50)
    x = rng.standard_normal((200, 5))
    for moved, low, high in ((0, 0.35, 0.6), (20, 0.999, 1.0)):
        rows, scores = owner_scores(Sample(x + moved * owner[:, None], None, owner))
        once = np.zeros(len(rows.owner), int)
        assert low <= area(ranks(scores, once), rows.owner, once) <= high


def test_disagreement_by_hand():
    """Rows like a row are its three neighbours here. Row 0 of client 0 (label a) has a row of its own (a) and two of another (a, b): they differ by 1/2 - 0."""
    like = np.tile([[1, 2, 3]], (40, 1))
    y, owner = np.zeros(40, int), np.zeros(40, int)
    owner[[2, 3]], y[3] = 1, 1
    one = disagreement(like, y, owner)
    assert one is not None
    # Rows 2 and 3 have rows 1 of client 0, and 2 and 3 of their own; y differs for row 2: others 0, own 1/2; for row 3: others 1, own 1/2. Weights are all 2/3.
    assert one.others == pytest.approx((38 * 0.5 + 0 + 1) / 40)
    assert one.own == pytest.approx((0 + 0.5 + 0.5) / 40)
    assert one.matched == 1
    assert disagreement(like, y, np.arange(40)) is None  # no client has two rows alike


@pytest.mark.parametrize("k", [2, 3])
def test_disagreement_of_groups_that_agree_on_no_label_is_one_less_a_kth(k):
    """10 points in space, many rows at each, one label per point and group: the estimate is the probability that another client is of another group."""
    rng = np.random.default_rng(0)
    clients, rows = 6 * k, 200 * k
    owner = np.repeat(np.arange(clients), rows // k)
    spot = rng.integers(0, 10, len(owner))
    group = owner % k
    x = np.eye(10)[spot] + 1e-3 * rng.standard_normal((len(owner), 10))
    one = disagreement(alike(x), (spot + group) % 10, owner)
    assert one is not None
    assert one.own == 0
    assert one.excess == pytest.approx(1 - (6 - 1) / (6 * k - 1), abs=0.03)  # of the 6 k - 1 others 5 are of the same group
    shared = disagreement(alike(x), spot, owner)
    assert shared is not None
    assert shared.excess == 0


def test_disagreement_of_numbers_is_in_variances():
    rng = np.random.default_rng(0)
    owner, x = np.repeat(np.arange(10), 60), rng.random((600, 1))
    y = np.where(owner % 2, 1.0, -1.0)
    one = disagreement(alike(x), y, owner)
    assert one is not None
    assert one.excess == pytest.approx(5 / 9 * 2, abs=0.1)  # (1 - -1)^2 / (2 var) = 2 where groups differ


KNOWN = {
    "iid": {"gini": "none", "label_tv": "none", "feature_wasserstein": "none", "owner_auc_same_label": "none", "disagreement": "none", "attackers": "none"},
    "dirichlet:0.1": {"gini": "strong", "label_tv": "strong", "feature_wasserstein": "none", "owner_auc_same_label": "none", "disagreement": "none"},
    "quantity:power=1.5": {"gini": "strong", "label_tv": "none", "feature_wasserstein": "none", "owner_auc_same_label": "none", "disagreement": "none"},
    "iid rotate:4": {"gini": "none", "label_tv": "none", "feature_wasserstein": "strong", "owner_auc_same_label": "strong"},
    "iid camera:0.5": {"gini": "none", "label_tv": "none", "feature_wasserstein": "strong", "owner_auc_same_label": "strong"},
    "iid swap:4": {"gini": "none", "feature_wasserstein": "none", "disagreement": "strong"},
    "iid flip:0.2": {"gini": "none", "feature_wasserstein": "none", "disagreement": "strong", "attackers": "strong"},
}


@pytest.mark.parametrize("skew", KNOWN)
def test_each_kind_of_skew_shows_in_its_own_measure_and_not_in_others(skew):
    """Of 20 clients with digits. flip:0.2: two clients differ with probability 2 x 4 x 16 / (20 x 19), swap:4 with 15 / 19."""
    measured = found(load("digits", skew=skew.split(), clients=20))
    assert {key: measured[key].word for key in KNOWN[skew]} == KNOWN[skew]
    if skew == "iid swap:4":
        assert measured["disagreement"].value == pytest.approx(15 / 19, abs=0.08)
    if skew == "iid flip:0.2":
        assert measured["disagreement"].value == pytest.approx(128 / 380, abs=0.06)
        assert measured["attackers"].value == pytest.approx(0.2)


def test_label_skew_alone_shows_in_inputs_but_not_among_rows_of_one_label():
    measured = found(load("digits", skew="dirichlet:0.1", clients=20))
    overall, same = measured["owner_auc"].value, measured["owner_auc_same_label"].value
    assert overall is not None
    assert same is not None
    assert overall > 0.8
    assert same == pytest.approx(0.5, abs=0.05)


def test_numbers_to_predict_are_compared_too():
    measured = found(load("linear"))
    assert "label_tv" not in measured
    assert measured["disagreement"].word in ("weak", "strong")  # four clusters of coefficients; in 20 dimensions neighbours are far
    assert measured["owner_auc_same_label"].word == "none"


def test_what_can_not_be_measured_has_no_number():
    x, y, owner = np.zeros((12, 1)), np.arange(12) % 2, np.arange(12) % 4
    measured = found(federation(x, y, owner, 2))
    assert measured["disagreement"].value is None
    assert measured["feature_wasserstein"].value is None  # x does not vary
    assert "owner_auc" not in measured
    assert measured["label_tv"].value is not None
    alone = found(federation(x, y, np.zeros(12, int), 2))
    assert alone["gini"].value == 0
    assert "owner_auc" not in alone
    json.dumps([one.as_dict() for one in (*measured.values(), *alone.values())], allow_nan=False)


def test_texts_are_seen_by_their_tokens():
    """Clients with words of their own are told apart; labels at the same text are not compared."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(4), 30)
    x = rng.integers(0, 20, (120, 8)) + 1000 * owner[:, None]
    fed = federation(np.zeros((120, 8)), rng.integers(0, 2, 120), owner, 2)
    fed = replace(fed, x=np.concatenate([x, x[::30]]).astype(np.int32))
    measured = found(fed)
    assert measured["owner_auc"].value == pytest.approx(1)
    assert measured["disagreement"].value is None
    positions = np.repeat(fed.y[:, None], 8, axis=1)
    assert found(replace(fed, y=positions))["label_tv"].value == pytest.approx(measured["label_tv"].value)


def test_a_sample_is_small_even_and_as_a_model_sees_it():
    rng = np.random.default_rng(0)
    count = rng.integers(1, 400, 80)
    first = np.cumsum(count) - count
    x = rng.integers(0, 256, (count.sum(), 6, 6)).astype(np.uint8)
    y = np.arange(count.sum(), dtype=np.int32)
    some = sample(x, y, first, count, shift=10.0, scale=0.5)
    assert some.clients == CLIENTS
    assert len(some.owner) <= ROWS
    sizes = np.bincount(some.owner)
    assert sizes.max() == ROWS // CLIENTS
    assert some.y is not None
    assert len(np.unique(some.y)) == len(some.y)
    np.testing.assert_array_equal(some.x, (x[some.y].reshape(-1, 36) - 10.0) * 0.5)
    clients = [np.unique(np.searchsorted(first, some.y[some.owner == i], side="right")) for i in range(CLIENTS)]
    assert all(len(one) == 1 for one in clients)  # rows of one owner are of one client


def test_shuffled_owners_keep_how_many_rows_of_each_label_they_have():
    rng = np.random.default_rng(0)
    some = Sample(np.zeros((300, 1)), rng.integers(0, 4, 300), rng.integers(0, 7, 300))
    assert some.y is not None
    new = some.shuffled(rng)
    assert (new != some.owner).any()
    np.testing.assert_array_equal(np.histogram2d(new, some.y, (7, 4))[0], np.histogram2d(some.owner, some.y, (7, 4))[0])
    seen = np.mean([some.shuffled(rng)[0] == 0 for _ in range(400)])  # uniform among rows of its label
    among = np.mean(some.owner[some.y == some.y[0]] == 0)
    assert seen == pytest.approx(among, abs=0.08)


def test_drift_of_each_kind_shows_in_its_own_measure():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((800, 6)), rng.integers(0, 4, 800)
    x[np.arange(800), y] += 6  # labels show in x
    x = x.astype(np.float32)
    before, after = (x[:400], y[:400]), (x[400:], y[400:])

    def words(changed: tuple[np.ndarray, np.ndarray]) -> dict[str, str]:
        told = drift(before, changed, 4)
        assert {one.kind for one in told} == {"temporal"}
        return {one.key: one.word for one in told if one.word}

    keys = ["label_tv", "label_js", "feature_wasserstein", "owner_auc_same_label", "disagreement"]
    assert words(after) == dict.fromkeys(keys, "none")
    shifted = {**dict.fromkeys(keys, "none"), "feature_wasserstein": "strong", "owner_auc_same_label": "strong"}
    assert {**words((after[0] + [0, 0, 0, 0, 5, 5], after[1])), "disagreement": "none"} == shifted
    assert words((after[0], (after[1] + 1) % 4))["disagreement"] == "strong"
    some = after[1] < 2
    found = words((after[0][some], after[1][some]))
    assert found["label_tv"] == "strong"
    assert found["owner_auc_same_label"] == found["disagreement"] == "none"


def test_drift_is_between_the_two_times():
    x = (np.repeat([0, 1], [50, 150]) + 1e-4 * np.arange(200))[:, None].astype(np.float32)
    y = np.repeat([0, 1], [50, 150])
    told = {one.key: one for one in drift((x[:50], y[:50]), (x[50:], y[50:]), 2)}
    assert told["label_tv"].value == told["label_js"].value == 1
    assert told["feature_wasserstein"].value == pytest.approx(1.01 / x.std(), rel=1e-3)  # means differ by 1 + 100 x 1e-4
    assert told["owner_auc"].value == 1


def test_a_federation_that_changes_is_measured_over_time():
    """Two concepts in turn, whose labels agree nowhere: between them labels at the same x always differ, and neither inputs nor sizes of labels change much."""
    fed = load("digits", skew=["iid", "concept:2,every=5"], clients=6)
    told = {one.key: one for one in by_phases(fed)}
    assert {one.kind for one in told.values()} == {"temporal"}
    assert told["disagreement"].word == "strong"
    assert told["disagreement"].value == pytest.approx(1, abs=0.05)
    assert told["feature_wasserstein"].value == pytest.approx(0, abs=0.02)  # nearly the same rows
    assert told["owner_auc_same_label"].value == pytest.approx(0.5, abs=0.05)  # which are kept in one fold
    turned = {one.key: one for one in by_phases(load("digits", skew=["iid", "concept:2,every=5,what=rotation"], clients=6))}
    assert turned["owner_auc_same_label"].word == "strong"
    assert turned["feature_wasserstein"].word in ("weak", "strong")
    assert not by_phases(load("digits"))


def test_pairs_are_all_pairs():
    counts = np.random.default_rng(0).integers(1, 9, (6, 4))
    p = counts / counts.sum(axis=1, keepdims=True)
    assert between_pairs(counts, total_variation) == pytest.approx(np.mean([total_variation(a, b) for a, b in combinations(p, 2)]))
