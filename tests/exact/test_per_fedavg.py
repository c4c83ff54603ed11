"""Per-FedAvg against its fixed points on quadratics, NumPy, finite differences of the meta-objective, and FedAvg."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atoll.core.keys import purpose_key, shuffle
from atoll.data import load
from atoll.methods.fedavg import FedAvg
from atoll.methods.per_fedavg import PerFedAvg
from tests.exact.dense import equal_clients
from tests.exact.entropy import classes, entropy, entropy_gradient, kernel, rows
from tests.harness import Fixed, Trained, assert_alike, assert_near, begin, federation, leaves, linear, normed, quadratics, small_digits, train

A, B = np.array([1, 2, 4, 0.5]), np.array([0, 1, -1, 3.0])
LINEAR = ("softmax:bias=false",)


class Reply(NamedTuple):
    w: Any


def adapted(trained: Trained) -> list[Any]:
    """What each client predicts with."""
    training = trained.training

    def program(k, shared):
        return Reply(training.method.personalize(k, shared))

    ids = np.arange(training.fed.n)
    stacked = training.fed.ask(ids, program, training.server).reply.w
    return [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in ids]


def targets():
    """Two clients of least squares with three weights: Hessians that differ from batch to batch."""
    random = np.random.default_rng(4)
    return federation(random.normal(size=(20, 3)).astype(np.float32), random.normal(size=20).astype(np.float32), [(7, 2, 2), (5, 2, 2)], labels=())


def batches(client, n, size, steps):
    """The row numbers of (D, D', D'') in each local step of round 1. Which rows come is the library's draw; what is done with them is checked."""

    def some(position, key, epoch=0):
        return np.asarray(shuffle(jnp.asarray(position, jnp.int32), jnp.int32(n), key, epoch))

    key, per_epoch = jax.random.fold_in(purpose_key(0, "update", 1), client), -(-n // size)
    for t in range(steps):
        first = t % per_epoch * size
        own = some(np.arange(first, min(first + size, n)), key, t // per_epoch)
        d, d2 = (some(np.arange(min(size, n)), one) for one in jax.random.split(jax.random.fold_in(key, (1 << 30) + t)))
        yield d, own, d2


def entropy_hessian_times(x, w, v):
    """d/dt of the gradient at w + t v: with p = softmax(x w) and u = x v it is x' (p u - p (p . u)) / rows."""
    p = np.exp(x @ w)
    p, u = p / p.sum(1, keepdims=True), x @ v
    return x.T @ (p * u - p * (p * u).sum(1, keepdims=True)) / len(x)


@pytest.mark.parametrize(("variant", "wanted"), [("hf", 0.922078), ("exact", 0.922078), ("fo", 0.538462)])
def test_fixed_points(variant, wanted):
    """f_i = a_i/2 (w - b_i)^2, one step per round: the mean direction vanishes at w = sum c_i b_i / sum c_i, with c = a (1 - alpha a)^2 for the gradient of
    F_i and c = a (1 - alpha a) where the Hessian is left out."""
    c = A * (1 - 0.2 * A) ** (1 if variant == "fo" else 2)
    assert c @ B / c.sum() == pytest.approx(wanted, abs=1e-6)
    method = PerFedAvg(alpha=0.2, beta=0.5, steps=1, batch=1, variant=variant, delta=0.1)
    trained = train(method, quadratics(A, B), 80, **linear())
    assert_near(kernel(trained.server), wanted, 2e-6)


@pytest.mark.parametrize("delta", [0.01, 1.0, 30.0])
def test_on_quadratics_hf_is_exact_for_any_delta(delta):
    """The gradient is linear, so its central difference has no error; batches are proper parts of the rows, so D'' must be D'' in both."""
    exact = PerFedAvg(alpha=0.3, beta=0.1, steps=5, batch=2, variant="exact")
    wanted = train(exact, targets(), 3, **linear())
    got = train(dataclasses.replace(exact, variant="hf", delta=delta), targets(), 3, **linear())
    first_order = train(dataclasses.replace(exact, variant="fo"), targets(), 3, **linear())
    assert_near(got.server, wanted.server, 2e-5)
    assert abs(kernel(first_order.server) - kernel(wanted.server)).max() > 0.01


@pytest.mark.parametrize("model", ["mlp:6", pytest.param("lenet", marks=pytest.mark.long)])
def test_on_nets_hf_is_close_to_exact(model):
    """A thousand times closer than the variant without the Hessian, as long as w +- delta v lie on one side of all kinks (ReLU, pooling); hence a small
    delta, and no pixels of value 0. "lenet" also has our own convolution and pooling, twice differentiated."""
    x = np.random.default_rng(0).normal(size=(20, 8, 8)).astype(np.float32)
    fed = federation(x, np.arange(20, dtype=np.int32) % 3, [(12, 4, 4)])
    exact = PerFedAvg(alpha=0.2, beta=0.2, steps=1, batch=5, variant="exact", delta=1e-4)
    w, hf, fo = (
        np.concatenate([leaf.ravel() for leaf in leaves(train(dataclasses.replace(exact, variant=variant), fed, 1, models=(model,)).server)])
        for variant in ("exact", "hf", "fo")
    )
    assert np.linalg.norm(fo - w) > 0.01
    assert np.linalg.norm(hf - w) < 0.001 * np.linalg.norm(fo - w)


@pytest.mark.parametrize("variant", ["fo", "hf", "exact"])
def test_a_round_by_hand(variant):
    """w~ = w - alpha g(w; D); w <- w - beta (I - alpha H(w; D'')) g(w~; D') for softmax regression in NumPy, with ragged clients and a partial last batch.
    The server takes the plain mean although the clients have 7 and 5 rows."""
    fed, alpha, beta, delta = classes(), 0.4, 0.3, 0.05
    method = PerFedAvg(alpha=alpha, beta=beta, steps=4, batch=3, variant=variant, delta=delta)
    training = begin(method, fed, models=LINEAR)
    training.start()
    new = []
    for i in range(2):
        x, y = rows(fed, i)
        w = kernel(training.server)
        for d, d1, d2 in batches(i, len(x), 3, 4):
            v = entropy_gradient(x[d1], y[d1], w - alpha * entropy_gradient(x[d], y[d], w))
            if variant == "exact":
                v = v - alpha * entropy_hessian_times(x[d2], w, v)
            if variant == "hf":
                sides = [entropy_gradient(x[d2], y[d2], w + sign * delta * v) for sign in (1, -1)]
                v = v - alpha * (sides[0] - sides[1]) / (2 * delta)
            w = w - beta * v
        new.append(w)
    assert_near(kernel(train(method, fed, 1, models=LINEAR).server), np.mean(new, axis=0))


def test_a_step_descends_the_meta_objective():
    """Full batches, one client, one step: (w - w+) / beta is the gradient of F(w) = f(w - alpha grad f(w)), here by central differences of F in float64."""
    fed, alpha, beta = classes([(7, 2, 2)]), 0.5, 0.5
    x, y = rows(fed, 0)

    def F(w):
        return entropy(x, y, w - alpha * entropy_gradient(x, y, w))

    for variant in ("exact", "hf"):
        method = PerFedAvg(alpha=alpha, beta=beta, steps=1, batch=7, variant=variant)
        training = begin(method, fed, models=LINEAR)
        training.start()
        w = kernel(training.server)
        wanted, e = np.zeros_like(w), 1e-5
        for at in np.ndindex(w.shape):
            moved = np.zeros_like(w)
            moved[at] = e
            wanted[at] = (F(w + moved) - F(w - moved)) / (2 * e)
        training.step()
        assert_near((w - kernel(training.server)) / beta, wanted, 1e-4)


# BatchNorm enlarges rounding: only where tests are compiled as users compile
@pytest.mark.parametrize("model", ["mlp:6", pytest.param(normed, marks=pytest.mark.long)])
def test_alpha_0_is_fedavg_at_rate_beta(model):
    """Nothing is adapted and nothing corrected: one step on D' per batch of an epoch, in all variants; D and D'' do not disturb the draw of D'.
    The second model has BatchNorm: its statistics follow D' alone."""
    fed = equal_clients()
    model = model if isinstance(model, str) else model(fed)
    wanted = train(FedAvg(lr=0.1, epochs=2, batch=5), fed, 2, models=(model,))  # 2 epochs of 3 batches
    for variant in ("fo", "hf", "exact"):
        got = train(PerFedAvg(alpha=0.0, beta=0.1, steps=6, batch=5, variant=variant), fed, 2, models=(model,))
        assert_alike(got.server, wanted.server)
    other = train(PerFedAvg(alpha=0.1, beta=0.1, steps=6, batch=5), fed, 2, models=(model,))
    assert not np.array_equal(leaves(other.server)[-1], leaves(wanted.server)[-1])


def test_the_mean_is_uniform():
    """Clients of 9, 14 and 19 rows: the server has the plain mean of what each of them alone would have sent."""
    fed, method = small_digits(3), PerFedAvg(batch=4, steps=3)
    alone = [leaves(train(method, fed, 1, selector=Fixed(i)).server) for i in range(3)]
    assert_near(train(method, fed, 1).server, [np.mean(leaf, axis=0) for leaf in zip(*alone, strict=True)], 1e-6)


@pytest.mark.parametrize("adapt_steps", [0, 1, 3])
def test_adapting_by_hand(adapt_steps):
    """adapt_steps steps of rate alpha, each over all train rows of the client; none leaves the meta-model."""
    fed = classes()
    trained = train(PerFedAvg(alpha=0.4, batch=3, steps=2, adapt_steps=adapt_steps), fed, 1, models=LINEAR)
    for i, got in enumerate(adapted(trained)):
        w = kernel(trained.server)
        for _ in range(adapt_steps):
            w = w - 0.4 * entropy_gradient(*rows(fed, i), w)
        assert_near(kernel(got), w, 2e-6)


def scores(trained):
    """(model, split) -> [clients, 2] rows answered correctly and summed loss."""
    table = trained.training.evaluate().to_dicts()
    keys = {(row["model"], row["split"]) for row in table}
    return {key: np.array([[row["correct"], row["loss"]] for row in table if (row["model"], row["split"]) == key]) for key in keys}


def test_adapting_sees_train_rows_only():
    """With other pixels in every validation row test scores are the same bits, and the other way round; with other train rows, the personal model's differ."""
    clean = small_digits(3)
    method = PerFedAvg(alpha=0.5, batch=4, steps=2)
    trained = train(method, clean, 1)
    before = scores(trained)

    def unchanged(split):
        x = clean.x.copy()
        for first, n in zip(clean.start[split], clean.count[split], strict=True):
            x[first : first + n] = 16 - x[first : first + n]
        again = begin(method, dataclasses.replace(clean, x=x))
        again.restore(1, trained.server, {})
        return {key for key, table in scores(Trained(again, [])).items() if np.array_equal(table, before[key])}

    everything = set(before)
    assert len(everything) == 4
    assert unchanged("validation") == everything - {("personal", "validation"), ("global", "validation")}
    assert unchanged("test") == everything - {("personal", "test"), ("global", "test")}
    assert unchanged("train") == everything - {("personal", "validation"), ("personal", "test")}


def test_the_global_model_is_the_meta_model():
    """At the fixed point of A6 its test loss is a_i/2 (w - b_i)^2; the personal one that of w - alpha a_i (w - b_i)."""
    method = PerFedAvg(alpha=0.2, beta=0.5, steps=1, batch=1)
    trained = train(method, quadratics(A, B), 80, **linear())
    w = 0.922078
    squared = {model: scores(trained)[model, "test"][:, 1] for model in ("global", "personal")}  # the score is the squared error, twice f_i
    assert_near(squared["global"], A * (w - B) ** 2, 1e-4)
    assert_near(squared["personal"], A * ((1 - 0.2 * A) * (w - B)) ** 2, 1e-4)


def matrices():
    """Three clients f_i(w) = 1/2 (w - b_i)' A_i (w - b_i) in three dimensions, whose Hessians do not commute, and the federation of them."""
    random = np.random.default_rng(7)
    bases = np.linalg.qr(random.normal(size=(3, 3, 3)))[0]
    a = bases @ (random.uniform(0.3, 2.5, (3, 3, 1)) * np.swapaxes(bases, 1, 2))
    b = random.normal(size=(3, 3))
    return a, b, load("quadratic", a=a, b=b)


@pytest.mark.parametrize("variant", ["fo", "hf", "exact"])
def test_fixed_points_in_several_dimensions(variant):
    """With B_i = I - alpha A_i the gradient of F_i is B_i A_i B_i (w - b_i), so F is least at [sum B A B]^-1 sum B A B b; without the Hessian B_i A_i B_i
    becomes A_i B_i. There each client's model is w - alpha A_i (w - b_i), and no step along an axis lowers F where the variant follows its gradient."""
    alpha, (a, b, fed) = 0.3, matrices()
    B = np.eye(3) - alpha * a
    c = (a if variant == "fo" else B @ a) @ B
    w = np.linalg.solve(c.sum(0), np.einsum("ijk,ik->j", c, b))
    trained = train(PerFedAvg(alpha=alpha, beta=0.5, steps=1, batch=3, variant=variant, delta=1.0), fed, 150, **linear())
    assert_near(kernel(trained.server)[:, 0], w, 1e-5)
    for i, own in enumerate(adapted(trained)):
        assert_near(kernel(own)[:, 0], w - alpha * a[i] @ (w - b[i]), 1e-5)

    def F(w):
        left = np.einsum("ijk,ik->ij", B, w - b)  # of a client's model to its minimum
        return np.einsum("ij,ijk,ik->", left, a, left) / 2

    around = [F(w + 0.05 * d) - F(w) for d in (*np.eye(3), *-np.eye(3))]
    assert (min(around) > 0) == (variant != "fo")
