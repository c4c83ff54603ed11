"""FedAMP and HeurFedAMP: the attention against the paper's formulas, its limits, and rounds against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tree_math import Vector

from atoll.core.cloud import Cloud, cosines, mix, squared_distances
from atoll.core.errors import AtollError
from atoll.core.federation import Answer
from atoll.core.keys import common_key
from atoll.methods.fedamp import FedAMP, Reply, attention, mean_distance
from atoll.methods.heurfedamp import HeurFedAMP, cosine_attention
from atoll.methods.local import Local
from atoll.models import build
from tests.harness import assert_alike, assert_near, federation, leaves, linear, quadratics, small_digits, train


class Schedule:
    """Asks given clients in each round."""

    def __init__(self, *rounds: tuple[int, ...]):
        self.rounds = rounds

    def choose(self, fed):
        return np.array(self.rounds[fed.round - 1])


def models(seed=0, n=6, scale=1.0):
    """n random models of two arrays, stacked; and the same as rows of float64 numbers."""
    random = np.random.default_rng(seed)
    W = Vector({"a": jnp.asarray(scale * random.normal(size=(n, 3, 4)), jnp.float32), "b": jnp.asarray(scale * random.normal(size=(n, 5)), jnp.float32)})
    return W, flat(W)


def flat(W):
    return np.concatenate([np.asarray(leaf, np.float64).reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(W)], axis=1)


def distances(rows):
    return np.square(rows[:, None] - rows[None]).sum(axis=-1)


EVERYONE = jnp.ones(6, bool)


def test_attention_is_the_papers_formula_in_its_own_units():
    """xi_ij = alpha_k A'(||w_i - w_j||^2) with A(x) = 1 - exp(-x / sigma), so A'(x) = exp(-x / sigma) / sigma, and alpha_k = alpha sigma / m."""
    W, rows = models()
    alpha, sigma = 0.7, 30.0
    xi = np.asarray(attention(squared_distances(W), EVERYONE, alpha, sigma))
    alpha_k = alpha * sigma / 6
    wanted = alpha_k * np.exp(-distances(rows) / sigma) / sigma
    np.fill_diagonal(wanted, 0)
    wanted += np.diag(1 - wanted.sum(axis=1))
    np.testing.assert_allclose(xi, wanted, rtol=1e-5)
    np.testing.assert_allclose(flat(mix(xi, W)), wanted @ rows, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_rows_sum_to_one_and_the_self_weight_is_at_least_one_in_m(scale):
    """Whatever the distances; and what one client gives another, it gets from it."""
    W, _ = models(1, scale=scale)
    d = squared_distances(W)
    for sigma in (0.01, 1.0, 100.0):
        xi = np.asarray(attention(d, EVERYONE, 1.0, sigma * mean_distance(d, EVERYONE)))
        np.testing.assert_allclose(xi.sum(axis=1), 1, atol=1e-6)
        np.testing.assert_array_equal(xi, xi.T)
        assert xi.min() >= 0
        assert np.diag(xi).min() >= 1 / 6 - 1e-6
    with pytest.raises(AtollError, match="alpha"):
        FedAMP(alpha=1.01)


def test_u_is_half_a_gradient_step():
    """u_i = w_i - alpha/2 grad_{w_i} sum_{i<j} A(||w_i - w_j||^2) for A(x) = sigma / m (1 - exp(-x / sigma)), the gradient by central differences."""
    W, rows = models(2, n=4)
    alpha, sigma = 0.8, 25.0

    def objective(rows):
        return np.triu(sigma / 4 * (1 - np.exp(-distances(rows) / sigma)), 1).sum()

    numeric = np.zeros_like(rows)
    for at in np.ndindex(*rows.shape):
        step = np.zeros_like(rows)
        step[at] = 1e-5
        numeric[at] = (objective(rows + step) - objective(rows - step)) / 2e-5
    u = flat(mix(attention(squared_distances(W), jnp.ones(4, bool), alpha, sigma), W))
    np.testing.assert_allclose(u, rows - alpha / 2 * numeric, atol=2e-6)
    assert np.abs(alpha / 2 * numeric).max() > 0.1


@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_equal_models_stay_as_they_are(alpha):
    one, _ = models(3, n=1)
    W = jax.tree.map(lambda leaf: jnp.repeat(leaf, 6, axis=0), one)
    d = squared_distances(W)
    assert not np.asarray(d).any()
    xi = attention(d, EVERYONE, alpha, 0.3 * mean_distance(d, EVERYONE))
    np.testing.assert_allclose(flat(mix(xi, W)), flat(W), rtol=1e-6)
    np.testing.assert_allclose(np.asarray(xi)[0, 1], alpha / 6, rtol=1e-6)


def test_a_wide_sigma_gives_the_plain_mean_and_in_the_papers_units_nothing():
    """For sigma -> inf all weights are 1 / m. The paper's alpha_k held fixed is our alpha = alpha_k m / sigma, and then they vanish."""
    W, rows = models(4)
    d = squared_distances(W)
    np.testing.assert_allclose(flat(mix(attention(d, EVERYONE, 1.0, 1e9), W)), np.tile(rows.mean(axis=0), (6, 1)), atol=1e-5)
    np.testing.assert_allclose(attention(d, EVERYONE, 2.0 * 6 / 1e9, 1e9), np.eye(6), atol=2e-8)


