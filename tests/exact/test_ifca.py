"""IFCA against FedAvg and gradient descent with one model, and with several against NumPy on mixtures of linear regressions."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tree_math import Vector

from atoll.core.errors import AtollError
from atoll.core.keys import common_key
from atoll.data import load
from atoll.data.synthetic import cluster_models
from atoll.methods.fedavg import FedAvg
from atoll.methods.ifca import IFCA, Models
from tests.exact import dense, plain
from tests.exact.dense import equal_clients
from tests.exact.plain import Circumstances
from tests.harness import Fixed, Trained, assert_alike, assert_near, begin, federation, linear, quadratics, small_digits, train

REGRESSION = ("softmax:bias=false",)


def started(method, fed, theta, models=REGRESSION):
    """A training whose k models are theta: rows of numbers for linear regression, or Models."""
    if not isinstance(theta, Models):
        theta = Models(Vector({}), Vector({"head": {"kernel": jnp.asarray(theta, jnp.float32)[:, :, None]}}))
    training = begin(method, fed, models=models)
    training.restore(0, theta, {})
    return training


def kernels(server):
    """[k, d] the models of a linear regression."""
    return np.asarray(server.theta.tree["head"]["kernel"], np.float64)[:, :, 0]


def choices(training):
    """The model that each client chooses now."""
    training.fed.begin_round(training.round + 1, training.shared)
    return training.fed.ask(training.fed.everyone(), training.method.update, training.server).group


def rows(fed, i):
    first, n = fed.start["train"][i], fed.count["train"][i]
    return fed.x[first : first + n].astype(np.float64), fed.y[first : first + n].astype(np.float64)


def slope(fed, i, w):
    """Of the mean of 1/2 (<x, w> - y)^2."""
    x, y = rows(fed, i)
    return x.T @ (x @ w - y) / len(y)


def test_one_model_is_fedavg():
    ifca = train(IFCA(lr=0.05, epochs=2, batch=5, k=1), equal_clients(4), 3, models=("mlp:7,5",), per_round=3)
    averaged = train(FedAvg(lr=0.05, epochs=2, batch=5), equal_clients(4), 3, models=("mlp:7,5",), per_round=3)
    assert_alike(jax.tree.map(lambda leaf: leaf[0], ifca.server.theta), averaged.server)


def test_one_model_and_gradients_are_gradient_descent():
    """On ragged clients every client counts alike: w <- w - lr 1/m sum_i grad F_i(w)."""
    fed = small_digits(3)
    trained = train(IFCA(lr=0.5, k=1, averaging="gradient"), fed, 3, models=("mlp:7,5",))
    w = dense.weights(trained.training.engine.facts.models[0].init(common_key(0)))
    for _ in range(3):
        w = dense.step(w, dense.mean([dense.gradient(w, *dense.train_rows(fed, i)) for i in range(3)], [1 / 3] * 3), 0.5)
    assert_near(dense.weights(jax.tree.map(lambda leaf: leaf[0], trained.server.theta)), w)


@pytest.mark.parametrize("averaging", ["model", "gradient"])
def test_an_oracle_start_assigns_perfectly_and_contracts(averaging):
    """Without noise and with each model nearest to its own cluster's, all clients choose theirs in round 1 and each round multiplies the error of
    a model by its cluster's matrix: prod (I - lr X'X / n) per client averaged, or I - lr / m sum X'X / n. The choice never changes after that."""
    fed = load("linear", clients=9, clusters=3, dimension=4, rows=60, noise=0.0, seed=3)
    true = cluster_models(3, 4, 1.0, 3)
    start = true + 0.2 * np.random.default_rng(1).normal(size=true.shape)
    method = IFCA(lr=0.1, epochs=5, k=3, averaging=averaging)
    training = started(method, fed, start)
    np.testing.assert_array_equal(choices(training), fed.groups)
    error = start - true
    for _ in range(4):
        training.step()
        for j in range(3):
            members = [rows(fed, i)[0] for i in np.flatnonzero(fed.groups == j)]
            steps = [np.eye(4) - 0.1 * x.T @ x / len(x) for x in members]
            if averaging == "model":
                error[j] = np.mean([np.linalg.matrix_power(s, 5) for s in steps], axis=0) @ error[j]
            else:
                error[j] = error[j] + sum((s - np.eye(4)) @ error[j] for s in steps) / 9
        np.testing.assert_array_equal(choices(training), fed.groups)
    np.testing.assert_allclose(kernels(training.server), true + error, atol=2e-6)
    assert np.abs(error).max() < np.abs(start - true).max()


