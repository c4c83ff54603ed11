"""HypCluster against FedAvg with one hypothesis, and with several against NumPy: how it begins, one round, and its objective."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from atoll.core.candidates import smallest
from atoll.core.keys import host_generator
from atoll.methods.fedavg import FedAvg
from atoll.methods.hypcluster import HypCluster
from tests.exact.plain import add, first_model, gradient, key, loss, rows, sgd, weights
from tests.harness import assert_alike, assert_near, begin, small_digits, train

SOFTMAX = ("softmax",)


def hypotheses(h, q):
    return [weights(jax.tree.map(lambda leaf, i=i: leaf[i], h)) for i in range(q)]


def choices(fed, h):
    """[clients] the hypothesis of the smallest loss on each client's train rows, unseen clients included."""
    return np.array([np.argmin([loss(w, *rows(fed, k)) for w in h]) for k in range(len(fed.names))])


def test_one_hypothesis_is_fedavg():
    """On ragged clients: every row counts alike."""
    how = {"models": SOFTMAX, "per_round": 3}
    got = train(HypCluster(lr=0.05, epochs=2, batch=5, q=1, candidates=0), small_digits(4), 2, **how)
    assert_alike(jax.tree.map(lambda leaf: leaf[0], got.server), train(FedAvg(lr=0.05, epochs=2, batch=5), small_digits(4), 2, **how).server)


def test_the_objective_never_rises():
    """With one full-batch step per round a hypothesis moves by the gradient of the mean over the rows of its clients, and then they choose anew: neither
    raises sum_k m_k min_i L_k(h_i). By hand, with clients that change their choice on the way and an unseen one, who chooses as they do."""
    fed = dataclasses.replace(small_digits(6), seen=5)
    training = begin(HypCluster(lr=0.3, epochs=1, batch=0, q=3, candidates=0), fed, models=SOFTMAX)
    training.start()
    h = hypotheses(training.server, 3)
    h[2] = add(h[2], h[2], 50.0)  # nobody's choice
    training.restore(0, jax.tree.map(lambda leaf: leaf.at[2].multiply(51.0), training.server), {})
    said, objective = [], []
    for _ in range(8):
        f = choices(fed, h)
        said.append(f)
        objective.append(sum(loss(h[f[k]], *rows(fed, k)) for k in range(5)))
        for i in range(2):
            x, y = (np.concatenate(part) for part in zip(*[rows(fed, k) for k in range(5) if f[k] == i], strict=True))
            h[i] = add(h[i], gradient(h[i], x, y), -0.3)
        training.step()
        assert_near(hypotheses(training.server, 2), h[:2], 1e-5)
        found = training.evaluate().filter(split="test", model="personal").sort("client")["cluster"].to_numpy()
        np.testing.assert_array_equal(found, choices(fed, h))
    assert_alike(hypotheses(training.server, 3)[2], [part.astype(np.float32) for part in h[2]])
    assert all(set(f.tolist()) == {0, 1} for f in said)
    assert any((a != b).any() for a, b in itertools.pairwise(said))
    assert (np.diff(objective) < 0).all()


def test_the_start_is_farthest_first():
    """Candidates train the first model; the second and third hypotheses are the models of those whom the hypotheses so far serve worst."""
    fed = small_digits(5)
    training = begin(HypCluster(lr=0.2, batch=4, q=3, candidates=4, start_epochs=2), fed, models=SOFTMAX)
    w = weights(first_model(training))
    random = host_generator(0, "candidates", 0)
    C = sorted(random.choice(5, 4, replace=False).tolist())
    after = {k: sgd(w, *rows(fed, k), 0.2, 2, 4, key("begin", 0, k)) for k in C}
    chosen = [C[random.integers(4)]]
    for _ in range(2):
        worst = {k: min(loss(after[j], *rows(fed, k)) / fed.count["train"][k] for j in chosen) for k in C if k not in chosen}
        chosen.append(max(worst, key=lambda k: worst[k]))
    assert_near(hypotheses(training.server, 3), [after[k] for k in chosen])
    nbytes = 4 * (64 + 1) * 10
    assert training.fed.traffic.down[:5].tolist() == [3 * nbytes * (k in C) for k in range(5)]
    assert training.fed.traffic.up[:5].tolist() == [(nbytes + 2 * 4) * (k in C) for k in range(5)]


def test_where_candidates_are_too_few_the_rest_is_random():
    training = begin(HypCluster(q=3), small_digits(2), models=SOFTMAX)
    training.start()
    assert_alike(hypotheses(training.server, 3)[2], weights(training.engine.facts.models[0].init(training.fed.key("init 2"))))


def test_a_hypothesis_that_blew_up_is_nobodys_choice():
    assert int(smallest(jnp.array([jnp.nan, 2.0, 1.0, 1.0]))) == 2
    assert int(smallest(jnp.array([jnp.nan, jnp.inf]))) == 0
