"""Randomness is a key: made from (seed, purpose, round, client), never from the order of calls.

So results do not depend on threads, chunks or engine, unsampled clients stay untouched, and a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

ROUNDS = 32  # of swap-or-not; each at least halves what is left of the order, for up to 2**32 rows


def purpose_key(seed: int, purpose: str, round: int | Array) -> Array:
    """The key of one purpose ("update", "sample", "init", ...) in one round; fold a client's id in to get his own."""
    return jax.random.fold_in(jax.random.wrap_key_data(jnp.asarray(purpose_data(seed, purpose))), round)


@functools.lru_cache(maxsize=4096)
def purpose_data(seed: int, purpose: str) -> np.ndarray:
    """The data (uint32) of the key into which `purpose_key` folds the round."""
    with jax.ensure_compile_time_eval():
        return np.asarray(jax.random.key_data(jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))))


def common_key(seed: int) -> Array:
    """The key of everything that server and clients draw alike, first of all the initial model: `fed.key()` in `init`, `k.common_key` at a client."""
    return purpose_key(seed, "server init", 0)


@functools.lru_cache(maxsize=64)
def common_data(seed: int) -> np.ndarray:
    """The data (uint32) of `common_key`."""
    with jax.ensure_compile_time_eval():
        return np.asarray(jax.random.key_data(common_key(seed)))


def host_generator(seed: int, purpose: str, round: int) -> np.random.Generator:
    """A NumPy generator for server-side draws (which clients to ask), from the same three things."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), round])


def shuffle(position: Array, n: Array, key: Array, epoch: Array | int = 0) -> Array:
    """Where `position` goes under a random permutation of 0..n-1, computed for these positions alone.

    Swap-or-not (Hoang, Morris, Rogaway, CRYPTO 2012): each round pairs i with K - i mod n and swaps the pair or not by a hash bit. It works for
    every n, known only at run time, and costs O(len(position)): a client's epoch is shuffled without an array of the longest client's length.

    position: int32 [...], values >= n give meaningless results and must be masked by the caller. n: int32 scalar >= 1. Each `epoch` has a
    permutation of its own.
    """
    with jax.disable_jit(False):  # some hundred small operations: compiled even where programs are not
        return _swap_or_not(position, n, jax.random.key_data(key), jnp.asarray(epoch, jnp.uint32))


@functools.partial(jax.jit, inline=True)
def _swap_or_not(position: Array, n: Array, words: Array, epoch: Array) -> Array:
    size = n.astype(jnp.uint32)
    seed = _mix(words.astype(jnp.uint32).reshape(-1)[jnp.array([0, -1])] + _mix(epoch))

    def one(r: Array, i: Array) -> Array:
        odd = jnp.uint32(0x9E3779B9) * (r.astype(jnp.uint32) + 1)
        pivot = _mix(seed[0] + odd) % size
        partner = jnp.where(i <= pivot, pivot - i, pivot + size - i)
        swap = _mix(jnp.maximum(i, partner) ^ _mix(seed[1] + odd)) >> 31
        return jnp.where(swap == 1, partner, i)

    # a loop, not 32 copies: XLA compiles a small loop into one call, and would run the copies' scalars as 32 tasks on its thread pool
    return jax.lax.fori_loop(0, ROUNDS, one, position.astype(jnp.uint32)).astype(jnp.int32)


def _mix(h: Array) -> Array:
    """Finaliser of MurmurHash3: every input bit reaches every output bit."""
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)