def test_two_far_groups_leave_each_other_alone():
    """Clients at 0, 1 and 100, 101: with sigma a twentieth of the mean distance, cross weights are below 1e-12, and neighbours share alike.

    So mixing keeps a group's mean, and solving 1/2 (w - b)^2 + mu/2 (w - u)^2 leaves mu / (1 + mu) = 1/11 of its error: from 0 for both at the
    start the groups are 100 (1 - 11^-3) apart after three rounds.
    """
    a, b = [1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 100.0, 101.0]
    trained = train(FedAMP(lr=0.5, epochs=20, batch=0, sigma=0.05), quadratics(a, b), 3, **linear())  # 20 steps halve the distance to the solution each
    d = squared_distances(trained.server.W)
    xi = np.asarray(attention(d, trained.server.known, 1.0, 0.05 * mean_distance(d, trained.server.known)))
    assert xi[:2, 2:].max() < 1e-12
    np.testing.assert_allclose(xi[[0, 2], [1, 3]], 1 / 4, rtol=1e-2)
    w = np.array([leaves(trained.states[i])[0].item() for i in range(4)])
    np.testing.assert_allclose(w[2:] - w[:2], 100 * (1 - 11**-3), rtol=1e-6)


def test_far_models_without_pull_are_local():
    """Self weights are exactly 1 there, and lam=0 adds an exact 0 to every gradient."""
    fed = small_digits()
    amp = train(FedAMP(batch=4, epochs=2, lam=0.0, sigma=1e-4), fed, 3)
    local = train(Local(batch=4, epochs=2), fed, 3)
    assert_alike(amp.states, local.states)


def test_one_client_without_pull_is_local():
    for method in (FedAMP(batch=4, lam=0.0), HeurFedAMP(batch=4, lam=0.0)):
        assert_alike(train(method, small_digits(1), 3).states, train(Local(batch=4), small_digits(1), 3).states)


def test_the_heuristic_is_the_papers_formula():
    W, rows = models(5)
    own, sigma = 0.3, 4.0
    length = np.sqrt(np.square(rows).sum(axis=1))
    cosine = rows @ rows.T / np.outer(length, length)
    np.testing.assert_allclose(cosines(W), cosine, atol=1e-6)
    wanted = np.exp(sigma * cosine)
    np.fill_diagonal(wanted, 0)
    wanted *= (1 - own) / wanted.sum(axis=1, keepdims=True)
    xi = np.asarray(cosine_attention(cosines(W), EVERYONE, own, sigma))
    np.testing.assert_allclose(xi, wanted + own * np.eye(6), rtol=1e-5)
    sharp = np.asarray(cosine_attention(cosines(W), EVERYONE, own, 1e4))  # exp(1e4) is more than a float32 holds
    np.testing.assert_allclose(sharp.max(axis=1), 0.7, rtol=1e-5)
    np.testing.assert_array_equal(sharp.argmax(axis=1), (cosine - 2 * np.eye(6)).argmax(axis=1))


def test_the_heuristic_without_sigma_is_uniform():
    """Off the diagonal all weights are (1 - xi_ii) / (m - 1); with xi_ii = 1 / m, also what own=0 means, every u_i is the plain mean."""
    W, rows = models(6)
    xi = np.asarray(cosine_attention(cosines(W), EVERYONE, 0.4, 0.0))
    np.testing.assert_allclose(xi, np.full((6, 6), 0.12) + 0.28 * np.eye(6), rtol=1e-6)
    for own in (0.0, 1 / 6):
        np.testing.assert_allclose(flat(mix(cosine_attention(cosines(W), EVERYONE, own, 0.0), W)), np.tile(rows.mean(axis=0), (6, 1)), atol=1e-6)


def test_only_those_who_uploaded_take_part():
    """The others keep to themselves, and m does not count them; one alone mixes with nobody."""
    W, _ = models(7)
    d, known = squared_distances(W), jnp.array([True, False, True, True, False, False])
    for xi, few in (
        (attention(d, known, 1.0, mean_distance(d, known)), attention(d[::2, ::2][:2, :2], jnp.ones(2, bool), 1.0, d[0, 2])),
        (cosine_attention(cosines(W), known, 0.0, 2.0), None),
    ):
        got = np.asarray(xi)
        np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-6)
        np.testing.assert_array_equal(got[[1, 4, 5]], np.eye(6)[[1, 4, 5]])
        assert not got[[0, 2, 3]][:, [1, 4, 5]].any()
        assert few is None or few[0, 1] == pytest.approx(np.exp(-1) / 2)
    lone = jnp.arange(6) == 2
    np.testing.assert_array_equal(attention(d, lone, 1.0, mean_distance(d, lone)), np.eye(6))
    np.testing.assert_array_equal(cosine_attention(cosines(W), lone, 0.3, 2.0), np.eye(6))


