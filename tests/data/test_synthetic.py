"""Generated federations, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from atoll.data import load
from atoll.data.sheet import majority_accuracy, split_hash
from atoll.data.synthetic import cluster_models, linear, quadratic, synthetic
from tests.data.support import owners, refuses


def test_synthetic_is_seeded():
    a, b, c = (split_hash(load("synthetic", seed=seed, alpha=0.5, beta=0.5)) for seed in (1, 1, 2))
    assert a == b != c


def test_synthetic_sizes_and_kind():
    table = synthetic(clients=2_000, seed=0)
    sizes = np.bincount(table.owner)  # type: ignore[arg-type]
    assert sizes.min() >= 50
    logs = np.log(sizes - 50 + 0.5)  # of int(lognormal(4, 2)), whose median is exp(4)
    assert np.median(logs) == pytest.approx(4, abs=0.15)
    assert logs[logs > 2].max() < 4 + 2 * 4.5
    assert table.x.shape[1] == 60
    assert len(table.labels) == 10


def test_inputs_vary_as_the_paper_says():
    """Around its client's mean, coordinate j of x has variance j^-1.2; with iid the mean is 0."""
    table = synthetic(clients=300, seed=1, iid=True)
    expected = np.arange(1, 61) ** -1.2
    np.testing.assert_allclose(table.x.var(axis=0), expected, rtol=0.05)
    np.testing.assert_allclose(table.x.mean(axis=0), 0, atol=0.02)
    own = synthetic(clients=50, seed=1, beta=3.0)
    assert own.owner is not None
    large = np.argmax(np.bincount(own.owner))
    np.testing.assert_allclose(own.x[own.owner == large].var(axis=0), expected, rtol=0.25)


@pytest.mark.parametrize(("spread", "deviation"), [("deviation", 4.0), ("variance", 2.0)])
def test_beta_is_a_deviation_in_the_code_and_a_variance_in_the_paper(spread, deviation):
    """A client's mean input, averaged over coordinates, is B_k plus noise of variance 1/60 (+ some from sampling)."""
    table = synthetic(clients=1_500, seed=0, beta=4.0, spread=spread)
    assert table.owner is not None
    sums = np.bincount(table.owner, weights=table.x.mean(axis=1)) / np.bincount(table.owner)
    assert sums.std() == pytest.approx(deviation, rel=0.06)


def test_iid_has_one_model_for_all_and_alpha_makes_them_differ():
    """A model of half of the clients serves the other half with iid, and does not where every client has its own."""
    from sklearn.linear_model import LogisticRegression

    def transfer(**how):
        table = synthetic(clients=20, seed=0, **how)
        assert table.owner is not None
        here = table.owner < 10
        return LogisticRegression(C=100, max_iter=2000).fit(table.x[here], table.y[here]).score(table.x[~here], table.y[~here])

    assert transfer(iid=True) > 0.85
    assert transfer(alpha=1.0, beta=0.0) < 0.5


def test_its_majority_baseline_is_as_high_as_known():
    """The majority label of each client is right on 75 to 92 % of FedProx's synthetic data."""
    assert 0.6 < np.mean([majority_accuracy(load("synthetic", seed=seed)) for seed in range(5)]) < 0.95  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"alpha": -1}, ["alpha=-1"]),
        ({"beta": "x"}, ["beta='x'"]),
        ({"alpha": float("nan")}, ["alpha=nan"]),
        ({"classes": 1}, ["classes=1"]),
        ({"dimension": 2.5}, ["dimension=2.5"]),
        ({"spread": "wide"}, ["'wide'", "'variance'"]),
        ({"gamma": 1}, ["'gamma'", "alpha"]),
        ({"seeds": 1}, ["Unknown option"]),
    ],
)
def test_bad_options_of_synthetic(how, words):
    with refuses(*words):
        load("synthetic", **how)


def test_linear_without_noise_is_solved_by_its_models():
    table = linear(clients=9, seed=2, clusters=3, dimension=12, rows=40, noise=0.0, radius=0.5)
    theta = cluster_models(3, 12, 0.5, 2)
    assert set(np.unique(theta)) == {0.0, 0.5}
    assert table.owner is not None
    for client in range(9):
        mine = table.owner == client
        solved = np.linalg.lstsq(table.x[mine].astype(float), table.y[mine].astype(float), rcond=None)[0]
        np.testing.assert_allclose(solved, theta[client % 3], atol=1e-4)


