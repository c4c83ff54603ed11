"""Selectors: their arithmetic by hand, what they choose on real runs, and that they survive a stop."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr

from atoll.core.errors import AtollError
from atoll.core.fold import GroupMean, Watched, mean
from atoll.engine.codec import decode, encode
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedper import FedPer
from atoll.methods.fedprox import FedProx
from atoll.parts.conditions import Conditions
from atoll.parts.devices import Devices, devices
from atoll.parts.selection import TABLE, Uniform, selector
from atoll.parts.selection.cucb import CUCB, LabelGradients, State, divergence, shares
from atoll.parts.selection.drawing import draw
from atoll.parts.selection.favor import FAVOR, Memory, Net, q, remembered, reward, targets, trained
from atoll.parts.selection.fedsae import FedSAE
from atoll.parts.selection.tifl import TiFL, probabilities
from atoll.parts.selection.weighted import Weighted
from tests.harness import Trained, assert_near, assert_same, begin, federation, small_digits, train


class Reply(NamedTuple):
    w: Any
    group: Any
    weight: Any


LEARNERS = {
    "tifl": TiFL(2, tiers=3, interval=2),
    "tifl fast": TiFL(2, tiers=3, policy="fast"),
    "fedsae": FedSAE(2),
    "fassa": FedSAE(2, predict="fassa"),
    "cucb": CUCB(2),
    "favor": FAVOR(2, explore=0.5, updates=2),
    "weighted": Weighted(2),
}


def conditions(n: int) -> Conditions:
    return Conditions(devices=devices("tiers", tuple(map(str, range(n))), 0))


def learn(which, rounds=5, method=None, engine="simulate", n=6, **more):
    method = method or FedAvg(batch=5)
    how = {"selector": LEARNERS[which], "engine": engine, "conditions": conditions(n), "planned": rounds, **more}
    return train(method, small_digits(n, public=60), rounds, **how)


@pytest.mark.parametrize("which", LEARNERS)
def test_a_resumed_run_equals_an_uninterrupted_one(which):
    method = FedProx(batch=5, weighting="alike") if which == "weighted" else FedAvg(batch=5)
    whole, first = learn(which, method=method), learn(which, 3, method=method, planned=5)
    again = begin(method, small_digits(6, 60), selector=LEARNERS[which], conditions=conditions(6), planned=5)
    again.restore(3, decode(encode(first.server)), {}, decode(encode(first.training.fed.selection)))
    resumed = Trained(again, [*first.costs, again.step(), again.step()])
    assert_same(whole.server, resumed.server)
    assert_same(whole.training.fed.selection, again.fed.selection)
    assert [(c.cohort, c.bytes_down, c.bytes_up, c.sim_seconds) for c in whole.costs] == [
        (c.cohort, c.bytes_down, c.bytes_up, c.sim_seconds) for c in resumed.costs
    ]


@pytest.mark.parametrize("which", ["tifl", "fedsae", "cucb", "favor"])
def test_the_wire_chooses_and_pays_the_same(which):
    simulated, wired = learn(which), learn(which, engine="wire")
    assert_near(simulated.server, wired.server)
    for a, b in zip(simulated.costs, wired.costs, strict=True):
        assert (a.cohort, a.bytes_down, a.bytes_up, a.steps) == (b.cohort, b.bytes_down, b.bytes_up, b.steps)


@pytest.mark.parametrize("which", ["tifl", "fedsae"])
def test_private_states_and_personal_models_go_with_selectors(which):
    trained = learn(which, 3, method=FedPer(batch=5))
    assert np.isfinite(trained.training.evaluate()["loss"].to_numpy()).all()


@pytest.mark.parametrize(("which", "why"), [("cucb", "replies none"), ("favor", "has none")])
def test_methods_without_what_a_selector_looks_at_are_refused(which, why):
    with pytest.raises(AtollError, match=why):
        learn(which, 1, method=FedPer(batch=5))


def test_a_watched_fold_gives_what_the_fold_inside_gives():
    rng = np.random.default_rng(0)
    replies = Reply(rng.normal(size=(5, 3)).astype(np.float32), rng.integers(0, 2, 5).astype(np.int32), rng.uniform(1, 2, 5).astype(np.float32))
    for fold in (mean, GroupMean(2)):
        plain = fold.start(jax.tree.map(lambda a: jnp.asarray(a[0]), replies))
        for i in range(5):
            plain = fold.add(plain, jax.tree.map(lambda a, i=i: jnp.asarray(a[i]), replies))
        watched = Watched(fold).finish(replies)
        assert_near(fold.finish(plain), watched.reply, 1e-6)
        assert_same(watched.w, replies.w)


def test_draws_follow_their_probabilities():
    random, p = np.random.default_rng(0), np.array([0.5, 0.3, 0.2])
    counts = np.bincount([draw(random, np.arange(3), 1, p)[0] for _ in range(4000)], minlength=3) / 4000
    np.testing.assert_allclose(counts, p, atol=0.03)
    assert draw(random, np.array([4, 2]), 5).tolist() == [2, 4]


def test_weighted_asks_who_has_more_rows_more_often():
    fed = small_digits(4)  # 9, 14, 19, 24 rows
    training = begin(FedProx(weighting="alike"), fed, selector=Weighted(1))
    asked = []
    for round in range(1, 1200):
        training.fed.begin_round(round, None)
        asked.append(int(training.fed.sample()[0]))
    np.testing.assert_allclose(np.bincount(asked, minlength=4) / len(asked), np.array([9, 14, 19, 24]) / 66, atol=0.05)
    with pytest.raises(AtollError, match="weighting=alike"):
        train(FedProx(), fed, 1, selector=Weighted(2))


def test_weighing_alike_is_the_plain_mean():
    fed = small_digits(2)
    alone = [train(FedProx(batch=5), fed, 1, selector=_Only(i)).server.w for i in range(2)]
    both = train(FedProx(batch=5, weighting="alike"), fed, 1)
    assert_near(both.server.w, 0.5 * (alone[0] + alone[1]), 1e-6)


class _Only:
    def __init__(self, i):
        self.i = i

    def choose(self, fed):
        return np.array([self.i])


# TiFL


def test_tiers_with_less_accuracy_are_more_probable():
    np.testing.assert_allclose(probabilities(np.array([0.9, 0.2, 0.5]), np.array([1, 1, 1])), [1 / 6, 3 / 6, 2 / 6])
    np.testing.assert_allclose(probabilities(np.array([0.9, 0.2, 0.5]), np.array([1, 0, 1])), [1 / 3, 0, 2 / 3])


def test_tifl_asks_one_tier_at_a_time_and_pays_with_credits():
    n, rounds = 6, 12
    training = begin(FedAvg(batch=5), small_digits(n), selector=TiFL(2, tiers=3, interval=2), conditions=conditions(n), planned=rounds)
    training.start()
    speed = training.fed._conditions.devices.gflops
    first = training.step()
    assert first.cohort == n  # everybody is timed
    tier = training.fed.selection.tier
    for a in range(n):
        for b in range(n):
            if tier[a] < tier[b]:
                assert speed[a] >= speed[b] or _seconds(training, a) <= _seconds(training, b)
    picked = []
    for _ in range(rounds - 1):
        training.step()
        tiers = set(tier[training.fed.seen.chosen].tolist())
        assert len(tiers) == 1
        picked += tiers
        assert (training.fed.selection.credits >= 0).all()
    assert max(np.bincount(picked, minlength=3)) <= 4  # rounds / tiers


def _seconds(training, i):
    return training.fed.selection.latency[i]


def test_the_fast_tier_takes_the_time_of_its_slowest():
    n = 6
    d = Devices(*(np.full(n, v) for v in (1e9, 1e9, 1e9)), np.arange(1.0, n + 1), np.ones(n), np.zeros(n), np.zeros(n))  # nothing but latency
    fast = train(FedAvg(batch=5), small_digits(n), 4, selector=TiFL(2, tiers=3, policy="fast"), conditions=Conditions(devices=d), planned=4)
    np.testing.assert_allclose([c.sim_seconds for c in fast.costs], [6, 2, 2, 2], rtol=1e-5)


def test_a_look_at_the_tiers_is_paid_for():
    plain = learn("tifl fast", 3)
    looked = train(FedAvg(batch=5), small_digits(6, 60), 3, selector=TiFL(2, tiers=3, interval=3), conditions=conditions(6), planned=3)
    model = sum(leaf.nbytes for leaf in jax.tree.leaves(plain.server))
    assert looked.costs[2].bytes_down - plain.costs[2].bytes_down == 6 * model
    assert looked.costs[2].bytes_up - plain.costs[2].bytes_up == 6 * 4


def test_tifl_needs_a_clock():
    with pytest.raises(AtollError, match="devices"):
        train(FedAvg(), small_digits(6), 1, selector=TiFL(2))


# FedSAE


def test_fedsae_with_everything_affordable_is_fedavg():
    n = 4
    all_of_it = FedSAE(n, full=1.0, easy=1.0, hard=1.0)
    assert_same(train(FedAvg(batch=5), small_digits(n), 3, selector=all_of_it).server, train(FedAvg(batch=5), small_digits(n), 3).server)


class _Capacity:
    """Everybody manages the same share of the work."""

    timed = False

    def __init__(self, share):
        self.share = share

    def reachable(self, seed, round, ids):
        return np.ones(len(ids), bool)

    def budgets(self, seed, round, ids):
        return np.full(len(ids), self.share, np.float32)


@pytest.mark.parametrize("predict", ["ira", "fassa"])
def test_workloads_settle_below_what_a_client_affords(predict):
    training = begin(FedAvg(batch=2, epochs=3), small_digits(2), selector=FedSAE(2, predict=predict), conditions=_Capacity(8 / 15))
    training.start()
    done = []
    for _ in range(40):
        L, H = training.fed.selection.L.copy(), training.fed.selection.H.copy()
        training.step()
        assert (L > 0).all()
        assert (L <= H).all()
        work = training.fed.seen.work * 15
        assert ((work == 0) == (L > 8 + 1e-6)).all()  # nothing comes back where even the easy work is too much
        expected = np.where(H <= 8 + 1e-6, H, np.where(L <= 8 + 1e-6, L, 0))
        np.testing.assert_allclose(work, expected, atol=1e-4)
        done.append(work.mean())
    assert 4 <= np.mean(done[5:]) <= 8


def test_one_step_of_ira_and_of_fassa_by_hand():
    for share, predict, expected in (
        (1.0, "ira", (1 + 10 / 1, 2 + 10 / 2)),  # success: 11 and 7, sorted
        (1.5 / 15, "ira", (1.0, 11.0)),  # the easy task: L + U/L, H/2
        (0.5 / 15, "ira", (0.5, 1.0)),  # nothing
        (1.0, "fassa", (1 + 3, 2 + 1)),  # success with theta = what was done = 2: above L, not above H
        (1.5 / 15, "fassa", (1 + 1, 2 / 2)),
    ):
        training = begin(FedAvg(batch=2), small_digits(2), selector=FedSAE(2, predict=predict), conditions=_Capacity(share))
        training.start()
        training.step()
        np.testing.assert_allclose(training.fed.selection.L, min(expected), rtol=1e-6)
        np.testing.assert_allclose(training.fed.selection.H, max(expected), rtol=1e-6)


class _InTwoAsks:
    """Chooses clients 0, 1 and 2; what it is asked of them differs from round to round."""

    def choose(self, fed):
        return np.array([2, 0, 1])


def test_work_is_seen_of_everyone_who_was_asked_whatever_the_order_of_asks():
    fed = begin(FedAvg(batch=5), small_digits(4), selector=_InTwoAsks())
    fed.start()
    f = fed.fed
    f.begin_round(1, fed.shared)
    f.ask(f.sample()[1:2], FedAvg(batch=5).update, fed.server)  # a newcomer first
    np.testing.assert_array_equal(f.seen.work, [np.nan, 1, np.nan])
    f.ask(f.sample()[:2], FedAvg(batch=5).update, fed.server)
    np.testing.assert_array_equal(f.seen.work, [1, 1, np.nan])


def test_fedsae_learns_nothing_of_those_that_were_not_asked():
    training = begin(FedAvg(batch=2), small_digits(3), selector=FedSAE(2))
    training.start()
    before = training.fed.selection
    training.fed.begin_round(1, training.shared)
    training.fed.sample()
    training.fed.end_round(training.shared)
    assert_same(before, training.fed.selection)
    training.fed.begin_round(2, training.shared)
    chosen = training.fed.sample()
    training.fed.ask(chosen[:1], training.method.update, training.server)
    training.fed.end_round(training.shared)
    after = training.fed.selection
    assert (after.H[chosen[0]], *after.H[chosen[1:]]) == (max(1 + 10, 2 + 5), *before.H[chosen[1:]])


def test_theta_remembers_all_or_the_last():
    for alpha in (0.0, 1.0):
        training = begin(FedAvg(batch=2), small_digits(2), selector=FedSAE(2, alpha=alpha))
        training.start()
        training.step()
        first = training.fed.selection.theta.copy()
        training.step()
        np.testing.assert_allclose(training.fed.selection.theta, first if alpha else training.fed.seen.work * 15, rtol=1e-6)


def test_clients_with_large_losses_are_asked_more_often():
    training = begin(FedAvg(), small_digits(3), selector=FedSAE(1, sharpness=1.0))
    training.start()
    s = training.fed.selection
    training.fed.selection = s._replace(loss=np.array([0.1, 0.1, 2.0]))
    asked = []
    for round in range(1, 300):
        training.fed.begin_round(round, None)
        asked.append(int(training.fed.sample()[0]))
    assert np.mean(np.array(asked) == 2) > 0.9


# CUCB


def test_ten_clients_with_a_label_each_are_all_taken():
    y = np.tile(np.arange(10), 3).astype(np.int32)
    fed = federation(np.zeros((60, 4), np.float32), np.repeat(np.arange(10), 6).astype(np.int32), [(1, 1, 1)] * 20, public=(np.zeros((30, 4), np.float32), y))
    training = begin(FedAvg(), fed, selector=CUCB(10, exploration=0.0))
    training.fed.begin_selection(None)
    exact = np.eye(10)[np.repeat(np.arange(10), 2)]  # of 20 clients, two for each label
    training.fed.selection = State(np.ones(20, int), exact, np.ones(20))
    for round in range(1, 6):
        training.fed.begin_round(round, None)
        S = training.fed.sample()
        assert sorted((S // 2).tolist()) == list(range(10))
    assert divergence(np.full(10, 3.0)) == pytest.approx(1e-6)
    assert divergence(np.eye(10)[0]) == pytest.approx(np.log(10))


def test_everybody_is_seen_before_anybody_twice():
    training = begin(FedAvg(batch=5), small_digits(7, 60), selector=CUCB(3))
    training.start()
    for _ in range(3):
        training.step()
    assert (training.fed.selection.T >= 1).all()


def test_gradients_tell_the_labels():
    """Of clients with ragged labels: the more rows of a label, the smaller its gradient."""
    rng = np.random.default_rng(0)
    from sklearn.datasets import load_digits

    d = load_digits()
    order = rng.permutation(len(d.target))
    x, y = d.images[order].astype(np.float32), d.target[order].astype(np.int32)
    used, clients, counts = 100, [], []
    for _ in range(12):
        p = rng.dirichlet(np.ones(10))
        rows = rng.choice(np.arange(used, len(y)), 60, replace=False, p=p[y[used:]] / p[y[used:]].sum())
        clients.append(rows)
        counts.append(np.bincount(y[rows], minlength=10))
    at = np.concatenate(clients)
    fed = federation(np.concatenate([x[at], x[:24]]), np.concatenate([y[at], y[:24]]), [(60, 1, 1)] * 12, public=(x[:used], y[:used]), scale=1 / 16)
    training = begin(FedAvg(epochs=10, batch=10), fed, models=("softmax",), selector=CUCB(12))
    training.start()
    training.step()
    g = np.asarray(training.fed.at_server(LabelGradients(), training.fed.seen.w))
    assert spearmanr((1 / g).ravel(), np.array(counts).ravel()).statistic > 0.8
    np.testing.assert_allclose(shares(g, 1.0).sum(axis=1), 1, rtol=1e-6)


# FAVOR


def test_rewards_and_targets_by_hand():
    assert reward(0.99, 0.99, 64.0) == 0
    assert reward(0.0, 0.99, 64.0) == pytest.approx(64**-0.99 - 1)
    rng = np.random.default_rng(1)

    def net():
        return Net(*(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((4, 8), (8,), (8, 3), (3,))))

    a, b, r, after = net(), net(), jnp.asarray([0.5, -1.0]), jnp.asarray(rng.normal(size=(2, 4)), jnp.float32)
    assert_near(targets(a, a, r, after, 0.9), r + 0.9 * q(a, after).max(axis=1))
    best = np.asarray(q(a, after)).argmax(axis=1)
    assert_near(targets(a, b, r, after, 0.9), r + 0.9 * np.asarray(q(b, after))[[0, 1], best])


def test_the_agent_finds_the_client_that_helps():
    """Three clients, of which only number 1 brings a reward."""
    rng = np.random.default_rng(0)
    theta = Net(*(jnp.asarray(rng.normal(scale=0.3, size=shape), jnp.float32) for shape in ((8, 32), (32,), (32, 3), (3,))))
    s = rng.normal(size=(30, 8)).astype(np.float32)
    chosen = np.eye(3, dtype=np.float32)[np.arange(30) % 3]
    memory = Memory(s, chosen, np.where(np.arange(30) % 3 == 1, 0.0, -1.0).astype(np.float32), s)
    import optax

    moments = jax.tree.leaves(optax.adam(1e-2).init(theta))
    learned, _ = trained(theta, theta, moments, memory, rng.integers(0, 30, (300, 16)), 1e-2, 0.0)
    assert (np.asarray(q(learned, s)).argmax(axis=1) == 1).mean() > 0.8  # by chance a third


def test_memory_forgets_the_oldest():
    memory = Memory(np.zeros((2, 4), np.float32), np.zeros((2, 3), np.float32), np.zeros(2, np.float32), np.zeros((2, 4), np.float32))
    for t in range(3):
        memory = remembered(memory, t, np.full((2, 2), t), np.ones(3), float(t), np.full((2, 2), t + 1))
    assert memory.r.tolist() == [2.0, 1.0]
    assert memory.s[0].tolist() == [2.0] * 4


def test_exploring_always_is_uniform():
    training = learn("favor", 2).training
    training.fed._selector = FAVOR(2, explore=1.0)
    counts = np.zeros(6)
    for round in range(3, 603):
        training.fed.begin_round(round, None)
        counts[training.fed.sample()] += 1
    np.testing.assert_allclose(counts / 600, 2 / 6, atol=0.07)


# by name


def test_selectors_are_read_from_text():
    assert selector("uniform", None) == Uniform()
    assert selector("tifl:tiers=3,policy=fast", 4) == TiFL(4, tiers=3, policy="fast")
    assert {row.name for row in TABLE} == {"uniform", "weighted", "tifl", "fedsae", "cucb", "favor"}
    for text, n, why in (
        ("tilf", 2, "tifl"),
        ("tifl", None, "--per-round"),
        ("tifl:tiers", 2, "no value"),
        ("tifl:tiers=x", 2, "whole number"),
        ("tifl:tears=3", 2, "tiers"),
        ("favor:per_round=3", 2, "--per-round"),
        ("tifl:policy=quick", 2, "adaptive"),
    ):
        with pytest.raises(AtollError, match=why):
            selector(text, n)
