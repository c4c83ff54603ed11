"""Private states of clients, kept as rows of stacked arrays in memory or in a memory-mapped file. A round touches its cohort only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from atoll.core.federation import Facts

PAGE = 1 << 26  # bytes of private states in a page, about


class Store:
    """The private states of one method's clients that share one architecture.

    Rows lie in pages that are made when they are needed and never moved, so a million clients do not need a million models and a newcomer costs the same
    however many there are. With `folder` the pages are memory-mapped files there.
    """

    def __init__(self, folder: Path | None = None):
        self._folder = folder
        self._slot: dict[int, int] = {}
        self._forms: list[np.ndarray] = []  # one empty row of each leaf
        self._pages: list[list[np.ndarray]] = []  # [page][leaf], arrays [rows of a page, ...]
        self._rows = 1  # of a page; known with the first state
        self._tree: Any = None

    def __contains__(self, client: int) -> bool:
        return client in self._slot

    @property
    def clients(self) -> list[int]:
        return sorted(self._slot)

    @property
    def nbytes(self) -> int:
        """Bytes of the states held (not of the room made for more)."""
        return len(self._slot) * sum(form.nbytes for form in self._forms)

    def gather(self, ids: np.ndarray) -> Any:
        """The states of `ids`, stacked; raises KeyError for a client that never joined."""
        out = [np.empty((len(ids), *form.shape), form.dtype) for form in self._forms]
        for page, at, where in self._places(ids):
            for leaf, whole in zip(self._pages[page], out, strict=True):
                whole[at] = leaf[where]
        return jax.tree.unflatten(self._tree, out)

    def scatter(self, ids: np.ndarray, states: Any) -> None:
        """Stores the stacked `states` of `ids`; new clients get room."""
        leaves, tree = jax.tree.flatten(states)
        leaves = [np.asarray(leaf) for leaf in leaves]
        if self._tree is None:
            self._tree = tree
            self._forms = [np.zeros(leaf.shape[1:], leaf.dtype) for leaf in leaves]
            self._rows = max(1, PAGE // max(1, sum(form.nbytes for form in self._forms)))
        for i in ids:
            self._slot.setdefault(int(i), len(self._slot))
        while len(self._pages) * self._rows < len(self._slot):
            self._pages.append([self._room(n, form) for n, form in enumerate(self._forms)])
        for page, at, where in self._places(ids):
            for mine, leaf in zip(self._pages[page], leaves, strict=True):
                mine[where] = leaf[at]

    def _places(self, ids: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(page, positions in `ids`, rows of the page) for every page that holds some of them."""
        pages, rows = np.divmod(np.array([self._slot[int(i)] for i in ids], int), self._rows)
        for page in np.unique(pages):
            at = np.flatnonzero(pages == page)
            yield int(page), at, rows[at]

    def _room(self, n: int, form: np.ndarray) -> np.ndarray:
        shape = (self._rows, *form.shape)
        if self._folder is None or form.size == 0:
            return np.zeros(shape, form.dtype)  # the system gives memory to what is written
        self._folder.mkdir(parents=True, exist_ok=True)
        return np.lib.format.open_memmap(self._folder / f"leaf{n}-page{len(self._pages)}.npy", mode="w+", dtype=form.dtype, shape=shape)


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

    def of(self, architecture: int, client: int) -> Any:
        """One client's private state, or None where it has not joined."""
        store = self._stores[architecture]
        return jax.tree.map(lambda leaf: leaf[0], store.gather(np.array([client]))) if client in store else None

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
