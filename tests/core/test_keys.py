"""Keys and the shuffle."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from atoll.core.keys import purpose_key, shuffle


@pytest.mark.parametrize("n", [1, 2, 3, 7, 20, 64, 601, 5000])
def test_a_shuffle_is_a_permutation(n):
    out = shuffle(jnp.arange(n, dtype=jnp.int32), jnp.int32(n), jax.random.key(n))
    assert sorted(np.asarray(out).tolist()) == list(range(n))


def test_all_orders_of_four_are_equally_likely():
    draws = 12_000
    keys = jax.random.split(jax.random.key(1), draws)
    orders = np.asarray(jax.jit(jax.vmap(lambda key: shuffle(jnp.arange(4, dtype=jnp.int32), jnp.int32(4), key)))(keys))
    counts = [int((orders == order).all(axis=1).sum()) for order in itertools.permutations(range(4))]
    assert sum(counts) == draws
    assert chisquare(counts).pvalue > 1e-4


def test_every_place_is_equally_likely_for_every_row():
    n, draws = 37, 20_000
    keys = jax.random.split(jax.random.key(2), draws)
    places = np.asarray(jax.jit(jax.vmap(lambda key: shuffle(jnp.array([0, 18, 36], jnp.int32), jnp.int32(n), key)))(keys))
    for column in places.T:
        assert chisquare(np.bincount(column, minlength=n)).pvalue > 1e-4


def test_neighbours_do_not_stay_neighbours():
    n = 1000
    order = np.asarray(shuffle(jnp.arange(n, dtype=jnp.int32), jnp.int32(n), jax.random.key(3)))
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.1
    assert (np.abs(np.diff(order)) == 1).sum() < 15  # two are expected


def test_each_epoch_has_an_order_of_its_own():
    at, n, key = jnp.arange(50, dtype=jnp.int32), jnp.int32(50), jax.random.key(0)
    orders = {tuple(np.asarray(shuffle(at, n, key, epoch)).tolist()) for epoch in range(20)}
    assert len(orders) == 20


def test_keys_differ_by_seed_purpose_and_round():
    data = {tuple(np.asarray(jax.random.key_data(purpose_key(s, p, r))).tolist()) for s in (0, 1) for p in ("update", "join") for r in (0, 1, 2)}
    assert len(data) == 12