@pytest.mark.parametrize("averaging", ["model", "gradient"])
def test_a_model_that_nobody_chose_keeps_its_value(averaging):
    """Clients at -1 and 1 choose the models at -0.5 and 0.5; the one at 50 stays, bit for bit."""
    training = started(IFCA(lr=0.1, epochs=1, k=3, averaging=averaging), quadratics([1.0, 1.0], [-1.0, 1.0]), [[-0.5], [50.0], [0.5]], **linear())
    np.testing.assert_array_equal(choices(training), [0, 2])
    training.step()
    w = kernels(training.server)[:, 0]
    assert w[1] == 50.0
    moved = 0.05 if averaging == "model" else 0.025  # lr times the slope 0.5; half of it where both clients count
    np.testing.assert_allclose(w[[0, 2]], [-0.5 - moved, 0.5 + moved], rtol=1e-6)


def test_gradients_are_divided_by_all_participants():
    """Three of four clients choose model 0, one model 1: theirs move by lr/4 times the sum of their slopes, not by lr times the mean."""
    fed = quadratics([1.0, 2.0, 3.0, 4.0], [-1.0, -2.0, -3.0, 10.0])
    training = started(IFCA(lr=0.1, k=2, averaging="gradient"), fed, [[0.0], [8.0]], **linear())
    training.step()
    np.testing.assert_allclose(kernels(training.server)[:, 0], [0 - 0.1 / 4 * (1 + 4 + 9), 8 - 0.1 / 4 * 4 * (8 - 10)], rtol=1e-6)


@pytest.mark.parametrize("averaging", ["model", "gradient"])
def test_who_is_absent_does_not_count(averaging):
    """Clients 0 and 1 choose model 0, clients 2 and 3 model 1. Client 1 is asked and does not answer, client 3 is not asked: two participate."""
    fed = quadratics([1.0, 2.0, 3.0, 4.0], [-1.0, -2.0, 3.0, 4.0])
    training = started(IFCA(lr=0.1, epochs=1, k=2, averaging=averaging), fed, [[-0.5], [2.0]], **linear())
    np.testing.assert_array_equal(choices(training), [0, 0, 1, 1])
    training.fed._selector, training.fed._conditions = Fixed(0, 1, 2), Circumstances(gone={1: [1]})
    assert training.step().answered == 2
    participants = 1 if averaging == "model" else 2
    np.testing.assert_allclose(kernels(training.server)[:, 0], [-0.5 - 0.1 / participants * 0.5, 2 - 0.1 / participants * 3 * (2 - 3)], rtol=1e-6)


def test_gradients_never_raise_the_objective():
    """sum_i min_j F_i(theta_j): neither a small step of all models by the gradients of their clients, nor choosing anew raises it. Clients change their choice
    on the way."""
    fed = small_digits(6)
    training = begin(IFCA(lr=0.5, k=2, averaging="gradient"), fed, models=("softmax",))
    training.start()
    objective, said = [], []
    for _ in range(8):
        models = [plain.weights(jax.tree.map(lambda leaf, j=j: leaf[j], training.server.theta)) for j in range(2)]
        losses = np.array([[plain.loss(w, *plain.rows(fed, i)) / fed.count["train"][i] for w in models] for i in range(6)])
        objective.append(losses.min(axis=1).sum())
        said.append(losses.argmin(axis=1))
        training.step()
    assert (np.diff(objective) < 0).all()
    assert any((a != b).any() for a, b in itertools.pairwise(said))
    assert all(len(set(chosen.tolist())) > 1 for chosen in said)


