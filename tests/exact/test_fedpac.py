"""FedPAC: the weights of heads against another solver and in closed form, statistics and rounds by hand."""

from typing import NamedTuple

import numpy as np
import pytest
from jax import Array
from scipy.optimize import minimize

from atoll.core.keys import common_key
from atoll.core.method import stateless
from atoll.core.simplex import least
from atoll.methods.fedpac import FedPAC, statistics, weights
from atoll.methods.fedrep import FedRep
from tests.exact import dense
from tests.harness import assert_near, small_digits, train


def test_quadratic_programs_against_another_solver():
    """With corners as solutions, inner ones, and singular matrices; the optimum also has the least slope wherever it has weight."""
    random = np.random.default_rng(0)
    corners = 0
    for trial in range(40):
        m = int(random.integers(2, 8))
        A = random.normal(size=(int(random.integers(1, 6)), m))
        Q = A.T @ A + np.diag(random.uniform(0, 1, m) * (trial % 3 > 0))
        a = least(Q)
        assert a.min() >= 0
        assert a.sum() == pytest.approx(1)
        corners += (a == 0).any()
        found = minimize(lambda a, Q=Q: a @ Q @ a, np.ones(m) / m, bounds=[(0, 1)] * m, constraints={"type": "eq", "fun": lambda a: a.sum() - 1}, tol=1e-12)
        assert a @ Q @ a <= found.fun + 1e-7
        slope = Q @ a
        assert (slope[a > 1e-9] <= slope.min() + 1e-7).all()
    assert 5 < corners < 40


def test_weights_in_closed_form():
    """Alike clients share by 1 / V_j; with equal V equally; without variance everyone keeps to himself and to those just like him."""
    alike, V = np.ones((3, 4, 2)), np.array([1.0, 2.0, 4.0])
    assert_near(weights(alike, V), np.tile((1 / V) / (1 / V).sum(), (3, 1)))
    assert_near(weights(alike, np.ones(3)), np.full((3, 3), 1 / 3))
    unlike = np.random.default_rng(0).normal(size=(3, 4, 2))
    assert_near(weights(unlike, np.zeros(3)), np.eye(3))
    twins = unlike[[0, 1, 1]]
    assert_near(weights(twins, np.full(3, 1e-9)), np.array([[1, 0, 0], [0, 0.5, 0.5], [0, 0.5, 0.5]]), 1e-4)
    two = np.array([[[0.0]], [[3.0]]])  # bias 3: a_00 = argmin V a^2 + (V + 9) (1 - a)^2 = (V + 9) / (2 V + 9)
    assert_near(weights(two, np.full(2, 2.0))[0], np.array([11 / 13, 2 / 13]))


class Seen(NamedTuple):
    mu: Array
    V: Array


def test_statistics_are_mean_and_variance_of_labelled_features():
    """Of the vectors 1{y = k} phi(x), whose mean over n rows has the variance trace(cov) / n."""
    fed = small_digits(3)
    trained = train(FedPAC(batch=4), fed, 1)

    @stateless
    def look(i, s):
        return Seen(*statistics(i, s.phi))

    seen = trained.training.fed.ask([0, 1, 2], look, trained.server)
    phi = dense.weights(trained.server.phi)["dense1"]
    for i in range(3):
        x, y = dense.train_rows(fed, i)
        z = np.maximum(x @ phi["kernel"] + phi["bias"], 0)
        labelled = np.eye(10)[y][:, :, None] * z[:, None]
        assert_near(seen.mu[i], labelled.mean(0), 1e-4)
        assert_near(seen.V[i], labelled.var(0).sum() / len(y), 1e-4)


def test_two_rounds_by_hand():
    """Full batches, one step of each part. Heads mix by the weights of the statistics under the phi that was sent; in round 2 features are drawn."""
    fed, lr, head_lr, lam = small_digits(3), 0.5, 0.2, 2.0
    trained = train(FedPAC(lr=lr, batch=0, head_lr=head_lr, lam=lam), fed, 2, models=("mlp:6",))
    data = [dense.train_rows(fed, i) for i in range(3)]
    n = np.array([len(y) for _, y in data])
    first = dense.weights(trained.training.engine.facts.models[0].init(common_key(0)))
    phi, heads, C = {"dense1": first["dense1"]}, [{"head": first["head"]}] * 3, None
    for _ in range(2):
        own, mu, V, z_new = [], [], [], []
        for head, (x, y) in zip(heads, data, strict=True):
            labelled = np.eye(10)[y][:, :, None] * features(phi, x)[:, None]
            mu.append(labelled.mean(0))
            V.append(labelled.var(0).sum() / len(y))
            w = phi | head
            w |= {"head": dense.step(w, dense.gradient(w, x, y), head_lr)["head"]}
            g, z = dense.gradient(w, x, y)["dense1"], features(w, x)
            error = 0 if C is None else lam * 2 * (z - C[y]) / z.size * (z > 0)
            g = g if C is None else {"kernel": g["kernel"] + x.T @ error, "bias": g["bias"] + error.sum(0)}
            own.append(w | dense.step({"dense1": w["dense1"]}, {"dense1": g}, lr))
            z_new.append(features(own[-1], x))
        y = np.concatenate([y for _, y in data])
        z = np.concatenate(z_new)
        C = np.stack([z[y == c].mean(0) if (y == c).any() else np.zeros(6) for c in range(10)])
        a = weights(np.array(mu), np.array(V))
        assert a.max() < 0.99  # heads do mix
        phi = {"dense1": dense.mean(own, list(n / n.sum()))["dense1"]}
        heads = [{"head": dense.mean(own, list(a_i))["head"]} for a_i in a]
    assert_near(dense.weights(trained.server.phi), phi, 1e-4)
    assert_near([dense.weights(trained.states[i]) for i in range(3)], heads, 1e-3)
    assert_near(trained.server.common.C, C, 1e-4)
    assert_near(trained.server.common.n, np.bincount(y, minlength=10))


def features(w, x):
    return np.maximum(x @ w["dense1"]["kernel"] + w["dense1"]["bias"], 0)


def test_own_heads_without_alignment_are_fedrep():
    fed, how = dense.equal_clients(), {"lr": 0.3, "batch": 0, "epochs": 2}
    pac = train(FedPAC(**how, head_lr=0.3, head_epochs=2, lam=0.0, combine=False), fed, 3)
    rep = train(FedRep(**how, head_epochs=2), fed, 3)
    assert_near(pac.server.phi, rep.server)
    assert_near(pac.states, rep.states)
    assert pac.costs[0].bytes_down < train(FedPAC(**how), fed, 1).costs[0].bytes_down
