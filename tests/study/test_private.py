"""Heterogeneity from noised counts: what is sent, how it is noised, what it spends, and what follows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from atoll.core.errors import AtollError
from atoll.data import build, load
from atoll.data.federation import Federation
from atoll.engine.codec import decode
from atoll.engine.wire import Node
from atoll.metrics.heterogeneity import gini, heterogeneity
from atoll.parts.noised import Budget, Counts, Noised, Range, histograms, some_values, whole_laplace
from atoll.study.private import Private, private_heterogeneity

ENOUGH = 1e9  # an epsilon with which no noise is left


@pytest.fixture(scope="module")
def digits() -> Federation:
    return load("digits", skew="dirichlet:0.3", clients=6, unseen=0.2, seed=3)


def by_key(found: Private) -> dict:
    return {one.key: one for one in found.estimates}


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_noise_is_laplaces_law_on_whole_numbers_of_the_stated_scale(scale):
    """SciPy's dlaplace(1 / scale) is P(z) ~ exp(-|z| / scale). The ratio of neighbouring probabilities is e^(1 / scale), which is what privacy rests on."""
    drawn = whole_laplace(np.full(40_000, 100), scale, np.random.default_rng(0)) - 100
    law = stats.dlaplace(1 / scale)
    edge = int(2 * scale) + 1
    seen = np.array([np.mean(drawn == z) for z in range(-edge, edge + 1)])
    expected = law.pmf(np.arange(-edge, edge + 1))
    assert np.abs(seen - expected).max() < 4 * np.sqrt(expected.max() / 40_000)
    assert drawn.std() == pytest.approx(law.std(), rel=0.03)
    np.testing.assert_allclose(expected[edge + 1 :] / expected[edge:-1], np.exp(-1 / scale))


def test_each_count_has_noise_of_its_own_and_of_its_own_scale():
    """200 clients with the same 30 rows: deviations of the three kinds of counts are those of sensitivity / epsilon = 1, 1 and 2 over its part of epsilon."""
    rows = np.tile(np.random.default_rng(0).random((32, 2)).astype(np.float32), (200, 1))
    fed = build(rows, np.tile(np.arange(32) % 2, 200), np.repeat(np.arange(200), 32), split=(0.5, 0, 0.5))
    found = private_heterogeneity(fed, 1.0, values=2, bins=4)
    assert found.budget == pytest.approx(Budget(0.2, 0.4, 0.4))
    assert found.budget.total == pytest.approx(1)
    assert found.scales == pytest.approx(Budget(5, 2.5, 5))  # two histograms: one row changes a bin in each
    exact = private_heterogeneity(fed, ENOUGH, values=2, bins=4).counts
    for said, true, scale in zip(found.counts, exact, found.scales, strict=True):
        noise = np.asarray(said, float) - true
        assert noise.std() == pytest.approx(stats.dlaplace(1 / scale).std(), rel=0.2)
        flat = noise.reshape(200, -1)
        assert len({tuple(row) for row in flat.tolist()}) > 20  # clients do not share noise


@pytest.mark.parametrize(("labels", "features", "split"), [(True, True, (0.6, 1.2, 1.2)), (False, True, (1, 0, 2)), (True, False, (1, 2, 0))])
def test_epsilon_adds_up_whatever_is_asked_for(labels, features, split):
    budget = Noised(epsilon=3.0).budget(labels, features)
    assert budget == pytest.approx(split)
    assert budget.total == pytest.approx(3)


def test_a_huge_epsilon_gives_the_numbers_from_rows(digits):
    found = private_heterogeneity(digits, ENOUGH)
    estimates = by_key(found)
    count = digits.count["train"][: digits.seen]
    table = np.stack([np.bincount(digits.y[first : first + n], minlength=10) for first, n in zip(digits.start["train"], count, strict=False)])
    np.testing.assert_array_equal(found.counts.rows, count)
    np.testing.assert_array_equal(found.counts.labels, table)
    assert (found.counts.features.sum(axis=2) == count[:, None]).all()
    assert estimates["gini"].value == pytest.approx(gini(count))
    for key in ("gini", "label_tv", "label_js"):
        assert estimates[key].error == pytest.approx(0, abs=1e-12)
    assert abs(estimates["feature_wasserstein"].error) < 0.06  # values are counted in bins of a tenth
    seen_only = {one.key: one.value for one in heterogeneity(load("digits", skew="dirichlet:0.3", clients=6))}
    all_seen = by_key(private_heterogeneity(load("digits", skew="dirichlet:0.3", clients=6), ENOUGH))
    for key in ("gini", "label_tv", "label_js"):
        assert all_seen[key].value == pytest.approx(seen_only[key])


