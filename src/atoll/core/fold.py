"""Folds: how the server reduces replies to what it keeps.

A *streamed* fold takes replies one at a time, so memory does not grow with the cohort; a fold that is not must see the single replies.
A *linear* fold is a weighted sum and may run under secure aggregation. Folds are values: frozen, hashable, compared by content.

A reply is a NamedTuple of arrays; where a fold weighs, the field `weight` says how much a reply counts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from atoll.core.errors import AtollError


class Fold(Protocol):
    """What every fold offers. `start` gets a reply's shapes (or a reply); a fold that is not streamed only offers `finish`, of the stacked replies."""

    streamed: ClassVar[bool]
    linear: ClassVar[bool]

    def start(self, reply: Any) -> Any: ...
    def add(self, total: Any, reply: Any) -> Any: ...
    def merge(self, left: Any, right: Any) -> Any: ...
    def finish(self, total: Any) -> Any: ...


def _zeros(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)


def _toward(mean: Any, value: Any, share: Array) -> Any:
    """A running mean moved by its new share. With a single reply (share 1) it is that reply, bit for bit."""
    return jax.tree.map(lambda m, v: m + (share * (v - m)).astype(m.dtype), mean, value)


def _share(weight: Array, total: Array) -> Array:
    return jnp.where(total > 0, weight / jnp.where(total > 0, total, 1), 0)


@dataclass(frozen=True)
class Mean:
    """Weighted mean of every field by `weight`, as a running mean; the result's `weight` is the sum of the weights."""

    streamed: ClassVar[bool] = True
    linear: ClassVar[bool] = True

    def start(self, reply: Any) -> Any:
        _weight(reply, "mean")
        return jax.tree.map(_float_zeros, reply)

    def add(self, total: Any, reply: Any) -> Any:
        return self.merge(total, reply)

    def merge(self, left: Any, right: Any) -> Any:
        weight = left.weight + right.weight
        return _toward(left, right, _share(right.weight, weight))._replace(weight=weight)

    def finish(self, total: Any) -> Any:
        return total


def _float_zeros(leaf: Any) -> Array:
    return jnp.zeros(leaf.shape, jnp.promote_types(leaf.dtype, jnp.float32))


@dataclass(frozen=True)
class Stack:
    """All replies, stacked along a new first axis in the order in which the clients were asked."""

    streamed: ClassVar[bool] = False
    linear: ClassVar[bool] = False

    def finish(self, total: Any) -> Any:
        return total

    def start(self, reply: Any) -> Any:
        return _no_total(self)

    def add(self, total: Any, reply: Any) -> Any:
        return _no_total(self)

    def merge(self, left: Any, right: Any) -> Any:
        return _no_total(self)


@dataclass(frozen=True)
class GroupMean:
    """Weighted mean within each of `groups` groups; the reply's integer field `group` says which. Fields get a first axis [groups].

    The result's `weight` [groups] is the sum per group: 0 marks a group that nobody joined (its means are 0 and mean nothing).
    """

    groups: int
    streamed: ClassVar[bool] = True
    linear: ClassVar[bool] = True

    def start(self, reply: Any) -> Any:
        _weight(reply, "group mean")
        if not hasattr(reply, "group"):
            raise AtollError(f"A group mean needs the reply's group: {type(reply).__name__} has the fields {', '.join(reply._fields)} but no `group`.")
        return jax.tree.map(lambda leaf: jnp.zeros((self.groups, *leaf.shape), jnp.promote_types(leaf.dtype, jnp.float32)), reply._replace(group=jnp.zeros(())))

    def add(self, total: Any, reply: Any) -> Any:
        g = reply.group
        reply = reply._replace(group=jnp.float32(0))
        at = jax.tree.map(lambda leaf: leaf[g], total)
        weight = at.weight + reply.weight
        new = _toward(at, reply, _share(reply.weight, weight))._replace(weight=weight)
        return jax.tree.map(lambda leaf, value: leaf.at[g].set(value), total, new)

    def merge(self, left: Any, right: Any) -> Any:
        return _merge_each(left, right)

    def finish(self, total: Any) -> Any:
        return total


@dataclass(frozen=True)
class EachMean:
    """Weighted mean of each of the things that every reply holds side by side: fields have a first axis [things], and so has `weight`.

    The result's `weight` [things] is the sum over the replies: 0 marks a thing of nobody's (its mean is 0 and means nothing).
    """

    streamed: ClassVar[bool] = True
    linear: ClassVar[bool] = True

    def start(self, reply: Any) -> Any:
        _weight(reply, "mean of each")
        return jax.tree.map(_float_zeros, reply)

    def add(self, total: Any, reply: Any) -> Any:
        return self.merge(total, reply)

    def merge(self, left: Any, right: Any) -> Any:
        return _merge_each(left, right)

    def finish(self, total: Any) -> Any:
        return total


def _merge_each(left: Any, right: Any) -> Any:
    """Running means side by side, [things, ...] with weights [things]."""
    weight = left.weight + right.weight
    share = _share(right.weight, weight)
    moved = jax.tree.map(lambda m, v: m + share.reshape((-1,) + (1,) * (m.ndim - 1)) * (v - m), left, right)
    return moved._replace(weight=weight)


