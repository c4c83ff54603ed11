"""Folds against NumPy."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.fold import EachMean, ElementMean, GroupMean, Mean, Sum, TrimmedMean, median


class Reply(NamedTuple):
    w: object
    weight: object


class Grouped(NamedTuple):
    w: object
    group: object
    weight: object


random = np.random.default_rng(0)
W, N = random.normal(size=(7, 3)).astype(np.float32), random.integers(1, 9, 7).astype(np.float32)


def fold(kind, replies, cut=3):
    """As an engine does: two running totals, merged."""
    totals = []
    for part in (replies[:cut], replies[cut:]):
        total = kind.start(replies[0])
        for reply in part:
            total = kind.add(total, reply)
        totals.append(total)
    return kind.finish(kind.merge(*totals))


def test_mean_weighs():
    out = fold(Mean(), [Reply(jnp.asarray(w), jnp.float32(n)) for w, n in zip(W, N, strict=True)])
    np.testing.assert_allclose(out.w, np.average(W, axis=0, weights=N), rtol=1e-6)
    assert float(out.weight) == N.sum()


def test_mean_of_one_reply_is_that_reply_bit_for_bit():
    kind = Mean()
    out = kind.finish(kind.add(kind.start(Reply(W[0], N[0])), Reply(jnp.asarray(W[0]), jnp.float32(N[0]))))
    np.testing.assert_array_equal(out.w, W[0])


def test_mean_of_each_weighs_side_by_side():
    """Three things in every reply, each with a weight of its own; nobody has the last."""
    n = random.integers(0, 3, (7, 3)).astype(np.float32) * [1, 1, 0]
    x = random.normal(size=(7, 3, 4)).astype(np.float32)
    out = fold(EachMean(), [Reply(jnp.asarray(a), jnp.asarray(b, jnp.float32)) for a, b in zip(x, n, strict=True)])
    for thing in range(2):
        np.testing.assert_allclose(out.w[thing], np.average(x[:, thing], axis=0, weights=n[:, thing]), rtol=1e-5)
    np.testing.assert_array_equal(out.w[2], 0)
    np.testing.assert_array_equal(out.weight, n.sum(0))


def test_mean_with_weights_of_zero_is_finite():
    out = fold(Mean(), [Reply(jnp.asarray(w), jnp.float32(0)) for w in W])
    assert np.isfinite(np.asarray(out.w)).all()


def test_sum_of_what_is_computed_from_each_reply():
    out = fold(Sum(lambda reply: (reply.w * reply.w, reply.weight, 1)), [Reply(jnp.asarray(w), jnp.float32(n)) for w, n in zip(W, N, strict=True)])
    np.testing.assert_allclose(out[0], (W**2).sum(0), rtol=1e-6)
    assert (float(out[1]), int(out[2])) == (N.sum(), 7)


def test_group_mean():
    groups = np.array([0, 2, 2, 0, 2, 0, 2])
    out = fold(GroupMean(3), [Grouped(jnp.asarray(w), jnp.int32(g), jnp.float32(n)) for w, g, n in zip(W, groups, N, strict=True)])
    for g in (0, 2):
        mine = groups == g
        np.testing.assert_allclose(out.w[g], np.average(W[mine], axis=0, weights=N[mine]), rtol=1e-6)
    np.testing.assert_allclose(out.weight, [N[groups == g].sum() for g in range(3)])


def test_element_mean_counts_owners():
    def place(reply):
        size = reply.shape[0]
        return jnp.zeros(4).at[:size].set(reply), jnp.zeros(4).at[:size].set(1.0)

    kind = ElementMean(place)
    long, short = jnp.array([1.0, 2.0, 3.0]), jnp.array([5.0])
    a = kind.add(kind.start(long), long)
    b = kind.add(kind.start(short), short)
    mean, count = kind.merge(a, b)
    np.testing.assert_allclose(mean, [3, 2, 3, 0])
    np.testing.assert_allclose(count, [2, 1, 1, 0])


def test_median_and_trimmed_mean():
    stacked = Reply(W, N)
    np.testing.assert_allclose(median.finish(stacked).w, np.median(W, axis=0), rtol=1e-6)
    np.testing.assert_allclose(TrimmedMean(0.2).finish(stacked).w, np.sort(W, axis=0)[1:-1].mean(axis=0), rtol=1e-6)
    assert float(median.finish(stacked).weight) == 7


def test_what_a_fold_needs_is_said():
    with pytest.raises(AtollError, match="weight"):
        Mean().start((jnp.ones(2),))
    with pytest.raises(AtollError, match="group"):
        GroupMean(2).start(Reply(jnp.ones(2), jnp.ones(())))
    with pytest.raises(AtollError, match="share"):
        TrimmedMean(0.6)


def test_folds_trace():
    replies = Reply(jnp.asarray(W), jnp.asarray(N))
    kind = Mean()
    start = kind.start(jax.tree.map(lambda a: a[0], replies))
    out = jax.jit(lambda r: jax.lax.fori_loop(0, 7, lambda j, t: kind.add(t, jax.tree.map(lambda a: a[j], r)), start))(replies)
    np.testing.assert_allclose(out.w, np.average(W, axis=0, weights=N), rtol=1e-6)
