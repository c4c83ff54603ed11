"""A model is a set of pure functions on a vector of named blocks.

The weights are `tree_math.Vector(tree)` with tree = {block: {...parameters...}, ..., "buffers": {block: {...}}}, the last entry only where
the model has buffers (BatchNorm statistics). So `y - x` and `u @ v` are written as in the papers, and a model can be cut between any
blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.errors import AtollError, unknown

BUFFERS = "buffers"
TASKS = ("classification", "regression", "sequence")


class Mode(NamedTuple):
    """How a network is run."""

    train: bool  # batch statistics and dropout (True) or running statistics and no dropout (False)
    mask: Array | None = None  # [batch] 1 for a real row, 0 for a padding row; None: all rows are real
    key: Array | None = None  # randomness of this batch (dropout); None where the network draws nothing


EVALUATE = Mode(train=False)


class Network(Protocol):
    """What a model is made of. Parameters and buffers are dicts {block: pytree}; blocks that a function does not need may be absent."""

    def init(self, key: Array) -> tuple[dict[str, Any], dict[str, Any]]:
        """Fresh (parameters, buffers)."""
        ...

    def run(self, parameters: Mapping[str, Any], buffers: Mapping[str, Any], x: Array, mode: Mode) -> tuple[Array, dict[str, Any]]:
        """Outputs and the buffers after this batch."""
        ...

    def features(self, parameters: Mapping[str, Any], buffers: Mapping[str, Any], x: Array, mode: Mode) -> tuple[Array, dict[str, Any]]:
        """Input of the last block and the buffers after this batch. AtollError where the network cannot be cut there."""
        ...

    def head(self, parameters: Mapping[str, Any], buffers: Mapping[str, Any], z: Array, mode: Mode) -> Array:
        """The last block applied to features."""
        ...

    def below(self, parameters: Mapping[str, Any], buffers: Mapping[str, Any], x: Array, block: str, mode: Mode) -> tuple[Array, dict[str, Any]]:
        """Input of `block` and the buffers after this batch. AtollError where the network cannot be cut there."""
        ...

    def above(self, parameters: Mapping[str, Any], buffers: Mapping[str, Any], z: Array, block: str, mode: Mode, like: Array) -> tuple[Array, dict[str, Any]]:
        """Outputs where `block` gets the input z, and the buffers after this batch; like: rows of the network's input, of which only the shape counts."""
        ...