def test_linear_noise_and_groups():
    fed = load("linear", clients=8, clusters=2, rows=2_000, noise=0.3, seed=0)
    assert fed.groups is not None
    assert fed.groups.tolist() == [0, 1] * 4
    theta = cluster_models(2, 20, 1.0, 0)
    residual = fed.y - np.einsum("rd,rd->r", fed.x, theta[fed.groups[owners(fed)]])
    assert residual.std() == pytest.approx(0.3, rel=0.03)


@pytest.mark.parametrize(("clusters", "dimension"), [(8, 3), (5, 40), (4, 1000)])
def test_models_of_clusters_differ(clusters, dimension):
    theta = cluster_models(clusters, dimension, 1.0, 0)
    assert len(np.unique(theta, axis=0)) == clusters
    with refuses("only 8 different", "clusters=9"):
        cluster_models(9, 3, 1.0, 0)


def loss(fed, client: int, split: str, w: np.ndarray) -> float:
    first, n = fed.start[split][client], fed.count[split][client]
    x, y = fed.x[first : first + n].astype(float), fed.y[first : first + n].astype(float)
    return float(np.mean(0.5 * (x @ w - y) ** 2))


def test_quadratic_of_numbers():
    """f_i(w) = a_i/2 (w - b_i)^2, one row x = sqrt(a), y = sqrt(a) b."""
    a, b = [1.0, 4.0, 0.0], [3.0, -2.0, 5.0]
    fed = load("quadratic", a=a, b=b)
    np.testing.assert_allclose(fed.x[:3, 0], [1, 2, 0], atol=1e-6)
    np.testing.assert_allclose(fed.y[:3], [3, -4, 0], atol=1e-6)
    for split in fed.count:
        for i in range(3):
            assert loss(fed, i, split, np.array([0.7])) == pytest.approx(a[i] / 2 * (0.7 - b[i]) ** 2, abs=1e-5)


def test_quadratic_of_matrices():
    """f_i(w) = 1/2 (w - b_i)' A_i (w - b_i), also for a matrix without full rank."""
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(4, 3, 3))
    roots[3, 2] = roots[3, 1]
    a, b = np.swapaxes(roots, 1, 2) @ roots, rng.normal(size=(4, 3))
    fed = load("quadratic", a=a, b=b)
    for i in range(4):
        for w in rng.normal(size=(5, 3)):
            assert loss(fed, i, "train", w) == pytest.approx(0.5 * (w - b[i]) @ a[i] @ (w - b[i]), rel=1e-4, abs=1e-5)


def test_quadratic_drawn():
    table = quadratic(clients=50, seed=3, dimension=4, spread=2.0)
    x = table.x[: 50 * 4].reshape(50, 4, 4).astype(float)
    values = np.linalg.eigvalsh(np.swapaxes(x, 1, 2) @ x / 4)
    assert 0.5 - 1e-4 < values.min() < values.max() < 2 + 1e-4
    centers = np.linalg.solve(x, table.y[: 50 * 4].reshape(50, 4, 1).astype(float))[:, :, 0]
    assert centers.std() == pytest.approx(2.0, rel=0.2)
    np.testing.assert_array_equal(table.x, quadratic(clients=50, seed=3, dimension=4, spread=2.0).x)
    assert len(load("quadratic", clients=5, unseen=0.2).names) == 5


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"a": [1.0]}, ["both a and b"]),
        ({"a": [1.0, 2.0], "b": [1.0]}, ["[2]", "[1]"]),
        ({"a": [-1.0], "b": [1.0]}, ["a[0]", "negative eigenvalue"]),
        ({"a": [[[1.0, 2.0], [0.0, 1.0]]], "b": [[0.0, 0.0]]}, ["symmetric"]),
        ({"a": ["x"], "b": [1.0]}, ["lists of numbers"]),
        ({"a": [], "b": []}, ["must be finite"]),
        ({"a": [1.0], "b": [np.inf]}, ["finite"]),
        ({"a": [1.0], "b": [1.0], "clients": 2}, ["of 1 clients", "clients=2"]),
        ({"limit": 5}, ["all its rows are needed", "limit"]),
        ({"public": 2}, ["all its rows are needed", "public"]),
        ({"skew": "iid"}, ["iid", "clients' losses"]),
        ({"dimension": 0}, ["dimension=0"]),
    ],
)
def test_bad_quadratics(how, words):
    with refuses(*words):
        load("quadratic", **how)
