"""Private states of clients, kept as rows of stacked arrays in memory or in a memory-mapped file. A round touches its cohort only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from atoll.core.federation import Facts


class Store:
    """The private states of one method's clients that share one architecture.

    Space is made at first contact and grows by doubling, so a million clients do not need a million models. With `folder` the rows lie in
    memory-mapped files there.
    """

    def __init__(self, folder: Path | None = None):
        self._folder = folder
        self._slot: dict[int, int] = {}
        self._leaves: list[np.ndarray] = []
        self._tree: Any = None

    def __contains__(self, client: int) -> bool:
        return client in self._slot

    @property
    def clients(self) -> list[int]:
        return sorted(self._slot)

    @property
    def nbytes(self) -> int:
        """Bytes of the states held (not of the room made for more)."""
        return len(self._slot) * sum(int(np.prod(leaf.shape[1:])) * leaf.itemsize for leaf in self._leaves)

    def gather(self, ids: np.ndarray) -> Any:
        """The states of `ids`, stacked; raises KeyError for a client that never joined."""
        at = np.array([self._slot[int(i)] for i in ids])
        return jax.tree.unflatten(self._tree, [leaf[at] for leaf in self._leaves])

    def scatter(self, ids: np.ndarray, states: Any) -> None:
        """Stores the stacked `states` of `ids`; new clients get room."""
        leaves, tree = jax.tree.flatten(states)
        leaves = [np.asarray(leaf) for leaf in leaves]
        if self._tree is None:
            self._tree = tree
            self._leaves = [self._room(n, 0, leaf) for n, leaf in enumerate(leaves)]
        for i in ids:
            self._slot.setdefault(int(i), len(self._slot))
        self._grow()
        at = np.array([self._slot[int(i)] for i in ids])
        for mine, leaf in zip(self._leaves, leaves, strict=True):
            mine[at] = leaf

    def _grow(self) -> None:
        need = len(self._slot)
        for n, leaf in enumerate(self._leaves):
            if need > leaf.shape[0]:
                larger = self._room(n, max(need, 2 * leaf.shape[0], 8), leaf)
                larger[: leaf.shape[0]] = leaf
                self._leaves[n] = larger

    def _room(self, n: int, rows: int, like: np.ndarray) -> np.ndarray:
        shape = (rows, *like.shape[1:])
        if self._folder is None or rows == 0 or np.prod(shape) == 0:
            return np.zeros(shape, like.dtype)
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"leaf{n}-{rows}.npy"
        made = np.lib.format.open_memmap(path, mode="w+", dtype=like.dtype, shape=shape)
        for old in self._folder.glob(f"leaf{n}-*.npy"):
            if old != path:
                old.unlink()  # the mapping that is being copied stays readable until it is dropped
        return made


class States:
    """The private states of one method's clients, a store for each architecture."""

    def __init__(self, facts: Facts, folder: Path | None = None):
        self._facts, self._folder = facts, folder
        self._stores: list[Store] = []
        self.begin("")

    def begin(self, method_label: str) -> None:
        """Forgets all states: another method starts."""
        folder = None if self._folder is None else self._folder / (method_label or "none")
        self._stores = [Store(None if folder is None else folder / str(n)) for n in range(len(self._facts.models))]

    @property
    def nbytes(self) -> int:
        return sum(store.nbytes for store in self._stores)

    def joined(self, architecture: int, ids: np.ndarray) -> np.ndarray:
        """Bool [len(ids)]: has the client joined?"""
        return np.array([int(i) in self._stores[architecture] for i in ids], bool)

    def gather(self, architecture: int, ids: np.ndarray) -> Any:
        return self._stores[architecture].gather(ids)

    def gather_or_zeros(self, architecture: int, ids: np.ndarray, form: Callable[[], Any]) -> Any:
        """As `gather`, with zeros for clients that have not joined; `form()` gives a state's shapes where nobody has."""
        store = self._stores[architecture]
        known = self.joined(architecture, ids)
        one = jax.tree.map(lambda leaf: leaf[0], store.gather(np.array(store.clients[:1]))) if store.clients else form()
        states = jax.tree.map(lambda leaf: np.zeros((len(ids), *leaf.shape), leaf.dtype), one)
        if known.any():
            held = store.gather(ids[known])
            jax.tree.map(lambda all, some: all.__setitem__(known, some), states, held)
        return states

    def scatter(self, architecture: int, ids: np.ndarray, states: Any) -> None:
        self._stores[architecture].scatter(ids, states)

    def dump(self, ids: list[int] | None = None) -> dict[int, Any]:
        """Client -> private state, of all clients that have one or of `ids` among them."""
        out = {}
        for store in self._stores:
            for i in store.clients if ids is None else [i for i in ids if i in store]:
                out[i] = jax.tree.map(lambda leaf: leaf[0], store.gather(np.array([i])))
        return out

    def load(self, states: dict[int, Any]) -> None:
        """Puts back what `dump` gave."""
        for i, state in states.items():
            self.scatter(int(self._facts.architecture[i]), np.array([i]), jax.tree.map(lambda leaf: np.asarray(leaf)[None], state))