def test_models_are_averaged_uniformly_within_their_cluster():
    """Whatever the clients' numbers of rows: 2, 3, 4 and 5 here. One local step each, from the nearer of two models."""
    random = np.random.default_rng(8)
    x, v = random.normal(size=(22, 3)).astype(np.float32), random.normal(size=3)
    sign = np.where(np.arange(22) < 2 + 3, 1, -1)  # the first two clients' train rows, and the others'
    fed = federation(x, (sign * (x @ v)).astype(np.float32), [(2 + i, 1, 1) for i in range(4)], labels=())
    start = np.array([-0.5 * v, 0.7 * v])
    training = started(IFCA(lr=0.1, epochs=1, k=2), fed, start)
    loss = [[np.square(rows(fed, i)[0] @ w - rows(fed, i)[1]).mean() for w in start] for i in range(4)]
    chosen = np.argmin(loss, axis=1)
    np.testing.assert_array_equal(choices(training), chosen)
    np.testing.assert_array_equal(chosen, [1, 1, 0, 0])
    training.step()
    for j in range(2):
        members = np.flatnonzero(chosen == j)
        np.testing.assert_allclose(kernels(training.server)[j], np.mean([start[j] - 0.1 * slope(fed, i, start[j]) for i in members], axis=0), rtol=1e-5)


def test_equal_models_never_part():
    """All clients choose number 0, which goes the way of FedAvg; the others stay where they are, bit for bit."""
    method = IFCA(lr=0.05, epochs=2, batch=5, k=3)
    one = begin(dataclasses.replace(method, k=1), equal_clients(4))
    one.start()
    same = Models(Vector({}), jax.tree.map(lambda leaf: jnp.repeat(leaf, 3, axis=0), one.server.theta))
    training = started(method, equal_clients(4), same, models=("mlp:6",))
    np.testing.assert_array_equal(choices(training), [0] * 4)
    for _ in range(3):
        training.step()
    averaged = train(FedAvg(lr=0.05, epochs=2, batch=5), equal_clients(4), 3)
    assert_alike(jax.tree.map(lambda leaf: leaf[0], training.server.theta), averaged.server)
    assert_alike(jax.tree.map(lambda leaf: leaf[1:], training.server.theta), jax.tree.map(lambda leaf: leaf[1:], same.theta))


@pytest.mark.parametrize("averaging", ["model", "gradient"])
def test_the_numbering_of_models_does_not_matter(averaging):
    order = np.array([2, 0, 1])
    fed, method = small_digits(4), IFCA(batch=4, epochs=1, k=3, averaging=averaging, shared=1)
    plain = begin(method, fed)
    plain.start()
    other = started(method, fed, Models(plain.server.common, jax.tree.map(lambda leaf: leaf[order], plain.server.theta)), models=("mlp:6",))
    assert len(set(choices(plain).tolist())) > 1
    for training in (plain, other):
        for _ in range(2):
            training.step()
    assert_near(other.server.common, plain.server.common, 1e-6)
    assert_near(other.server.theta, jax.tree.map(lambda leaf: leaf[order], plain.server.theta), 1e-6)
    scores = [[row["loss"] for row in training.evaluate().to_dicts()] for training in (plain, other)]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5)


@pytest.mark.parametrize("averaging", ["model", "gradient"])
@pytest.mark.parametrize("shared", [2, ("head",)])
def test_shared_blocks_are_averaged_over_everybody(averaging, shared):
    """By hand, one full-batch step: common blocks move by the mean over all clients, the others by that of their cluster (or its share of all)."""
    fed = small_digits(4)
    training = begin(IFCA(lr=0.5, epochs=1, k=2, averaging=averaging, shared=shared), fed, models=("mlp:7,5",))
    training.start()
    common, thetas = dense.weights(training.server.common), [dense.weights(jax.tree.map(lambda leaf, j=j: leaf[j], training.server.theta)) for j in range(2)]
    models = [common | theta for theta in thetas]
    data = [dense.train_rows(fed, i) for i in range(4)]
    chosen = [int(np.argmin([dense.loss(w, x, y) for w in models])) for x, y in data]
    np.testing.assert_array_equal(choices(training), chosen)
    assert set(chosen) == {0, 1}
    training.step()
    stepped = [dense.step(models[j], dense.gradient(models[j], x, y), 0.5) for j, (x, y) in zip(chosen, data, strict=True)]
    everybody = dense.mean(stepped, [1 / 4] * 4)
    assert set(training.server.common.tree) == ({"dense1", "dense2"} if shared == 2 else {"head"})
    assert_near(dense.weights(training.server.common), {block: everybody[block] for block in common})
    for j in range(2):
        members = [w for w, chose in zip(stepped, chosen, strict=True) if chose == j]
        if averaging == "model":
            wanted = dense.mean(members, [1 / len(members)] * len(members))
        else:
            wanted = dense.mean([models[j], *members], [1 - len(members) / 4] + [1 / 4] * len(members))
        got = dense.weights(jax.tree.map(lambda leaf, j=j: leaf[j], training.server.theta))
        assert_near(got, {block: wanted[block] for block in thetas[j]})


