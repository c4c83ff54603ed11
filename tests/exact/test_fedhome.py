"""FedHome against FedAvg, its loss by hand, and SGD in NumPy on codes."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.local import fine_tune
from atoll.core.smote import encoded, smote
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedhome import D, FedHome
from atoll.study.training import check_method
from tests.exact.plain import key, sgd, weights
from tests.harness import assert_alike, assert_near, begin, federation, normed, small_digits, train

HOW = {"lr": 0.1, "epochs": 2, "batch": 4}
COUNTS = ((9, 3, 2), (4, 4, 4), (0, 5, 0), (6, 1, 0))  # scarce labels, even ones, one alone, one row


def vectors():
    """Clients with so many train rows of each label, of four values."""
    y = np.concatenate([np.repeat(np.arange(3), c) for c in COUNTS] + [np.arange(3)] * 2 * len(COUNTS)).astype(np.int32)
    x = (np.random.default_rng(0).normal(size=(len(y), 4)) + y[:, None]).astype(np.float32)
    return federation(x, y, [(sum(c), 3, 3) for c in COUNTS])


@functools.cache
def trained(engine="simulate"):
    return train(FedHome(**HOW, ft_epochs=2), vectors(), 2, engine=engine)


def ask(run, program, w=None):
    fed = run.training.fed
    return fed.ask(fed.everyone(), program, run.training.shared if w is None else w).reply


# BatchNorm enlarges rounding: only where tests are compiled as users compile
@pytest.mark.parametrize("model", ["mlp:6", pytest.param("normed", marks=pytest.mark.long)])
def test_without_reconstruction_the_common_model_is_fedavgs(model):
    """Bit for bit, also with BatchNorm; and the decoder stays what it was."""
    fed = small_digits(3)
    models = (normed(fed) if model == "normed" else model,)
    begun = begin(FedHome(**HOW, mu=0.0), fed, models=models)
    begun.start()
    home, avg = (train(m, fed, 2, models=models) for m in (FedHome(**HOW, mu=0.0), FedAvg(**HOW)))
    assert_alike(home.training.shared, avg.server)
    assert_alike(home.server.tree[D], begun.server.tree[D])


def test_one_step_by_hand():
    """From all rows at once: the gradient of the mean of cross-entropy + mu times the mean squared error of the four values."""
    fed = vectors()
    method = FedHome(lr=0.1, epochs=1, batch=0, mu=3.0)
    training = begin(method, fed)
    training.start()
    w = training.server.tree

    def loss(w, x, y):
        z = jax.nn.relu(x @ w["dense1"]["kernel"] + w["dense1"]["bias"])
        p = jax.nn.softmax(z @ w["head"]["kernel"] + w["head"]["bias"])
        d = w[D]
        again = jax.nn.relu(z @ d["dense"]["kernel"] + d["dense"]["bias"]) @ d["head"]["kernel"] + d["head"]["bias"]
        return jnp.mean(-jnp.log(p[jnp.arange(len(y)), y])) + 3 * jnp.mean((again - x) ** 2)

    n = fed.count["train"]
    g = [jax.grad(loss)(w, fed.x[first : first + c], fed.y[first : first + c]) for first, c in zip(fed.start["train"], n, strict=True)]
    wanted = jax.tree.map(lambda w, *g: w - 0.1 * sum(c * of for c, of in zip(n, g, strict=True)) / n.sum(), w, *g)
    training.step()
    assert_near(training.server.tree, wanted)


class Refined(NamedTuple):
    w: object
    x: object
    y: object
    n: object


def refined(run):
    """Every client's refined model, and its evened-out codes as made again by hand."""

    def look(k, w):
        e, _ = k.model.split(w, 1)
        even = smote(encoded(k, lambda rows: k.model.features(e, rows.x)), k.key_for(0))
        return Refined(run.training.method.personalize(k, w), *even.map(lambda rows: (rows.x, rows.y)), even.n)

    return ask(run, look)


@pytest.mark.parametrize("engine", ["simulate", "wire"])
def test_refining_is_sgd_of_the_head_on_even_codes(engine):
    """The encoder stays, bit for bit. The head is what SGD in NumPy makes of it, from codes of which each label has as many, if it had two."""
    run = trained(engine)
    e, h = run.training.engine.facts.models[0].split(run.training.shared, 1)
    found = refined(run)
    np.testing.assert_array_equal(found.n, [27, 12, 5, 7])
    for i in range(len(COUNTS)):
        own = jax.tree.map(lambda leaf, i=i: leaf[i], found.w)
        assert_alike({name: own.tree[name] for name in e.tree}, e.tree)
        n = int(found.n[i])
        wanted = sgd(weights(h), np.asarray(found.x[i][:n], np.float64), found.y[i][:n], 0.1, 2, 4, key("look", 2, i))
        assert_near(weights(own), wanted)
        assert np.abs(wanted[0] - weights(h)[0]).max() > 1e-3


def test_where_labels_are_even_refining_is_fine_tuning_the_head():
    run = trained()

    def tune(k, w):
        return fine_tune(k, w, 0.1, what="head", batch=4, epochs=2)

    def refine(k, w):
        return run.training.method.personalize(k, w)

    refine.__name__ = tune.__name__  # the same randomness
    tuned, own = (jax.tree.map(lambda leaf: leaf[1], ask(run, program)) for program in (tune, refine))
    assert_near(own, tuned, 1e-6)


def test_without_refining_clients_predict_with_the_common_model():
    run = train(FedHome(**HOW, ft_epochs=0), vectors(), 2)
    scores = run.training.evaluate()
    np.testing.assert_array_equal(*(scores.filter(model=model)["loss"].to_numpy() for model in ("personal", "global")))
    assert scores["loss"].is_finite().all()
    refined = trained().training.evaluate().filter(model="personal")["loss"]
    assert (refined - scores.filter(model="global")["loss"]).abs().min() > 1e-4


def test_what_has_no_codes_or_no_labels_is_refused():
    fed = vectors()
    with pytest.raises(AtollError, match="no codes or no labels"):
        check_method(FedHome(), begin(FedHome(), fed, models=("softmax",)).engine.facts)
    plain = federation(fed.x[:9], np.zeros(9, np.float32), [(1, 1, 1)] * 3, labels=())
    with pytest.raises(AtollError, match="no codes or no labels"):
        check_method(FedHome(), begin(FedHome(), plain).engine.facts)
    tokens = federation(np.ones((9, 3), np.int32), np.arange(9, dtype=np.int32) % 2, [(1, 1, 1)] * 3)
    with pytest.raises(AtollError, match="takes none"):
        check_method(FedHome(), begin(FedHome(), tokens, models=("gru:vocabulary=5",)).engine.facts)
    with pytest.raises(AtollError, match="tokens"):
        train(FedHome(), tokens, 1)
