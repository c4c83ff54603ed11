"""MOCHA: duality after every round, closed forms, the relations of tasks, and what one client's steps are worth; all in NumPy and float64."""

import numpy as np
import pytest
from flax import nnx

from atoll.core.errors import AtollError
from atoll.core.linear import as_model, check_linear, columns, lifted, signs
from atoll.methods.mocha import MOCHA, related, separable
from atoll.models import build, own
from tests.exact.plain import Circumstances, rows
from tests.harness import Fixed, assert_near, begin, federation, leaves, small_digits, train

SOFTMAX = ("softmax",)


def lift(fed, i):
    """x with a 1 [n, d] and y as signs [n, L] of a client."""
    x, y = rows(fed, i)
    L = len(fed.labels)
    one = np.eye(L)[y] if L > 2 else y[:, None]
    return np.hstack([x, np.ones((len(x), 1))]), 2 * one - 1


def objectives(fed, made, server, states):
    """(primal, dual) objective, and B as the clients' dual variables say; states: client -> y alpha."""
    m, beta = fed.seen, {i: np.asarray(s, np.float64) for i, s in states.items()}
    B, losses, dual = np.zeros(server.B.shape), 0.0, 0.0
    for i in range(m):
        x, y = lift(fed, i)
        if i in beta:
            own = beta[i][: len(x)]
            assert (own >= 0).all()
            assert (own <= 1).all()
            assert not beta[i][len(x) :].any()
            B[i] = (y * own).T @ x / len(x)
            dual += own.sum() / len(x)
    Sigma = np.asarray(server.Sigma, np.float64)
    W = np.tensordot(Sigma, B, axes=1) / made.lam
    term = made.lam / 2 * np.einsum("slj,slj->", W, np.tensordot(np.linalg.inv(Sigma), W, axes=1))  # lambda/2 tr(W Omega W')
    for i in range(m):
        x, y = lift(fed, i)
        losses += np.maximum(0, 1 - y * (x @ W[i].T)).sum() / len(x)
    return losses + term, dual - term, B


def test_duality_holds_after_every_round_and_the_gap_falls():
    """Ten labels, ragged clients of whom one manages a third of its steps and some drop out. The dual never falls but where Sigma changes."""
    fed, made = small_digits(3), MOCHA(lam=0.05, epochs=3, inner=15)
    gone = {2: [0], 3: [1, 2], 16: [1]}
    training = begin(made, fed, models=SOFTMAX, conditions=Circumstances(gone=gone, budget={2: 0.35}))
    training.start()
    gaps, duals = [], []
    for round in range(1, 45):
        training.step()
        primal, dual, B = objectives(fed, made, training.server, training.engine.executor.dump_states())
        assert_near(training.server.B, B)
        gaps.append(primal - dual)
        duals.append(dual)
        if round % 15:  # which gives Sigma another value, and with it the dual
            assert dual >= (duals[-2:] or [0])[0] - 1e-6
    assert min(gaps) > -1e-5
    assert gaps[0] > 4
    assert max(gaps[13], gaps[28], gaps[43]) < 0.1
    assert np.abs(training.server.Sigma - np.diag(np.diag(training.server.Sigma))).max() > 0.01


def two(y=(1, 0)):
    """Two clients of one row each, two labels."""
    x = np.tile(np.array([[1.0, 0.5], [-0.25, 1.0]], np.float32), (3, 1))
    return federation(x, np.tile(np.array(y, np.int32), 3), [(1, 1, 1)] * 2)


def test_two_rows_of_related_clients_have_a_closed_form():
    """D = sum beta - 1/(2 lam) beta' K beta with K_st = y_s y_t Sigma_st x_s'x_t has its maximum at beta = lam K^-1 1, where that lies between 0 and 1."""
    made, Sigma = MOCHA(lam=0.1, inner=1000), np.array([[0.6, 0.3], [0.3, 0.4]], np.float32)
    training = begin(made, two(), models=("softmax:bias=false",))
    training.start()
    training.restore(0, training.server._replace(Sigma=Sigma), {})
    for _ in range(60):
        training.step()
    x, y = np.array([[1.0, 0.5], [-0.25, 1.0]]), np.array([1, -1])
    beta = 0.1 * np.linalg.solve(np.outer(y, y) * Sigma * (x @ x.T), np.ones(2))
    assert 0 < min(beta) < max(beta) < 1
    states = training.engine.executor.dump_states()
    assert_near(np.array([leaves(states[i])[0].item() for i in range(2)]), beta)
    W = Sigma @ (x * (y * beta)[:, None]) / 0.1
    for i in range(2):
        kernel = leaves(training.method.personalize(Numbered(i, build("softmax:bias=false", (2,), 2, "classification")), made.primal(training.server)))[0]
        assert_near(kernel[:, 1] - kernel[:, 0], W[i])


class Numbered:
    """What `personalize` needs of a client."""

    def __init__(self, id, model):
        self.id, self.model = id, model


def test_a_client_that_never_answers_is_driven_by_the_others():
    made, Sigma = MOCHA(lam=0.1, inner=1000), np.array([[0.6, 0.3], [0.3, 0.4]], np.float32)
    training = begin(made, two(), models=("softmax:bias=false",), selector=Fixed(0))
    training.start()
    training.restore(0, training.server._replace(Sigma=Sigma), {})
    for _ in range(2):
        training.step()
    B, W = np.asarray(training.server.B), np.asarray(made.primal(training.server))
    assert set(training.engine.executor.dump_states()) == {0}
    assert not B[1].any()
    assert_near(W[1], 0.3 * B[0] / 0.1)
    assert np.abs(W[1]).max() > 0.1


