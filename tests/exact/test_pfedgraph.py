"""pFedGraph: the graph against another solver and its limits; FedAvg's mean; the pull by hand."""

import numpy as np
import pytest
from scipy.optimize import minimize

from atoll.core.simplex import project
from atoll.methods.fedavg import FedAvg
from atoll.methods.pfedgraph import PFedGraph, graph
from tests.exact.plain import add, first_model, gradient, key, rows, sgd, weights
from tests.harness import Fixed, assert_near, begin, small_digits, train


def test_projection_is_the_nearest_point_of_the_simplex():
    """No point of a fine grid, and no random one, is nearer; points of the simplex stay."""
    random = np.random.default_rng(0)
    points = random.dirichlet(np.ones(4) * 0.5, size=20000)
    for v in random.normal(size=(20, 4)) * random.choice([0.1, 1, 10], size=(20, 1)):
        a = project(v)
        assert a.min() >= 0
        assert a.sum() == pytest.approx(1)
        assert np.square(a - v).sum() <= np.square(points - v).sum(1).min() + 1e-12
    assert_near(project(points[:5]), points[:5])


@pytest.mark.parametrize("alpha", [0.1, 0.8])
def test_rows_against_another_solver(alpha):
    """argmin over the simplex of sum_j w_ij d_ij + alpha sum_j (w_ij - p_j)^2, d = -cos with cosines above 0.9 at 1; client 2 has uploaded nothing."""
    random = np.random.default_rng(1)
    moves = random.normal(size=(6, 3))
    moves[1] = moves[0] + 0.1 * moves[1]
    moves[2] = 0
    length = np.maximum(np.linalg.norm(moves, axis=1), 1e-9)
    cosine, n = moves @ moves.T / length[:, None] / length, np.array([5.0, 10, 0, 20, 8, 3], np.float32)
    w = graph(cosine, n, alpha)
    p, known = n / n.sum(), n > 0
    assert (w[:, 2] == 0).all()
    for i in range(6):
        d = -np.where(cosine[i] > 0.9, 1, cosine[i])[known]

        def cost(a, d=d):
            return a @ d + alpha * np.square(a - p[known]).sum()

        found = minimize(cost, p[known], bounds=[(0, 1)] * 5, constraints={"type": "eq", "fun": lambda a: a.sum() - 1}, tol=1e-12).x
        assert_near(w[i][known], found, 1e-4)
    assert_near(w[2], p)
    assert (np.abs(w - p).max(1)[known] > 0.05).all()


def test_limits_of_the_graph():
    n = np.array([1.0, 2, 5], np.float32)
    cosine = np.array([[1, 0.2, -0.5], [0.2, 1, 0.1], [-0.5, 0.1, 1]])
    assert_near(graph(cosine, n, 1e9), np.tile(n / 8, (3, 1)))
    assert_near(graph(np.full((3, 3), 0.4), n, 0.1), np.tile(n / 8, (3, 1)))
    assert_near(graph(cosine, n, 1e-6), np.eye(3))
    assert_near(graph(cosine, 0 * n, 0.8), np.eye(3))


def test_held_to_the_shares_of_rows_it_is_fedavg():
    """A large alpha mixes all models by their rows: after each round the clients' models average to FedAvg's."""
    fed = small_digits(3)
    averaged, held = (train(m, fed, 3) for m in (FedAvg(batch=4), PFedGraph(batch=4, alpha=1e9, lam=0.0)))
    n = fed.count["train"] / fed.count["train"].sum()
    for block in averaged.server.tree:
        for name, leaf in averaged.server.tree[block].items():
            assert_near(np.tensordot(n, held.server.theta.tree[block][name], 1), leaf)


@pytest.mark.parametrize("pull", [1, -1])
def test_two_rounds_in_numpy(pull):
    """Full batches, one step. Round 2 starts from the mixtures, drawn along the gradient of sum_j w_ij cos(theta_j, theta)."""
    fed, lr, lam, alpha = small_digits(3), 0.5, 0.3, 0.4
    training = begin(PFedGraph(lr=lr, batch=0, lam=lam, alpha=alpha, pull=pull), fed, models=("softmax",))
    first = weights(first_model(training))
    data = [rows(fed, i) for i in range(3)]
    theta = [add(first, gradient(first, x, y), -lr) for x, y in data]
    flat = np.array([np.concatenate([part.ravel() for part in w]) for w in theta])
    start = np.concatenate([part.ravel() for part in first])
    moved = flat - start
    size = np.linalg.norm(moved, axis=1)
    n = np.array([len(y) for _, y in data], np.float64)
    w = graph(moved @ moved.T / size[:, None] / size, n, alpha)
    training.step()
    training.step()
    states = training.engine.executor.dump_states()
    for i, (x, y) in enumerate(data):
        own = w[i] @ flat
        towards = w[i] @ (flat / np.linalg.norm(flat, axis=1, keepdims=True))
        length = np.linalg.norm(own)
        slope = towards / length - (towards @ own) * own / length**3  # of <towards, theta> / ||theta||
        mixture = unflat(own, first)
        step = add(gradient(mixture, x, y), unflat(slope, first), -pull * lam)
        assert_near(weights(states[i]), add(mixture, step, -lr))
    assert np.abs(w - n / n.sum()).max() > 0.05


def unflat(flat, like):
    a, b = np.split(flat, [like[0].size])
    return a.reshape(like[0].shape), b


def test_models_of_clients_that_are_not_asked_stay_in_the_mixture():
    """Client 0 uploads in round 1 only; in round 3 client 2, which has never been asked, is sent the mean of the two by rows."""
    fed = small_digits(3)
    method = PFedGraph(lr=0.2, batch=4, lam=0.0)
    training = begin(method, fed, models=("softmax",), selector=Fixed(0))
    training.start()
    for asked in (0, 1, 2):
        training.fed._selector = Fixed(asked)
        before = training.server
        training.step()
    n = fed.count["train"]
    assert_near(before.n, np.array([n[0], n[1], 0]))
    a, b = (weights(type(before.theta)({"head": {name: leaf[i] for name, leaf in before.theta.tree["head"].items()}})) for i in (0, 1))
    sent = tuple((n[0] * p + n[1] * q) / (n[0] + n[1]) for p, q in zip(a, b, strict=True))
    assert_near(weights(training.engine.executor.dump_states([2])[2]), sgd(sent, *rows(fed, 2), 0.2, 1, 4, key("update", 3, 2)))
