"""A flax.nnx module as a network of pure functions on named blocks.

The module is built once abstractly (shapes only). Each call merges it with the given arrays, runs it and reads the buffers back, all while
tracing: the compiled program sees arrays only.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from atoll.core.errors import AtollError
from atoll.core.model import Mode

Path = tuple[Any, ...]  # of attribute names and list positions
Parts = tuple[dict[str, Any], dict[str, Any]]  # parameters and buffers, each by block


class Place(NamedTuple):
    """Where an array of the module lives in a model's tree."""

    block: str
    inside: tuple[str, ...]  # keys within the block; () where the block is the array itself
    buffer: bool


class MaskedBatchNorm(nnx.BatchNorm):
    """nnx.BatchNorm whose batch statistics skip padding rows; `rows` [batch] is set before each call in training mode."""

    rows: Array | None = None

    def __call__(self, x: Array, use_running_average: bool | None = None, *, mask: Array | None = None) -> Array:
        if mask is None and self.rows is not None:
            mask = self.rows.astype(bool).reshape(-1, *(1,) * (x.ndim - 1))
        return super().__call__(x, use_running_average, mask=mask)


class HeadReachedError(Exception):
    """Raised (and caught) where the last block is called with `z`: what follows need not run."""

    def __init__(self, z: Array):
        super().__init__("the last block was reached")
        self.z = z


class _Probe(nnx.Module):
    """Stands in for the block whose input is wanted."""

    def __call__(self, z: Array, *rest: Any, **options: Any) -> Array:
        raise HeadReachedError(z)


def _fed(kind: type, z: Array) -> type:
    """A class whose call gives z to the call of `kind`, whatever it is given itself."""

    def call(self: Any, _: Array, *rest: Any, **options: Any) -> Any:
        return kind.__call__(self, z, *rest, **options)

    return type(kind.__name__, (kind,), {"__call__": call})


class NnxNetwork:
    """Implements atoll.core.model.Network for `make(rngs) -> module`.

    Blocks are the module's top-level children that hold parameters, in definition order (of a Sequential: its layers). The last one is the
    head. If the module has a method `features(x)`, it gives the head's input; else the head's input is caught when the head is called.
    """

    def __init__(self, make: Callable[[nnx.Rngs], nnx.Module], name: str, original: nnx.Module | None = None):
        """original: where `make` copies a module, that module (a copy forgets the order of definition)."""
        self.name = name
        self._make = make
        order: list[str | int] = []
        abstract = nnx.eval_shape(lambda: _built(make, 0, order))
        order = order if original is None else _children(original)
        self._sequential = isinstance(abstract, nnx.Sequential)
        self._graph, state = nnx.split(abstract)
        self._state: dict[Path, Any] = dict(nnx.to_flat_state(state))
        self._streams = [path for path, variable in self._state.items() if isinstance(variable, nnx.RngState)]
        self._places = {path: self._place(path, variable) for path, variable in self._state.items() if path not in self._streams}
        self._dropout = any(isinstance(m, nnx.Dropout) and m.rate > 0 for _, m in nnx.iter_modules(abstract))
        found = {place.block: path for path, place in self._places.items() if not place.buffer}
        self.blocks: tuple[str, ...] = tuple(block for block in map(_block_name, order) if block in found)
        self._check(type(abstract).__name__)
        self._found = {block: path[: 2 if self._sequential else 1] for block, path in found.items()}

    def init(self, key: Array) -> Parts:
        return self._read(_built(self._make, key, []))

    def run(self, parameters: Mapping[str, Any], buffers: Mapping[str, Any], x: Array, mode: Mode) -> tuple[Array, dict[str, Any]]:
        module = self._merge(parameters, buffers, mode)
        outputs = module(x, **mode_arguments(module.__call__, mode))
        return outputs, self._read(module)[1]

    def features(self, parameters: Mapping[str, Any], buffers: Mapping[str, Any], x: Array, mode: Mode) -> tuple[Array, dict[str, Any]]:
        module = self._merge(parameters, buffers, mode)
        method = getattr(module, "features", None)
        z: Any = method(x, **mode_arguments(method, mode)) if callable(method) else self._caught(module, x, mode)
        after = self._read(module)[1]
        return z, {block: after[block] for block in buffers}

    def head(self, parameters: Mapping[str, Any], buffers: Mapping[str, Any], z: Array, mode: Mode) -> Array:
        block = self._last_block(self._merge(parameters, buffers, mode))
        return block(z, **mode_arguments(block.__call__, mode))

    def below(self, parameters: Mapping[str, Any], buffers: Mapping[str, Any], x: Array, block: str, mode: Mode) -> tuple[Array, dict[str, Any]]:
        module = self._merge(parameters, buffers, mode)
        return self._caught(module, x, mode, block), self._read(module)[1]

    def above(self, parameters: Mapping[str, Any], buffers: Mapping[str, Any], z: Array, block: str, mode: Mode, like: Array) -> tuple[Array, dict[str, Any]]:
        module = self._merge(parameters, buffers, mode)  # with zeros for the blocks below: what they compute is used by none and left out when compiled
        fed = self._block(module, block)
        fed.__class__ = _fed(type(fed), z)
        outputs = module(like, **mode_arguments(module.__call__, mode))
        return outputs, self._read(module)[1]

    def _caught(self, module: Any, x: Array, mode: Mode, block: str | None = None) -> Array:
        """The input of a block, by default the last."""
        self._block(module, block or self.blocks[-1]).__class__ = _Probe
        try:
            module(x, **mode_arguments(module.__call__, mode))
        except HeadReachedError as reached:
            return reached.z
        raise never_called(self.name, block or self.blocks[-1], last=block is None)

    def _last_block(self, module: Any) -> Any:
        return self._block(module, self.blocks[-1])

    def _block(self, module: Any, block: str) -> Any:
        for step in self._found[block]:
            module = module[step] if isinstance(step, int) else getattr(module, step)
        if not isinstance(module, nnx.Module):
            raise AtollError(
                f"Model {self.name!r}: its block {block!r} is a bare parameter, which cannot be applied to features. Put it into an nnx.Module with a call."
            )
        return module

    def _merge(self, parameters: Mapping[str, Any], buffers: Mapping[str, Any], mode: Mode) -> Any:
        """The module with these arrays, in this mode."""
        if mode.train and self._dropout and mode.key is None:
            raise needs_key(self.name)
        filled = {path: variable.replace(self._value(path, variable, parameters, buffers, mode)) for path, variable in self._state.items()}
        module: Any = nnx.merge(self._graph, nnx.from_flat_state(list(filled.items())))
        if mode.train:
            module.train()
        else:
            module.eval()
        for _, inner in nnx.iter_modules(module):
            if isinstance(inner, MaskedBatchNorm):
                object.__setattr__(inner, "rows", mode.mask)  # past nnx, which would make it a part of the state
        return module

    def _value(self, path: Path, variable: Any, parameters: Mapping[str, Any], buffers: Mapping[str, Any], mode: Mode) -> Any:
        place = self._places.get(path)
        if place is None:  # a random stream: a key of its own, counting from 0
            key = jax.random.key(0) if mode.key is None else mode.key
            return jax.random.fold_in(key, self._streams.index(path)) if isinstance(variable, nnx.RngKey) else jnp.zeros((), jnp.uint32)
        value = (buffers if place.buffer else parameters).get(place.block)
        if value is None:  # a block that this call does not need
            return jnp.zeros(variable.get_value().shape, variable.get_value().dtype)
        for step in place.inside:
            value = value[step]
        return value

    def _read(self, module: nnx.Module) -> Parts:
        """Parameters and buffers of a module. Variables that a call added (sown intermediates) are left out."""
        parts: Parts = ({}, {})
        for path, variable in nnx.to_flat_state(nnx.state(module)):
            place = self._places.get(path)
            if place is not None:
                _put(parts[place.buffer], (place.block, *place.inside), variable.get_value())
        return parts

    def _place(self, path: Path, variable: Any) -> Place:
        top, inside = (path[1], path[2:]) if self._sequential else (path[0], path[1:])
        return Place(_block_name(top), tuple(map(str, inside)), not isinstance(variable, nnx.Param))

    def _check(self, kind: str) -> None:
        if not self.blocks:
            raise AtollError(f"Model {self.name!r}: {kind} has no nnx.Param, so there is nothing to train.")
        homeless = sorted({place.block for place in self._places.values()} - set(self.blocks))
        if homeless:
            raise AtollError(f"Model {self.name!r}: {', '.join(homeless)} holds state but no parameters. Move it into a child module that has some.")