@dataclass(frozen=True, eq=False)
class Model:
    """A model; compared and hashed by identity, so that it may be a static argument of a compiled function."""

    name: str
    blocks: tuple[str, ...]  # in forward order, the last is the head
    outputs: int
    input_shape: tuple[int, ...]  # of one row
    task: str  # one of TASKS
    network: Network
    narrower: Callable[[float], Model] | None = None  # the same architecture with its widths times a rate
    firsts: tuple[str, ...] = ()  # the first of the blocks that count as one where blocks are counted (a residual pair); (): each counts by itself

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise unknown("task", self.task, TASKS)
        if not self.blocks:
            raise AtollError(f"Model {self.name!r} has no blocks: it has no parameters to train.")
        if BUFFERS in self.blocks:
            raise AtollError(f"Model {self.name!r}: {BUFFERS!r} is where BatchNorm statistics are kept and cannot name a block. Rename it.")

    def init(self, key: Array) -> Vector:
        """Fresh weights from a key."""
        return _vector(*self.network.init(key))

    def apply(self, w: Vector, x: Array) -> Array:
        """Outputs [batch, outputs] (task "sequence": [batch, T, outputs]) in evaluation mode: BatchNorm uses its running statistics."""
        return self.network.run(*self._parts(w, self.blocks, "apply"), x, EVALUATE)[0]

    def train(self, w: Vector, x: Array, mask: Array | None = None, key: Array | None = None) -> tuple[Array, Vector]:
        """Outputs in training mode and w with the new buffers; no gradient flows through buffers.

        mask: [batch], 0 keeps a padding row out of batch statistics. key: needed by models with dropout only.
        """
        parameters, buffers = self._parts(w, self.blocks, "train")
        outputs, buffers = self.network.run(parameters, buffers, x, Mode(True, mask, key))
        return outputs, _vector(parameters, jax.lax.stop_gradient(buffers))

    def features(self, w: Vector, x: Array, train: bool = False, mask: Array | None = None, key: Array | None = None) -> Array:
        """Input of the last block, [batch, d] (task "sequence": [batch, T, d]). `w` may lack the last block."""
        return self._features(w, x, Mode(train, mask, key))[0]

    def train_features(self, w: Vector, x: Array, mask: Array | None = None, key: Array | None = None) -> tuple[Array, Vector]:
        """As `train`, but stops before the last block: features in training mode, and w with the new buffers."""
        z, buffers = self._features(w, x, Mode(True, mask, key))
        return z, _vector({b: w.tree[b] for b in self.blocks if b in w.tree}, jax.lax.stop_gradient(buffers))

    def head(self, w: Vector, z: Array) -> Array:
        """The last block applied to features. `w` may lack the other blocks."""
        return self.network.head(*self._parts(w, self.blocks[-1:], "head"), z, EVALUATE)

    def below(self, w: Vector, x: Array, block: str, train: bool = False, mask: Array | None = None, key: Array | None = None) -> tuple[Array, Vector]:
        """Input of `block` [batch, ...], and w with the new buffers. `w` may lack that block and those above it."""
        lower = self._under(block)
        z, buffers = self.network.below(*self._parts(w, lower, "below"), x, block, Mode(train, mask, key))
        return z, self._with_buffers(w, buffers, lower)

    def above(self, w: Vector, z: Array, block: str, train: bool = False, mask: Array | None = None, key: Array | None = None) -> tuple[Array, Vector]:
        """Outputs [batch, ...] where `block` gets the input z, and w with the new buffers. `w` may lack the blocks below."""
        upper = self.blocks[len(self._under(block)) :]
        like = jnp.zeros((z.shape[0], *self.input_shape), jnp.int32 if self.task == "sequence" else jnp.float32)
        out, buffers = self.network.above(*self._parts(w, upper, "above"), z, block, Mode(train, mask, key), like)
        return out, self._with_buffers(w, buffers, upper)

    def check_cut(self, block: str) -> None:
        """AtollError where outputs can't be had from the input of `block` alone, because something goes around it (a shortcut)."""
        random = np.random.default_rng(0)
        noise = random.normal(size=(2, *self.input_shape))
        x = jnp.asarray(noise > 0, jnp.int32) if self.task == "sequence" else jnp.asarray(noise, jnp.float32)
        shapes = jax.eval_shape(self.init, jax.random.key(0))
        w = jax.tree.map(lambda s: jnp.asarray(random.uniform(0.1, 1, s.shape) / max(1, s.size) ** 0.5, s.dtype), shapes)

        def both(w: Vector) -> tuple[Array, Array]:
            z, _ = self.below(w, x, block)
            return self.above(w, z, block)[0], self.apply(w, x)

        cut, whole = jax.jit(both)(w)
        if not np.allclose(cut, whole, rtol=1e-3, atol=1e-6):
            raise AtollError(f"Model {self.name!r} cannot be cut before block {block!r}: something goes around it. Cut it elsewhere, as before its head.")

    def split(self, w: Vector, personal: int | str | Iterable[str]) -> tuple[Vector, Vector]:
        """(shared, private): two vectors with disjoint blocks. Buffers go with their block.

        personal: names of the private blocks, or how many of the last blocks are private (0 and all are allowed). AtollError for an unknown
        name or a number that the model does not have.
        """
        private = self.personal_blocks(personal)
        return self._only(w, [b for b in self.blocks if b not in private]), self._only(w, private)

    def join(self, shared: Vector, private: Vector) -> Vector:
        """The inverse of `split`, in either order of the arguments."""
        both = [b for b in self.blocks if b in shared.tree and b in private.tree]
        if both:
            raise AtollError(f"Cannot join two parts of model {self.name!r}: both have {_list(both)}. Split both by the same blocks.")
        missing = [b for b in self.blocks if b not in shared.tree and b not in private.tree]
        if missing:
            raise AtollError(f"Cannot join two parts of model {self.name!r}: neither has {_list(missing)}. Split both by the same blocks.")
        buffers = {**shared.tree.get(BUFFERS, {}), **private.tree.get(BUFFERS, {})}
        return _vector({**_without_buffers(shared.tree), **_without_buffers(private.tree)}, buffers)

    def personal_blocks(self, personal: int | str | Iterable[str]) -> tuple[str, ...]:
        """The blocks that `personal` means, in forward order; see `split`. A number counts what belongs together, as a residual pair with its norms, as one."""
        if isinstance(personal, int):
            firsts = self.firsts or self.blocks
            if not 0 <= personal <= len(firsts):
                counted = f"{len(firsts)} blocks, which begin with {_list(firsts)}" if self.firsts else f"{len(firsts)} blocks ({_list(firsts)})"
                raise AtollError(f"Model {self.name!r} has {counted}; {personal} of them cannot be personal.")
            return self.blocks[self.blocks.index(firsts[-personal]) :] if personal else ()
        names = {personal} if isinstance(personal, str) else set(personal)
        for name in sorted(names - set(self.blocks)):
            raise unknown(f"block of model {self.name!r}", name, self.blocks)
        return tuple(b for b in self.blocks if b in names)

    def above_first(self, lower: int, who: str) -> tuple[str, ...]:
        """The blocks above the `lower` first ones, counted as in `personal_blocks`. AtollError, which names `who` asks, where none is left."""
        blocks = len(self.firsts or self.blocks)
        if lower >= blocks:
            raise AtollError(f"{who}(lower={lower}): model {self.name!r} has {blocks} blocks, and the server needs one too. Take another.")
        return self.personal_blocks(blocks - lower)

    def parameters(self, w: Vector) -> Vector:
        """w without its buffers."""
        return Vector(_without_buffers(w.tree))

    def size(self, w: Vector) -> int:
        """Number of parameters in w (buffers are not counted). Shapes are enough."""
        return sum(int(np.prod(jnp.shape(leaf))) for leaf in jax.tree.leaves(_without_buffers(w.tree)))

    def narrow(self, rate: float) -> Model:
        """The same architecture with hidden widths times `rate` of the full model: each array is a leading corner of the full one's
        (HeteroFL).

        The same rate gives the same object. AtollError for models without a width rate.
        """
        if self.narrower is None:
            raise AtollError(f"Model {self.name!r} cannot be made narrower. Models with a width rate: heterofl, mlp (without norm).")
        return self.narrower(rate)

    def _under(self, block: str) -> tuple[str, ...]:
        """The blocks before this one."""
        (block,) = self.personal_blocks(block)
        return self.blocks[: self.blocks.index(block)]

    def _with_buffers(self, w: Vector, buffers: Mapping[str, Any], of: tuple[str, ...]) -> Vector:
        """w with the new buffers of some blocks."""
        held = w.tree.get(BUFFERS, {})
        new = {block: buffers[block] if block in of else held[block] for block in held}
        return _vector(_without_buffers(w.tree), jax.lax.stop_gradient(new))

    def _features(self, w: Vector, x: Array, mode: Mode) -> tuple[Array, dict[str, Any]]:
        return self.network.features(*self._parts(w, self.blocks[:-1], "features"), x, mode)

    def _parts(self, w: Vector, needed: tuple[str, ...], what: str) -> tuple[dict[str, Any], dict[str, Any]]:
        missing = [b for b in needed if b not in w.tree]
        if missing:
            raise AtollError(f"Model {self.name!r}: `{what}` needs the blocks {_list(needed)}, but these weights lack {_list(missing)}. Join the parts first.")
        return _without_buffers(w.tree), jax.lax.stop_gradient(w.tree.get(BUFFERS, {}))

    def _only(self, w: Vector, blocks: Iterable[str]) -> Vector:
        blocks = tuple(blocks)
        buffers = w.tree.get(BUFFERS, {})
        return _vector({b: w.tree[b] for b in blocks}, {b: buffers[b] for b in blocks if b in buffers})


def _vector(parameters: Mapping[str, Any], buffers: Mapping[str, Any]) -> Vector:
    return Vector({**parameters, BUFFERS: dict(buffers)} if buffers else dict(parameters))


def _without_buffers(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {name: block for name, block in tree.items() if name != BUFFERS}


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
