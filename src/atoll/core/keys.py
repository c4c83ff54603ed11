"""Randomness is a key: made from (seed, purpose, round, client), never from the order of calls.

So results do not depend on threads, chunks or engine, unsampled clients stay untouched, and a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import zlib

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def purpose_key(seed: int, purpose: str, round: int | Array) -> Array:
    """The key of one purpose ("update", "sample", "init", ...) in one round; fold a client's id in to get his own."""
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))
    return jax.random.fold_in(key, round)


def common_key(seed: int) -> Array:
    """The key of everything that server and clients draw alike, first of all the initial model: `fed.key()` in `init`, `k.common_key` at a client."""
    return purpose_key(seed, "server init", 0)


def host_generator(seed: int, purpose: str, round: int) -> np.random.Generator:
    """A NumPy generator for server-side draws (which clients to ask), from the same three things."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), round])


def shuffle(position: Array, n: Array, key: Array, rounds: int = 32) -> Array:
    """Where `position` goes under a random permutation of 0..n-1, computed for these positions alone.

    Swap-or-not (Hoang, Morris, Rogaway, CRYPTO 2012): each round pairs i with K - i mod n and swaps the pair or not by a hash bit. It works for
    every n, known only at run time, and costs O(len(position)): a client's epoch is shuffled without an array of the longest client's length.

    position: int32 [...], values >= n give meaningless results and must be masked by the caller. n: int32 scalar >= 1.
    """
    words = jax.random.key_data(key).astype(jnp.uint32).reshape(-1)
    seed_a, seed_b = words[0], words[-1]
    size = n.astype(jnp.uint32)
    i = position.astype(jnp.uint32)
    for r in range(rounds):
        pivot = _mix(seed_a + jnp.uint32(0x9E3779B9) * jnp.uint32(r + 1)) % size
        partner = jnp.where(i <= pivot, pivot - i, pivot + size - i)
        swap = _mix(jnp.maximum(i, partner) ^ _mix(seed_b + jnp.uint32(r + 1))) >> 31
        i = jnp.where(swap == 1, partner, i)
    return i.astype(jnp.int32)


def _mix(h: Array) -> Array:
    """Finaliser of MurmurHash3: every input bit reaches every output bit."""
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)