def never_called(model: str, block: str, last: bool = True) -> AtollError:
    """The error for a block at which a model is to be cut and that is not called by the module."""
    if not last:
        return AtollError(f"Model {model!r} cannot be cut before block {block!r}: it never calls it, or needs something from below it elsewhere.")
    return AtollError(
        f"Model {model!r} cannot be cut into features and head: it never calls its last block {block!r}. "
        "Define the head last, or give the module a method `features(x)` that returns the head's input."
    )


def needs_key(model: str) -> AtollError:
    """The error for dropout without randomness."""
    return AtollError(f"Model {model!r} has dropout, which draws at random: pass a key, as in model.train(w, x, mask, key=batch.key).")


def mode_arguments(call: Callable[..., Any], mode: Mode) -> dict[str, bool]:
    """What a module's call wants to know about the mode, by the names in use."""
    names = inspect.signature(call).parameters
    wanted = {name: mode.train for name in ("train", "training", "is_training") if name in names}
    return wanted | {name: not mode.train for name in ("deterministic", "use_running_average") if name in names}


def _built(make: Callable[[nnx.Rngs], nnx.Module], key: Array | int, order: list[str | int]) -> nnx.Module:
    """A fresh module with batch norms that know padding; `order` receives the names of its children as they were defined."""
    module = make(nnx.Rngs(key))
    order.extend(_children(module))
    for _, inner in nnx.iter_modules(module):
        if type(inner) is nnx.BatchNorm:
            inner.__class__ = MaskedBatchNorm
    return module


def _children(module: nnx.Module) -> list[str | int]:
    return list(range(len(module.layers)) if isinstance(module, nnx.Sequential) else vars(module))


def _block_name(child: str | int) -> str:
    return f"layer{child}" if isinstance(child, int) else child


def _put(tree: dict[str, Any], path: Iterable[str], value: Any) -> None:
    *above, name = path
    for step in above:
        tree = tree.setdefault(step, {})
    tree[name] = value