def test_values_on_the_bins_give_the_very_distance_from_rows():
    rng = np.random.default_rng(0)
    owner = np.repeat([0, 1, 2], 100)
    x = (rng.integers(0, 4, (300, 1)) + owner[:, None]).astype(np.float32) - 4 + 0.4  # bins of 0.8 begin at -4; steps of 1 are cut to bins alike
    x = -4 + 0.8 * np.round(x + 4 - 0.4) + 0.4
    found = by_key(private_heterogeneity(build(x.astype(np.float32), owner % 2, owner), ENOUGH))
    assert found["feature_wasserstein"].value > 0.2
    assert found["feature_wasserstein"].error == pytest.approx(0, abs=1e-5)


def test_nothing_else_is_sent(digits, monkeypatch):
    """In engine wire every message is looked at: two numbers down, three tables of int32 up, and these are what follows from; unseen clients are not asked."""
    down, up, asked = [], [], []
    answer = Node.answer

    def watched(self, job, message, *more):
        reply = answer(self, job, message, *more)
        down.append(message)
        up.append(reply[0])
        asked.append(self.client)
        return reply

    monkeypatch.setattr(Node, "answer", watched)
    found = private_heterogeneity(digits, 1.0, engine="wire", seed=5)
    assert asked == list(range(digits.seen))
    for message in down:
        shared, mine = decode(message)
        assert mine is None
        assert isinstance(shared, Range)
        assert (shared.low.tolist(), shared.high.tolist()) == ([0], [1])
    replies = [decode(reply) for reply in up]
    for i, reply in enumerate(replies):
        assert isinstance(reply, Counts)
        assert [(part.dtype.name, part.shape) for part in map(np.asarray, reply)] == [("int32", ()), ("int32", (10,)), ("int32", (4, 10))]
        for said, kept in zip(reply, found.counts, strict=True):
            np.testing.assert_array_equal(said, kept[i])
    assert found.bytes_up == digits.seen * 4 * (1 + 10 + 40)
    other = private_heterogeneity(digits, 1.0, seed=5)
    for one, two in zip(found.counts, other.counts, strict=True):
        np.testing.assert_array_equal(one, two)
    assert found.estimates == other.estimates


def test_noise_of_real_sites_can_not_be_had_again(digits):
    one, two = (private_heterogeneity(digits, 0.5, secret=True).counts for _ in range(2))
    assert not np.array_equal(one.labels, two.labels)
    again = [private_heterogeneity(digits, 0.5).counts.labels for _ in range(2)]
    np.testing.assert_array_equal(*again)


def test_the_correction_takes_out_most_of_what_noise_adds():
    """15 clients alike with noise as large as their counts: plain distances of noised counts are far too large, estimates near the truth."""
    from atoll.metrics.heterogeneity.labels import to_everybody, total_variation

    fed = load("digits", skew="iid", clients=15)
    plain, corrected = [], []
    for seed in range(8):
        found = private_heterogeneity(fed, 1.0, seed=seed)
        one = by_key(found)["label_tv"]
        plain.append(to_everybody(np.maximum(found.counts.labels, 0), total_variation) - one.exact)
        corrected.append(one.error)
    assert np.mean(plain) > 0.06
    assert abs(np.mean(corrected)) < 0.4 * np.mean(plain)


def test_values_and_histograms_by_hand():
    x = np.arange(32, dtype=float).reshape(2, 4, 4)
    np.testing.assert_array_equal(some_values(x, 4), [[2.5, 4.5, 10.5, 12.5], [18.5, 20.5, 26.5, 28.5]])
    np.testing.assert_array_equal(some_values(np.arange(14.0).reshape(2, 7), 4), [[0, 2, 4, 6], [7, 9, 11, 13]])
    counted = histograms(np.array([[-9, 0.1], [0.3, 0.5], [1.0, 0.99]]), Range(np.array([0.0]), np.array([1.0])), 4)
    np.testing.assert_array_equal(counted, [[1, 1, 0, 1], [1, 0, 1, 1]])


def test_numbers_to_predict_and_texts_are_asked_for_what_they_have():
    found = private_heterogeneity(load("linear"), 1.0)
    assert set(by_key(found)) == {"gini", "feature_wasserstein"}
    assert found.counts.labels.shape == (20, 0)
    assert found.budget == pytest.approx((1 / 3, 0, 2 / 3))
    text = build(np.arange(40, dtype=np.int32).reshape(20, 2), np.arange(20) % 2, np.arange(20) % 2)
    found = private_heterogeneity(text, 1.0)
    assert set(by_key(found)) == {"gini", "label_tv", "label_js"}
    assert found.scales.features == 0


def test_what_can_not_be_is_refused(digits):
    for epsilon in (0, -1, float("nan")):
        with pytest.raises(AtollError, match="epsilon"):
            private_heterogeneity(digits, epsilon)
    sequences = build(np.zeros((4, 3), np.int32), np.zeros((4, 3), int), np.arange(4) % 2)
    with pytest.raises(AtollError, match="many labels each"):
        private_heterogeneity(sequences, 1.0)