def test_unrelated_clients_are_support_vector_machines_of_their_own():
    """Sigma = I/m: client 0 learns as if alone with regulariser m lam."""
    together = train(MOCHA(lam=0.02, inner=1000), small_digits(3), 3, models=SOFTMAX)
    alone = train(MOCHA(lam=0.06, inner=1000), small_digits(1), 3, models=SOFTMAX)
    assert_near(together.training.method.primal(together.server)[0], alone.training.method.primal(alone.server)[0])
    assert_near(together.states[0][:9], alone.states[0][:9])  # of nine rows; what is behind them is room


def test_more_steps_solve_the_subproblem_better():
    """theta = (G(opt) - G(d alpha)) / (G(opt) - G(0)) of client 0 in round 1, G = 1/n sum beta - q/(2 lam) ||db||^2: from 1 for none down to 0."""
    fed, made = small_digits(3), MOCHA(lam=0.05, epochs=60)
    G = []
    for budget in (1 / 540, 1 / 60, 1 / 12, 1.0):
        run = train(made, fed, 1, models=SOFTMAX, conditions=Circumstances(budget={0: budget}))
        G.append(np.asarray(run.states[0]).sum() / 9 - (1 / 3) / (2 * made.lam) * np.square(np.asarray(run.server.B[0], np.float64)).sum())
    theta = 1 - np.array(G) / G[-1]
    assert 1 > theta[0] > 0.7
    assert theta[0] > theta[1] + 0.1 > theta[2] + 0.1 > 0.1
    assert theta[2] < 0.1


def test_relations_are_the_best_of_trace_one():
    """tr(W Omega W') is smallest at Sigma = (W'W)^(1/2) / tr; of orthogonal models that is their length, and like models get like relations."""
    random = np.random.default_rng(0)
    W = random.normal(size=(4, 2, 5))
    flat = W.reshape(4, -1)
    Sigma = related(W, np.eye(4) / 4).astype(np.float64)
    assert np.trace(Sigma) == pytest.approx(1, abs=1e-6)

    def cost(Sigma):
        return np.trace(flat.T @ np.linalg.inv(Sigma) @ flat)

    for _ in range(20):
        change = random.normal(size=(4, 4)) * 0.02
        other = Sigma + change + change.T
        assert cost(other / np.trace(other)) > cost(Sigma)
    assert_near(related(np.array([[[3.0, 0, 0]], [[0, 1.0, 0]]]), np.eye(2)), np.diag([0.75, 0.25]), 1e-3)
    like = related(np.concatenate([W[:1], W[:1], W[1:]]), np.eye(5) / 5)
    assert_near(like[0, 2:], like[1, 2:])
    assert np.linalg.eigvalsh(like).min() > 0
    W[2] = 0  # has sent nothing
    assert related(W, np.eye(4) / 4)[2].tolist() == [0, 0, 0.25, 0]
    assert np.trace(related(W, np.eye(4) / 4)) == pytest.approx(1, abs=1e-6)
    assert_near(related(0 * W, Sigma), Sigma)


def test_what_clients_foresee_is_never_more_than_what_they_do_together():
    """tr(dB Sigma dB') <= sum_t q_t ||db_t||^2 for all dB: diag(q) - Sigma has no negative eigenvalue; q = Sigma_tt where nobody is related."""
    random = np.random.default_rng(1)
    for _ in range(5):
        A = random.normal(size=(6, 3))
        Sigma = A @ A.T + 0.01 * np.eye(6)
        assert np.linalg.eigvalsh(np.diag(separable(Sigma)) - Sigma).min() > -1e-9
    assert separable(np.diag([0.25, 0.75])).tolist() == [0.25, 0.75]


@pytest.mark.parametrize(("outputs", "vectors"), [(2, 1), (3, 3)])
def test_linear_models_as_vectors(outputs, vectors):
    model = build("softmax", (2, 2), outputs, "classification")
    assert columns(model) == (vectors, 5)
    random = np.random.default_rng(2)
    w, x = random.normal(size=(vectors, 5)), random.normal(size=(4, 2, 2))
    out, margin = np.asarray(model.apply(as_model(model, w), x)), np.hstack([x.reshape(4, 4), np.ones((4, 1))]) @ w.T
    assert_near(out if outputs > 2 else out[:, 1:] - out[:, :1], margin, 1e-5)
    assert_near(lifted(model, x) @ w.T, margin, 1e-5)
    assert signs(model, np.array([1, 0])).tolist() == ([[1], [-1]] if outputs == 2 else [[-1, 1, -1], [1, -1, -1]])


class _Squashed(nnx.Module):
    """A linear model's weights, and another function."""

    def __init__(self, rngs):
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.tanh(x))


def test_other_models_are_refused():
    for model in (build("mlp:3", (4,), 2, "classification"), own(_Squashed, (4,), 2, name="squashed")):
        with pytest.raises(AtollError, match="linear"):
            MOCHA().check_model(model)
    with pytest.raises(AtollError, match="targets are numbers"):
        MOCHA().check_model(build("softmax", (4,), 1, "regression"))
    check_linear("MOCHA", build("softmax:bias=false", (4,), 3, "classification"))