def test_everything_shared_is_fedavg():
    """The k models are one then; at the boundary of what can be asked for."""
    how = {"models": ("mlp:7,5",), "per_round": 3}
    shared = train(IFCA(lr=0.05, epochs=2, batch=5, k=3, shared=3), equal_clients(4), 3, **how)
    assert_alike(shared.server.common, train(FedAvg(lr=0.05, epochs=2, batch=5), equal_clients(4), 3, **how).server)
    with pytest.raises(AtollError, match="3 blocks"):
        train(IFCA(shared=4), equal_clients(4), 1, **how)
    with pytest.raises(AtollError, match="dense9"):
        train(IFCA(shared=("dense9",)), equal_clients(4), 1, **how)


def test_the_first_models_differ_and_the_first_is_everybodys():
    training = begin(IFCA(k=4), small_digits(2))
    training.start()
    kernel = np.asarray(training.server.theta.tree["dense1"]["kernel"])
    assert_alike(kernel[0], training.engine.facts.models[0].init(common_key(0)).tree["dense1"]["kernel"])
    assert min(np.abs(kernel[i] - kernel[j]).max() for i in range(4) for j in range(i)) > 0.01


@pytest.mark.long
def test_statistics_of_batches_follow_a_gradient_step():
    """One model, one full-batch step: BatchNorm statistics too are those of FedAvg, and not left as they began."""
    model = ("resnet:norm=batch,width=2",)
    got = train(IFCA(lr=0.1, k=1, averaging="gradient"), equal_clients(2), 2, models=model).server.theta
    wanted = train(FedAvg(lr=0.1, batch=0), equal_clients(2), 2, models=model).server
    assert_near(jax.tree.map(lambda leaf: leaf[0], got), wanted)
    first = begin(IFCA(k=1), equal_clients(2), models=model)
    first.start()
    assert not np.allclose(jax.tree.leaves(got.tree["buffers"])[0], jax.tree.leaves(first.server.theta.tree["buffers"])[0])


def test_unseen_clients_predict_with_the_model_that_fits_their_train_rows():
    """By hand: the loss of every client's test rows under the model with the smallest loss on its train rows."""
    fed = dataclasses.replace(small_digits(4), seen=3)
    trained = train(IFCA(batch=4, epochs=3, k=3), fed, 2, models=("mlp:7,5",))
    models = [dense.weights(jax.tree.map(lambda leaf, j=j: leaf[j], trained.server.theta)) for j in range(3)]
    for row in trained.training.evaluate().to_dicts():
        if row["split"] == "test":
            w = min(models, key=lambda w, i=row["client"]: dense.loss(w, *dense.train_rows(fed, i)))
            assert row["loss"] / row["rows"] == pytest.approx(dense.loss(w, *dense.rows(fed, row["client"], "test")), rel=1e-4)
            assert models[row["cluster"]] is w


@pytest.mark.parametrize("clusters", [2, pytest.param(4, marks=pytest.mark.long)])
def test_a_mixture_of_linear_regressions_is_recovered(clusters):
    """The paper's synthetic experiment with 10 features: from random starts, the best of a few by train loss finds every true model to within
    0.6 of the noise (the paper's criterion, distances averaged over models)."""
    fed = load("linear", clients=20, clusters=clusters, dimension=10, rows=100, noise=0.1, seed=2)
    true = cluster_models(clusters, 10, 1.0, 2)
    starts = [train(IFCA(lr=0.3, k=clusters, epochs=5), fed, 40, models=REGRESSION, seed=seed) for seed in range(4)]
    best = min(starts, key=loss_of_choice)
    distance = np.linalg.norm(kernels(best.server)[:, None] - true[None], axis=2)
    assert distance.min(axis=1).mean() < 0.6 * 0.1 + 0.001
    assert sorted(distance.argmin(axis=1)) == list(range(clusters))
    np.testing.assert_array_equal(distance.argmin(axis=1)[choices(best.training)], fed.groups)


def loss_of_choice(trained: Trained):
    fed, w = trained.training.federation, kernels(trained.server)
    return sum(min(np.square(rows(fed, i)[0] @ v - rows(fed, i)[1]).mean() for v in w) for i in range(fed.seen))
