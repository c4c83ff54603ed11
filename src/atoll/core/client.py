"""What a client program sees: `k`. Its rows, its private state, its key, and nothing of anybody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import Array

from atoll.core.errors import AtollError
from atoll.core.model import Model
from atoll.core.rows import Change, Rows
from atoll.core.work import Work

_NO_STATE = object()


class Client:
    """The view of client `k` inside a program.

    id: int32 scalar, the client's number. round: int32 scalar. key: this program's key for (seed, program, round, client).
    common_key: the key from which the server draws its first model; so a client can begin with the same weights without being sent any.
    n: number of train rows. model: the client's architecture. outputs: number of classes (or target columns).
    train: its train rows; public: the shared public rows or None. Both offer fold, mean, map, draw, take (see Rows); k.fold is k.train.fold and so on.
    state: the private value kept at the client between rounds.
    """

    def __init__(
        self,
        *,
        id: Array,
        round: Array,
        key: Array,
        common_key: Array,
        model: Model,
        train: Rows,
        public: Rows | None,
        work: Work,
        state: Any = _NO_STATE,
    ):
        self.id = id
        self.round = round
        self.key = key
        self.common_key = common_key
        self.model = model
        self.outputs = model.outputs
        self.train = train
        self.public_rows = public
        self.n = train.n
        self.fold = train.fold
        self.repeat = train.repeat
        self.mean = train.mean
        self.map = train.map
        self.draw = train.draw
        self._work = work
        self._state = state
        self._known: dict[str, Any] = {}

    @property
    def state(self) -> Any:
        """The client's private state; programs marked @stateless and `join` have none."""
        if self._state is _NO_STATE:
            raise AtollError("This program has no private state to read: it is `join` itself, is marked @stateless, or its method defines no `join`.")
        return self._state

    @property
    def public(self) -> Rows:
        """The public rows that every client holds."""
        if self.public_rows is None:
            raise AtollError("This method needs public data, and the federation has none. Give some rows away with public=0.1 (command line: --public 0.1).")
        return self.public_rows

    def with_rows(self, x: Array, y: Array, n: Array | int) -> Client:
        """This client with `n` more train rows: the first of x [room, ...] and y [room, ...], as the model sees them. It has no private state."""
        return self.on(self.train.with_more(x, y, n))

    def with_repeated(self, times: Array, change: Change) -> Client:
        """This client with its train rows as often as said; see Rows.repeated. It has no private state."""
        return self.on(self.train.repeated(times, change))

    def on(self, train: Rows) -> Client:
        """This client with other train rows (see Rows.with_made and Rows.instead). It has no private state."""
        return Client(
            id=self.id, round=self.round, key=self.key, common_key=self.common_key, model=self.model, work=self._work,
            train=train, public=self.public_rows,
        )  # fmt: skip

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """`make()`, worked out once per program: for what a method needs in several places, such as the client's cluster."""
        if name not in self._known:
            self._known[name] = make()
        return self._known[name]

    def lasting_key(self, purpose: int) -> Array:
        """A key of this client that is the same in all rounds and programs: for what it draws once and must find again."""
        return jax.random.fold_in(jax.random.fold_in(self.common_key, (1 << 29) + purpose), self.id)

    def key_for(self, purpose: int) -> Array:
        """A second, third, ... key where one program draws for several purposes."""
        return jax.random.fold_in(self.key, (1 << 29) + purpose)
