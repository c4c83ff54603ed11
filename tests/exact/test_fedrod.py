"""FedRoD: balanced softmax in closed form, two rounds in NumPy, and who moves whom."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atoll.core.errors import AtollError
from atoll.core.keys import shuffle
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedrod import FedRoD, balanced
from atoll.models import build, own
from tests.exact import dense
from tests.exact.plain import add, first_model, key, loss, rows, weights
from tests.harness import Fixed, assert_alike, assert_near, begin, small_digits, train


def test_balanced_softmax_in_closed_form():
    """-log(n_y^g e^o_y / sum_c n_c^g e^o_c), with gradient softmax - onehot; a label without rows takes no part."""
    n, g = np.array([5.0, 0.0, 1.0, 20.0]), 0.7
    out, y = np.random.default_rng(0).normal(size=(6, 4)) * 3, np.array([0, 2, 3, 3, 0, 2])

    def value(out):
        return optax.softmax_cross_entropy_with_integer_labels(balanced(out, jnp.asarray(n), g), jnp.asarray(y)).sum()

    power = n**g * np.exp(out)
    p = power / power.sum(1, keepdims=True)
    got, slope = jax.value_and_grad(value)(jnp.asarray(out, jnp.float32))
    assert_near(got, -np.log(p[np.arange(6), y]).sum())
    assert_near(slope, p - np.eye(4)[y])
    assert (np.asarray(slope)[:, 1] == 0).all()


def numpy_round(pair, x, y, lr, batch, key, gamma):
    """One epoch of (W, b), (H, c) on softmax regression, where the features are the rows themselves."""
    w, h = pair
    n = np.bincount(y, minlength=len(w[1])).astype(float)
    order = np.asarray(shuffle(jnp.arange(len(x), dtype=jnp.int32), jnp.int32(len(x)), key, 0))
    for at in range(0, len(x), batch):
        some = order[at : at + batch]
        x_, hot = x[some], np.eye(len(n))[y[some]]
        out = x_ @ w[0] + w[1]
        e_w, e_h = (v / v.sum(1, keepdims=True) - hot for v in (n**gamma * np.exp(out), np.exp(out + x_ @ h[0] + h[1])))
        w, h = (add(v, (x_.T @ e / len(some), e.mean(0)), -lr) for v, e in ((w, e_w), (h, e_h)))
    return w, h


def test_two_rounds_in_numpy():
    """Ragged clients that lack labels. The personal head learns on g as it is at each batch, and both predict together."""
    fed = small_digits(3)
    training = begin(FedRoD(lr=0.2, batch=4, gamma=0.7), fed, models=("softmax",))
    w = weights(first_model(training))
    h = [add(w, w, -1.0)] * 3
    n = fed.count["train"] / fed.count["train"].sum()
    for t in (1, 2):
        pairs = [numpy_round((w, h[i]), *rows(fed, i), 0.2, 4, key("update", t, i), 0.7) for i in range(3)]
        h = [pair[1] for pair in pairs]
        w = tuple(sum(s * pair[0][j] for s, pair in zip(n, pairs, strict=True)) for j in range(2))
        training.step()
    assert_near(weights(training.server), w)
    states = training.engine.executor.dump_states()
    assert_near([weights(states[i]) for i in range(3)], h)
    table = [row for row in training.evaluate().to_dicts() if row["split"] == "test"]
    for i in range(3):
        found = {row["model"]: row["loss"] for row in table if row["client"] == i}
        x, y = rows(fed, i, "test")
        assert found["global"] == pytest.approx(loss(w, x, y), rel=1e-4)
        assert found["personal"] == pytest.approx(loss(add(w, h[i], 1.0), x, y), rel=1e-4)


def test_equal_label_counts_are_fedavg():
    fed = dense.equal_clients()  # four rows of each of three labels
    averaged, rod = (train(m, fed, 3) for m in (FedAvg(batch=4), FedRoD(batch=4)))
    assert_near(rod.server, averaged.server)


def test_the_common_model_does_not_depend_on_personal_heads():
    def after(change):
        training = begin(FedRoD(batch=4), small_digits(), models=("mlp:6",))
        training.start()
        training.step()
        states = training.engine.executor.dump_states()
        training.engine.executor.load_states({i: change(h) for i, h in states.items()})
        training.step()
        return training.server, training.engine.executor.dump_states()

    (one, heads), (other, moved) = after(lambda h: h), after(lambda h: 3.0 * h + 1.0)
    assert_alike(one, other)
    assert all((np.asarray(a) != np.asarray(b)).any() for a, b in zip(jax.tree.leaves(heads), jax.tree.leaves(moved), strict=True))


def test_who_has_not_trained_predicts_with_the_common_model():
    trained = train(FedRoD(batch=4), small_digits(3), 2, selector=Fixed(0, 1))
    table = trained.training.evaluate().to_dicts()
    for i in range(3):
        a, b = ([row["loss"] for row in table if row["client"] == i and row["model"] == model] for model in ("personal", "global"))
        assert (a == b) is (i == 2)


def test_models_it_can_not_work_with_are_refused():
    def init(key):
        return {"head": {"a": jax.random.normal(key, (64, 5)), "b": jax.random.normal(key, (5, 3))}}

    deep = own((init, lambda w, x: jax.nn.relu(x.reshape(len(x), -1) @ w["head"]["a"]) @ w["head"]["b"]), (8, 8), 3)
    with pytest.raises(AtollError, match="one linear layer"):
        FedRoD().check_model(deep)
    with pytest.raises(AtollError, match="classification"):
        FedRoD().check_model(build("softmax", (4,), 1, "regression"))
    FedRoD().check_model(build("mlp:6", (8, 8), 3))