def regression():
    """Four clients with 2 to 5 rows of linear regression on three features."""
    random = np.random.default_rng(8)
    x = random.normal(size=(22, 3)).astype(np.float32)
    return federation(x, (x @ random.normal(size=3) + random.normal(size=22)).astype(np.float32), [(2 + i, 1, 1) for i in range(4)], labels=())


def paper_xi(method, w, known):
    """Row by row in NumPy, of {client: model}."""
    m, xi = len(known), {}
    among = [(i, j) for i in known for j in known if i != j]
    if isinstance(method, FedAMP):
        sigma = method.sigma * np.mean([np.square(w[i] - w[j]).sum() for i, j in among]) if among else 1
        for i, j in among:
            xi[i, j] = method.alpha / m * np.exp(-np.square(w[i] - w[j]).sum() / sigma)
    else:
        power = {(i, j): np.exp(method.sigma * w[i] @ w[j] / np.linalg.norm(w[i]) / np.linalg.norm(w[j])) for i, j in among}
        for i, j in among:
            xi[i, j] = (1 - (method.own or 1 / m)) * power[i, j] / sum(power[i, h] for h in known if h != i)
    return xi


@pytest.mark.parametrize(
    "method",
    [
        FedAMP(lr=0.1, epochs=3, batch=0, lam=0.5, alpha=0.9, sigma=2.0),
        HeurFedAMP(lr=0.1, epochs=3, batch=0, lam=0.5, sigma=1.5),
        HeurFedAMP(lr=0.1, epochs=3, batch=0, lam=0.5, sigma=1.5, own=0.6),
    ],
    ids=["fedamp", "heurfedamp", "heurfedamp, own"],
)
def test_rounds_by_hand(method):
    """u_i = w_i + sum_j xi_ij (w_j - w_i) of last uploads; then three steps w <- w - lr (X'(Xw - y) / n + mu (w - u_i)) from u_i.

    Client 3 comes in round 3 and starts with the first model; client 0 rests in rounds 2 and 3 and takes part with its old model.
    """
    fed, schedule = regression(), [(0, 1, 2), (2, 1), (1, 3), (0, 1, 2, 3)]
    trained = train(method, fed, 4, models=("softmax:bias=false",), selector=Schedule(*schedule))
    w0 = np.asarray(trained.training.engine.facts.models[0].init(common_key(0)).tree["head"]["kernel"], np.float64)[:, 0]
    w, known = dict.fromkeys(range(4), w0), []
    mu = method.lam / method.alpha if isinstance(method, FedAMP) else method.lam
    for asked in schedule:
        xi = paper_xi(method, w, known)
        u = {i: w[i] + sum(xi[i, j] * (w[j] - w[i]) for j in known if j != i and i in known) for i in asked}
        for i in asked:
            first, n = fed.start["train"][i], fed.count["train"][i]
            x, y = fed.x[first : first + n].astype(np.float64), fed.y[first : first + n]
            new = u[i]
            for _ in range(3):
                new = new - 0.1 * (x.T @ (x @ new - y) / n + mu * (new - u[i]))
            w[i] = new
        known = sorted({*known, *asked})
    for i in range(4):
        assert_near(leaves(trained.states[i])[0][:, 0], w[i])
        assert_near(leaves(trained.server.W)[0][i, :, 0], w[i])
    assert leaves(trained.server.known)[0].all()


class Server:
    """What a round needs of `fed`; clients send back what they are sent."""

    def __init__(self, model):
        self.model = model

    def sample(self):
        return np.arange(3)

    def ask(self, ids, program, *, each, reduce):
        return Answer(ids, Reply(each))


@pytest.mark.parametrize("method", [FedAMP(), HeurFedAMP()], ids=["fedamp", "heurfedamp"])
def test_buffers_are_mixed_and_do_not_count(method):
    """BatchNorm statistics far apart change nothing in who listens to whom, and follow the same weights as the parameters."""
    model = build("resnet:norm=batch,width=2", (8, 8), 2)
    W = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[model.init(jax.random.key(i)) for i in range(3)])
    far = Vector({**W.tree, "buffers": jax.tree.map(lambda leaf: leaf + jnp.array([0.0, 0.0, 100.0])[:, None], W.tree["buffers"])})
    near, moved = (method.round(Cloud(w, jnp.ones(3, bool)), Server(model)).W for w in (W, far))
    assert_alike(model.parameters(near), model.parameters(moved))
    weight = leaves(moved.tree["buffers"])[0][:, 0] - leaves(near.tree["buffers"])[0][:, 0]  # 100 xi_i2
    xi = np.linalg.lstsq(flat(model.parameters(W)).T, flat(model.parameters(near)).T, rcond=None)[0].T
    np.testing.assert_allclose(weight / 100, xi[:, 2], atol=1e-4)
    assert 0.005 < xi[0, 2] < 0.9
