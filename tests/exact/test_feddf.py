"""FedDF against NumPy: averages per architecture, the ensemble's scores, and the distillation with Adam, its cosine and its clipping written out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.fold import apart
from atoll.methods.feddf import FedDF, Lesson
from atoll.models import build
from atoll.study.training import check_method
from tests.exact import dense
from tests.harness import Fixed, assert_alike, assert_near, begin, federation, small_digits, train

TWO = ("mlp:6", "softmax")
WORK = FedDF(epochs=1, batch=4, steps=3, distil_batch=8, distil_lr=0.01, clip=0.03)  # of six public rows a batch has all


def softmax(z):
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def started(method, fed, models=TWO, **how):
    training = begin(method, fed, models=models, **how)
    training.start()
    return training


def replies(training):
    """What clients answer in round 1: of each architecture (its clients' places, their models)."""
    training.fed.begin_round(1, training.shared)
    each = [training.server[str(p)] for p in training.fed.architecture[: training.fed.n]]
    return training.fed.ask(training.fed.everyone(), training.method.update, each=each, reduce=apart).reply


def test_a_round_by_hand():
    """Averages are of an architecture's own clients alone; all clients' mean scores teach every average."""
    fed = small_digits(4, public=6)
    training = started(WORK, fed)
    parts = replies(training)
    assert [part.at.tolist() for part in parts] == [[0, 2], [1, 3]]
    models = [[dense.weights(jax.tree.map(lambda leaf, n=n: leaf[n], part.reply.x)) for n in range(2)] for part in parts]
    x = fed.public[0].reshape(6, -1) / 16
    teacher = softmax(np.mean([dense.logits(w, x)[0] for of in models for w in of], axis=0))
    training.step()
    clipped = 0
    for p in range(2):
        w = dense.mean(models[p], [0.5, 0.5])
        m, v = (jax.tree.map(np.zeros_like, w) for _ in range(2))
        for t in range(3):
            g = gradient(w, x, teacher)
            norm = np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(g)))
            clipped += norm > 0.03
            g = jax.tree.map(lambda leaf, norm=norm: leaf * min(1, 0.03 / norm), g)
            m, v = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, m, g), jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b**2, v, g)
            rate = 0.01 * (1 + np.cos(np.pi * t / 3)) / 2
            w = jax.tree.map(lambda w, m, v, r=rate, t=t: w - r * m / (1 - 0.9 ** (t + 1)) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8), w, m, v)
        assert_near(training.server[str(p)].tree, w, 1e-4)
    assert clipped > 0


@pytest.mark.parametrize("asked", [[1, 3], [0]], ids=["linear models", "one client"])
def test_some_have_nothing_to_learn(asked):
    """The mean score of linear models is the score of their mean; and one client alone says of its model what that says itself. The other average learns."""
    training = started(WORK, small_digits(4, public=6), selector=Fixed(*asked))
    own = replies(training)[asked[0] % 2]
    mean = jax.tree.map(lambda leaf: leaf[[i in asked for i in own.at]].mean(axis=0), own.reply.x)
    mine, other = str(asked[0] % 2), str(1 - asked[0] % 2)
    first = training.server[other]
    training.step()
    assert_alike(training.server[mine], mean)
    assert abs(training.server[other].tree["head"]["kernel"] - first.tree["head"]["kernel"]).max() > 1e-3


def gradient(w, x, teacher):
    """Of the mean KL(teacher || softmax(scores)) = cross-entropy with the teacher's probabilities, up to a constant."""
    z, inputs = dense.logits(w, x)
    error, out = (softmax(z) - teacher) / len(x), {}
    for name, a in reversed(list(zip(sorted(w), inputs, strict=True))):
        out[name] = {"kernel": a.T @ error, "bias": error.sum(0)}
        error = (error @ w[name]["kernel"].T) * (a > 0)
    return out


def test_a_number_added_to_all_scores_of_a_row_changes_nothing():
    training = started(WORK, small_digits(4, public=6))
    f = jnp.asarray(np.random.default_rng(0).normal(size=(6, 10)), jnp.float32)
    teachers, distil = (f, f + jnp.arange(6)[:, None], 2 * f), training.method.distil
    plain, moved, other = (training.fed.at_server(distil, Lesson(training.server["0"], given)) for given in teachers)
    assert_near(moved, plain, 1e-5)
    assert abs(other.tree["head"]["kernel"] - plain.tree["head"]["kernel"]).max() > 1e-4


def test_labels_of_the_public_rows_are_not_looked_at():
    fed = small_digits(4, public=6)
    turned = dataclasses.replace(fed, public=(fed.public[0], 9 - fed.public[1]))
    assert_alike(*(train(WORK, one, 1, models=TWO).server for one in (fed, turned)))


def test_what_it_can_not_work_with_is_refused():
    with pytest.raises(AtollError, match="public"):
        started(WORK, small_digits(2))
    with pytest.raises(AtollError, match="same: mlp, mlp"):
        started(WORK, small_digits(2, public=5), ("mlp:6", _twin()))
    numbers = federation(np.ones((12, 2), np.float32), np.arange(12, dtype=np.float32), [(2, 2, 2)] * 2, labels=())
    with pytest.raises(AtollError, match="for regression"):
        check_method(WORK, begin(WORK, numbers, models=("softmax",)).engine.facts)


def _twin():
    """Another model than mlp:6, with weights of the same shapes."""
    return dataclasses.replace(build("mlp:6", (8, 8), 10))
