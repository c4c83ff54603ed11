"""The rows a client program may see: shuffled mini-batches, means over all rows, random draws. Works on traced sizes, so ragged clients cost what they have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from atoll.core.errors import AtollError
from atoll.core.keys import shuffle
from atoll.core.work import Work


class Batch(NamedTuple):
    """Some rows of one client. A last partial batch is filled up with rows whose mask is 0."""

    x: Array  # [batch, ...] float32 (normalised) or int32 tokens
    y: Array  # [batch] int32 labels, [batch] float32 targets or [batch, T] int32 next tokens
    mask: Array  # [batch] float32, 1 for a real row and 0 for filling
    key: Array  # a key of this batch's own, for dropout and the like


Change = Callable[[Array, Array, Array], Array]  # x [batch, ...], the row's number [batch], which copy of it [batch] (1, 2, ...) -> x


class Flat(NamedTuple):
    """Rows of all owners in flat arrays on the device. A row of x is flattened: gathering rows of images is five times slower otherwise."""

    x: Array  # [rows, values] uint8, float32 or int32 tokens, as stored
    y: Array  # [rows, ...]
    shift: Array  # float32, scalar or [values]: the model gets (x - shift) * scale
    scale: Array

    def rows(self, at: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """The rows numbered `at` [batch], each of `shape`, normalised unless they are tokens."""
        x = self.x.at[at].get(mode="promise_in_bounds")
        if x.dtype != jnp.int32:
            x = (x.astype(jnp.float32) - self.shift) * self.scale
        return x.reshape((*at.shape, *shape)), self.y.at[at].get(mode="promise_in_bounds")


class Rows:
    """`n` rows of one owner inside flat arrays. All sizes may be traced."""

    def __init__(self, flat: Flat, shape: tuple[int, ...], start: Array, n: Array, key: Array, budget: Array, work: Work, chunk: int, room: int | None):
        """`shape` of a row; `budget`: the share of asked steps that this client can do; `chunk`: rows per pass where the order does not matter;
        `room`: a number that is known when the program is compiled and that n does not exceed; None where there is none.
        """
        self.n = n
        self.key = key
        self.room = room
        self._passes = (n + chunk - 1) // chunk  # over all rows
        self._flat, self._shape, self._start, self._budget, self._work, self._chunk = flat, shape, start, budget, work, chunk

    def fold(
        self, step: Callable[[Any, Batch], Any], carry: Any, *,
        batch: int, epochs: float = 1, steps: Any = None, key: Array | None = None, until: Callable[[Any], Array] | None = None,
    ) -> tuple[Any, Any]:  # fmt: skip
        """`carry = step(carry, batch)` over shuffled mini-batches; returns (carry, number of steps done).

        `epochs` passes (a fraction is a part of a pass), or `steps` batches where given. The last batch of an epoch may be partial and counts as
        it is. A client with a reduced work budget (a straggler) does that share of the steps, at least one. `key` defaults to the program's.
        `until(carry)` is asked after every epoch, and True ends the work.
        """
        per_epoch = (self.n + batch - 1) // batch
        wanted = jnp.floor(epochs * per_epoch.astype(jnp.float32)) if steps is None else steps
        key = self.key if key is None else key

        def one(t: Array, carry: Any) -> Any:
            return step(carry, self._shuffled(t, per_epoch, batch, batch, key))

        return self.repeat(one, carry, wanted, until=until, every=per_epoch)

    def batch(self, t: Array, batch: int, rows: int, *, key: Array | None = None) -> Batch:
        """The first `rows` rows of the batch that step t = 0, 1, ... of `fold` gets: for what works on one batch at a time.

        Who knows how many rows a last batch has asks for those alone, and nothing is filled up.
        """
        return self._shuffled(t, (self.n + batch - 1) // batch, batch, rows, self.key if key is None else key)

    def repeat(
        self, body: Callable[[Array, Any], Any], carry: Any, times: Any, *, until: Callable[[Any], Array] | None = None, every: Array | int = 1
    ) -> tuple[Any, Any]:
        """`carry = body(t, carry)` for t = 0, 1, ...; the work budget applies. Returns (carry, number of passes done).

        `until(carry)` is asked after every `every` passes, and True ends the work.
        """
        times = jnp.maximum(1, jnp.floor(self._budget * jnp.asarray(times, jnp.float32))).astype(jnp.int32) * (jnp.asarray(times) > 0)
        if until is not None:
            return self._work.run_until(body, carry, times, every, until)
        return self._work.run(body, carry, times), times

    def mean(self, statistic: Callable[[Batch], Any]) -> Any:
        """Mean over all rows of `statistic(batch)`, itself a mean over the batch's real rows (any pytree). Not limited by the work budget."""

        def weighted(rows: Batch) -> Any:
            share = rows.mask.sum() / self.n
            return jax.tree.map(lambda v: share * v, statistic(rows))

        return self.sum(weighted)

    def sum(self, statistic: Callable[[Batch], Any]) -> Any:
        """Sum of `statistic(batch)` over batches that cover every row once, in order. No rows give zeros."""
        def one(t: Array, total: Any) -> Any:
            position = t * self._chunk + jnp.arange(self._chunk, dtype=jnp.int32)
            rows = self._take(position, position < self.n, _batch_key(self.key, t))
            return jax.tree.map(jnp.add, total, statistic(rows))

        like = jax.eval_shape(lambda: statistic(self._take(jnp.zeros(self._chunk, jnp.int32), jnp.ones(self._chunk, bool), self.key)))
        zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), like)
        return self._work.run(one, zero, self._passes, steps=0, fixed=True)

    def map(self, of: Callable[[Batch], Any]) -> Any:
        """`of(batch)`, arrays [batch, ...], for every row in order: arrays [room, ...], which are zeros behind the n-th row."""
        room = self._bound()

        def one(t: Array, whole: Any) -> Any:
            position = t * self._chunk + jnp.arange(self._chunk, dtype=jnp.int32)
            real = position < self.n
            part = of(self._take(position, real, _batch_key(self.key, t)))
            at = jnp.where(real, position, room)  # filling lies behind the end
            return jax.tree.map(lambda all, some: all.at[at].set(some, mode="drop"), whole, part)

        like = jax.eval_shape(lambda: of(self._take(jnp.zeros(self._chunk, jnp.int32), jnp.ones(self._chunk, bool), self.key)))
        zero = jax.tree.map(lambda s: jnp.zeros((room, *s.shape[1:]), s.dtype), like)
        return self._work.run(one, zero, self._passes, steps=0, fixed=True)

    def draw(self, size: int, key: Array) -> Batch:
        """`size` distinct rows at random; all rows (the rest masked) where there are fewer."""
        position = jnp.arange(size, dtype=jnp.int32)
        return self._take(shuffle(position, self.n, key), position < self.n, _batch_key(key, 0))

    def take(self, index: Array) -> Batch:
        """The rows of these numbers (int32 [batch], 0 <= index < n)."""
        return self._take(index, jnp.ones(index.shape, bool), self.key)

    def with_more(self, x: Array, y: Array, n: Array | int) -> Rows:
        """These rows and `n` more, the first of x [room, ...] and y [room, ...], which are as a model sees them (normalised)."""
        return self.with_made(lambda at: (x.at[at].get(mode="clip"), y.at[at].get(mode="clip")), n, len(y))

    def with_made(self, make: Callable[[Array], tuple[Array, Array]], n: Array | int, room: int) -> Rows:
        """These rows and `n` <= `room` more, which `make(numbers [batch])` makes: (x, y) as a model sees them, the same whenever a number comes up."""

        def both(order: Array) -> tuple[Array, Array]:
            mine = order < self.n
            own = self._take(jnp.where(mine, order, 0), jnp.ones(order.shape, bool), self.key)
            x, y = make(jnp.where(mine, 0, order - self.n))

            def pick(a: Array, b: Array) -> Array:
                return jnp.where(mine.reshape(-1, *(1,) * (a.ndim - 1)), a, b.astype(a.dtype))

            return pick(own.x, x), pick(own.y, y)

        return self.instead(both, self.n + n, None if self.room is None else self.room + room)

    def instead(self, make: Callable[[Array], tuple[Array, Array]], n: Array | int, room: int | None) -> Rows:
        """`n` <= `room` rows that `make(numbers [batch])` makes, in place of these."""
        return _Made(self, make, jnp.asarray(n, jnp.int32), room)

    def only(self, which: Array) -> Rows:
        """Of these the rows i with which[i] (bool [room]), in order."""
        room = self._bound()
        which &= jnp.arange(room) < self.n
        order = jnp.argsort(~which, stable=True).astype(jnp.int32)

        def make(number: Array) -> tuple[Array, Array]:
            rows = self._take(order.at[number].get(mode="clip"), jnp.ones(number.shape, bool), self.key)
            return rows.x, rows.y

        return self.instead(make, which.sum(), room)

    def repeated(self, times: Array, change: Change) -> Rows:
        """Row i of these `times[i]` times (int32 [room]), none included. The first of its occurrences is the row, the others are what `change` makes.

        Nothing is stored: a copy is made anew whenever it is taken.
        """
        there = jnp.arange(times.shape[0]) < self.n
        ends = jnp.cumsum(jnp.where(there, times, 0))  # where the occurrences of each row end

        def make(order: Array) -> tuple[Array, Array]:
            row = jnp.searchsorted(ends, order, side="right").astype(jnp.int32)
            copy = order - jnp.where(row > 0, ends[row - 1], 0)
            own = self._take(row, jnp.ones(row.shape, bool), self.key)
            made = change(own.x, row, copy)
            return jnp.where((copy > 0).reshape(-1, *(1,) * (own.x.ndim - 1)), made, own.x), own.y

        return self.instead(make, ends[-1], None)

    def _bound(self) -> int:
        if self.room is None:
            raise AtollError("How many rows there are at most is not known when the program is compiled, so they can't lie side by side (Rows.map). Fold them.")
        return self.room

    def _shuffled(self, t: Array, per_epoch: Array | int, batch: int, rows: int, key: Array) -> Batch:
        position = (t % per_epoch) * batch + jnp.arange(rows, dtype=jnp.int32)
        order = shuffle(position, self.n, key, t // per_epoch)
        return self._take(order, position < self.n, _batch_key(key, t))

    def _take(self, order: Array, real: Array, key: Array) -> Batch:
        at = self._start + jnp.where(real, order, 0)
        x, y = self._flat.rows(at, self._shape)
        return Batch(x, y, real.astype(jnp.float32), key)


class _Made(Rows):
    """Rows that a function makes of their numbers."""

    def __init__(self, old: Rows, make: Callable[[Array], tuple[Array, Array]], n: Array, room: int | None):
        super().__init__(old._flat, old._shape, old._start, n, old.key, old._budget, old._work, old._chunk, room)
        self._make = make

    def _take(self, order: Array, real: Array, key: Array) -> Batch:
        x, y = self._make(jnp.where(real, order, 0))
        return Batch(x, y, real.astype(jnp.float32), key)


def _batch_key(key: Array, t: Array | int) -> Array:
    """A key for batch `t`, apart from the keys that shuffle epochs (small numbers)."""
    return jax.random.fold_in(key, (1 << 30) + t)
