"""Puts a federation's rows where programs run."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from atoll.core.program import SPLITS, Data
from atoll.core.rows import Flat
from atoll.data.federation import Federation

FIXED = 8  # what a pass costs beside its rows, in rows
CHUNKS = (16, 32, 64, 128)  # rows per pass where their order does not matter; larger ones are slower on a CPU


def place(fed: Federation, mix: int = 0) -> tuple[Data, ...]:
    """All rows of all clients in each phase of the federation: the same arrays, with tables that say where the phase's rows lie. mix: as in `mixed`.

    The last entry of the tables is the pool of the seen clients' train rows (which are contiguous from the phase's first row on).
    """
    phases, first = fed.phases, 0
    x, y = (getattr(fed, name) if len(phases) == 1 else np.concatenate([getattr(phase, name) for phase in phases]) for name in ("x", "y"))
    rows, room, public = flat(fed, x, y), rooms(longest(fed)), public_rows(fed)
    placed = []
    for phase, mixture in zip(phases, mixed(fed, mix), strict=True):
        start, count = {}, {}
        for split in SPLITS:
            pooled = int(phase.count["train"][: fed.seen].sum()) if split == "train" else 0
            start[split] = jnp.asarray(np.append(phase.start[split], 0) + first, jnp.int32)
            count[split] = jnp.asarray(np.append(phase.count[split], pooled), jnp.int32)
        placed.append(Data(rows, start, count, room, public, mixture))
        first += len(phase.x)
    return tuple(placed)


def place_one(fed: Federation, client: int, sizes: dict[str, int], mixture: Flat | None = None) -> Data:
    """The rows of one client alone in one phase, as a node holds them. Padded to `sizes` so that all nodes run one compiled program; padding is never read.

    mixture: rows of all clients of that phase, to score on.
    """
    xs, ys, start, count, at = [], [], {}, {}, 0
    for split in SPLITS:
        first, n = int(fed.start[split][client]), int(fed.count[split][client])
        for whole, parts in ((fed.x, xs), (fed.y, ys)):
            part = np.zeros((sizes[split], *whole.shape[1:]), whole.dtype)
            part[:n] = whole[first : first + n]
            parts.append(part)
        start[split], count[split] = jnp.asarray([at], jnp.int32), jnp.asarray([n], jnp.int32)
        at += sizes[split]
    return Data(flat(fed, np.concatenate(xs), np.concatenate(ys)), start, count, rooms(sizes), public_rows(fed), mixture)


def longest(fed: Federation) -> dict[str, int]:
    """Split -> the most rows that a client ever has in it, at least one. (The pool has more train rows: it has no room for them.)"""
    return {split: int(max(1, *(phase.count[split].max() for phase in fed.phases))) for split in SPLITS}


def rooms(sizes: dict[str, int]) -> dict[str, jax.Array]:
    """Bounds on the rows of a client, rounded up: programs are compiled for them, and federations that differ little (in their seed, say) share these."""
    train, most = (rounded_up(n) for n in (sizes["train"], max(sizes.values())))
    return {split: jnp.zeros((train if split == "train" else most, 0)) for split in SPLITS}


def rounded_up(n: int) -> int:
    """The least of 1, 2, 3, 4, 6, 8, 12, 16, 24, ... (powers of two and the numbers midway) that is not below n."""
    power = 1 << (n - 1).bit_length()
    return power * 3 // 4 if n <= power * 3 // 4 and power >= 4 else power


def mixed(fed: Federation, rows: int) -> tuple[Flat | None, ...]:
    """For each phase so many test rows of all seen clients, or all where there are fewer. They are evenly spaced, so clients are in it in proportion.

    None for no rows.
    """
    if not rows:
        return (None,) * len(fed.phases)
    there = [int(phase.count["test"][: fed.seen].sum()) for phase in fed.phases]  # they lie side by side
    rows = min(rows, *there)
    made = []
    for phase, n in zip(fed.phases, there, strict=True):
        at = int(phase.start["test"][0]) + np.arange(rows) * n // rows
        made.append(flat(phase, phase.x[at], phase.y[at]))
    return tuple(made)


def public_rows(fed: Federation) -> Flat | None:
    return None if fed.public is None else flat(fed, *fed.public)


def flat(fed: Federation, x: np.ndarray, y: np.ndarray) -> Flat:
    shift, scale = (_per_value(value, x.shape[1:]) for value in (fed.shift, fed.scale))
    return Flat(jnp.asarray(x.reshape(len(x), -1)), jnp.asarray(y), shift, scale)


def _per_value(value: np.ndarray | float, shape: tuple[int, ...]) -> jax.Array:
    """A shift or scale as a scalar or one number per value of a flattened row."""
    value = np.asarray(value, np.float32)
    return jnp.asarray(value if value.ndim == 0 else np.broadcast_to(value, shape).reshape(-1))


def chunk_size(fed: Federation) -> int:
    """Rows per pass for means and scoring: the size with which the least is computed for nothing. The choice is small, so that federations share programs."""
    counts, clients = np.unique(np.concatenate([phase.count[split] for phase in fed.phases for split in SPLITS]), return_counts=True)
    sizes = np.asarray(CHUNKS)
    passes = -(-counts[:, None] // sizes)
    return int(sizes[np.argmin(clients @ (passes * (sizes + FIXED)))])


def nbytes(tree: Any) -> int:
    """Bytes of a message: of its arrays, as they are sent (numbers count as JAX arrays: 4 bytes)."""
    return sum(int(np.prod(s.shape)) * s.dtype.itemsize for s in map(_struct, jax.tree.leaves(tree)))


def _struct(leaf: Any) -> Any:
    return leaf if hasattr(leaf, "dtype") and hasattr(leaf, "shape") else jax.eval_shape(lambda: jnp.asarray(leaf))