@dataclass(frozen=True)
class ElementMean:
    """Unweighted mean of each element over the replies that own it. `place(reply) -> (value, owns)` puts a reply into the full shape.

    The result is (mean, count); where count is 0 nobody owned the element. For models of different sizes with overlapping parts.
    """

    place: Callable[[Any], tuple[Any, Any]]
    streamed: ClassVar[bool] = True
    linear: ClassVar[bool] = True

    def start(self, reply: Any) -> Any:
        return _zeros(jax.eval_shape(self.place, reply))

    def add(self, total: Any, reply: Any) -> Any:
        return self.merge(total, self.place(reply))

    def merge(self, left: Any, right: Any) -> Any:
        count = jax.tree.map(jnp.add, left[1], right[1])
        mean = jax.tree.map(lambda m, v, n, c: m + _share(n, c) * (v - m), left[0], right[0], right[1], count)
        return mean, count

    def finish(self, total: Any) -> Any:
        return total


@dataclass(frozen=True)
class Sum:
    """Sum over the replies of `of(reply)`, any tree: for what the server computes from every reply by itself, such as the square of an update."""

    of: Callable[[Any], Any]
    streamed: ClassVar[bool] = True
    linear: ClassVar[bool] = False

    def start(self, reply: Any) -> Any:
        return _zeros(jax.eval_shape(self.of, reply))

    def add(self, total: Any, reply: Any) -> Any:
        return self.merge(total, self.of(reply))

    def merge(self, left: Any, right: Any) -> Any:
        return jax.tree.map(jnp.add, left, right)

    def finish(self, total: Any) -> Any:
        return total


class Alike(NamedTuple):
    """Replies of one form, out of a cohort's."""

    at: np.ndarray  # int, their places among the clients that answered
    reply: Any  # stacked


def by_client(ids: np.ndarray, parts: list[Alike]) -> dict[int, Any]:
    """What each of the clients `ids`, who answered, replied to an ask with the fold `apart`."""
    return {int(ids[at]): jax.tree.map(lambda leaf, n=n: leaf[n], part.reply) for part in parts for n, at in enumerate(part.at)}


@dataclass(frozen=True)
class Apart:
    """A list of Alike: replies that differ in form, as the models of several architectures do, stacked form by form."""

    streamed: ClassVar[bool] = False
    linear: ClassVar[bool] = False
    start, add, merge = Stack.start, Stack.add, Stack.merge

    def finish(self, total: Any) -> list[Alike]:
        return [Alike(np.arange(len(jax.tree.leaves(total)[0])), total)]  # all are alike


class Watching(NamedTuple):
    """What a watched fold gives."""

    reply: Any  # of the fold inside
    w: Any  # the models of the single replies, stacked in the order of the clients; None where replies have no field `w`


@dataclass(frozen=True)
class Watched:
    """The result of `inner`, and beside it the model `w` of every single reply: for a selector that learns from them."""

    inner: Fold
    streamed: ClassVar[bool] = False
    linear: ClassVar[bool] = False
    start, add, merge = Stack.start, Stack.add, Stack.merge

    def finish(self, total: Any) -> Any:
        reply = _folded(self.inner, total) if self.inner.streamed else self.inner.finish(total)
        return Watching(reply, getattr(total, "w", None))


@functools.partial(jax.jit, static_argnums=0)
def _folded(fold: Fold, stacked: Any) -> Any:
    """What a streamed fold gives for replies that are stacked already."""
    total = fold.start(jax.tree.map(lambda leaf: leaf[0], stacked))
    total, _ = jax.lax.scan(lambda total, reply: (fold.add(total, reply), None), total, stacked)
    return fold.finish(total)


@dataclass(frozen=True)
class Median:
    """Coordinate-wise median of the replies; `weight` is ignored and returned as the number of replies."""

    streamed: ClassVar[bool] = False
    linear: ClassVar[bool] = False
    start, add, merge = Stack.start, Stack.add, Stack.merge

    def finish(self, total: Any) -> Any:
        return _unweighted(total, lambda leaf: jnp.median(leaf, axis=0))


@dataclass(frozen=True)
class TrimmedMean:
    """Coordinate-wise mean without the `share` smallest and the `share` largest values (Yin et al., ICML 2018); `weight` as in Median."""

    share: float = 0.1
    streamed: ClassVar[bool] = False
    linear: ClassVar[bool] = False
    start, add, merge = Stack.start, Stack.add, Stack.merge

    def __post_init__(self) -> None:
        if not 0 <= self.share < 0.5:
            raise AtollError(f"The trimmed mean cuts a share from both ends: 0 <= share < 0.5, not {self.share}.")

    def finish(self, total: Any) -> Any:
        def trim(leaf: Array) -> Array:
            cut = int(self.share * leaf.shape[0])
            return jnp.sort(leaf, axis=0)[cut : leaf.shape[0] - cut].mean(axis=0)

        return _unweighted(total, trim)


def _no_total(fold: Any) -> Any:
    raise AtollError(f"{type(fold).__name__} must see the single replies; it has no running total.")


def _unweighted(stacked: Any, reduce: Callable[[Array], Array]) -> Any:
    count = jax.tree.leaves(stacked)[0].shape[0]
    result = jax.tree.map(lambda leaf: reduce(jnp.asarray(leaf)), stacked)
    return result._replace(weight=jnp.float32(count)) if hasattr(result, "weight") else result


def _weight(reply: Any, fold: str) -> None:
    if not hasattr(reply, "weight"):
        fields = ", ".join(getattr(reply, "_fields", ())) or type(reply).__name__
        raise AtollError(f"A {fold} needs to know how much a reply counts: give the reply a field `weight` (it has: {fields}).")


mean = Mean()
stack = Stack()
apart = Apart()
median = Median()
