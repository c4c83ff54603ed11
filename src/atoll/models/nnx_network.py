"""A flax.nnx module as a network of pure functions on named blocks.

The module is built once abstractly (shapes only). Each call merges it with the given arrays, runs it and reads the buffers back, all while tracing:
the compiled program sees arrays only.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from atoll.core.errors import AtollError
from atoll.core.model import Mode

Path = tuple[str | int, ...]


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


class _Reached(Exception):
    """Raised when the last block is called: what follows need not run."""

    def __init__(self, z: Array):
        self.z = z


class _Probe(nnx.Module):
    """Stands in for the last block."""

    def __call__(self, z: Array, *rest: Any, **options: Any) -> Array:
        raise _Reached(z)


class NnxNetwork:
    """Implements atoll.core.model.Network for `make(rngs) -> module`.

    Blocks are the module's top-level children that hold parameters or buffers, in definition order (of a Sequential: its layers). The last one is
    the head. If the module has a method `features(x)` it gives the head's input, else the head's input is caught when the head is called.
    """

    def __init__(self, make: Callable[[nnx.Rngs], nnx.Module], name: str):
        self.name = name
        self._make = make
        order: list[str | int] = []
        abstract = nnx.eval_shape(lambda: _built(make, 0, order))
        self._sequential = isinstance(abstract, nnx.Sequential)
        self._graph, state = nnx.split(abstract)
        self._state = dict(nnx.to_flat_state(state))
        self._places = {path: self._place(path, variable) for path, variable in self._state.items() if not isinstance(variable, nnx.RngState)}
        self._dropout = any(isinstance(m, nnx.Dropout) and m.rate > 0 for _, m in nnx.iter_modules(abstract))
        found = {place.block: path for path, place in self._places.items() if not place.buffer}
        self.blocks: tuple[str, ...] = tuple(block for block in map(self._block_name, order) if block in found)
        if not self.blocks:
            raise AtollError(f"Model {name!r}: {type(abstract).__name__} has no nnx.Param to train.")
        self._check_buffers()
        self._last: Path = found[self.blocks[-1]][: 2 if self._sequential else 1]

    def init(self, key: Array) -> tuple[dict[str, Any], dict[str, Any]]:
        return self._read(_built(self._make, key, []))

    def run(self, parameters: Mapping[str, Any], buffers: Mapping[str, Any], x: Array, mode: Mode) -> tuple[Array, dict[str, Any]]:
        module = self._merge(parameters, buffers, mode)
        outputs = module(x, **mode_arguments(module.__call__, mode))
        return outputs, self._read(module)[1]

    def features(self, parameters: Mapping[str, Any], buffers: Mapping[str, Any], x: Array, mode: Mode) -> tuple[Array, dict[str, Any]]:
        module = self._merge(parameters, buffers, mode)
        method = getattr(module, "features", None)
        if callable(method):
            z = method(x, **mode_arguments(method, mode))
        else:
            z = self._caught(module, x, mode)
        buffers = {**buffers, **self._read(module)[1]}
        return z, {block: value for block, value in buffers.items() if not _abstract(value)}

    def head(self, parameters: Mapping[str, Any], buffers: Mapping[str, Any], z: Array, mode: Mode) -> Array:
        block = self._last_block(self._merge(parameters, buffers, mode))
        return block(z, **mode_arguments(block.__call__, mode))

    def _caught(self, module: nnx.Module, x: Array, mode: Mode) -> Array:
        self._last_block(module).__class__ = _Probe
        try:
            module(x, **mode_arguments(module.__call__, mode))
        except _Reached as reached:
            return reached.z
        raise AtollError(f"Model {self.name!r} never calls its last block {self.blocks[-1]!r}: give the module a method `features(x)` that returns the block's input.")

    def _last_block(self, module: Any) -> Any:
        for step in self._last:
            module = module[step] if isinstance(step, int) else getattr(module, step)
        if not isinstance(module, nnx.Module):
            raise AtollError(f"Model {self.name!r}: its last block {self.blocks[-1]!r} is not a module that can be applied to features. Wrap it in an nnx.Module.")
        return module

    def _merge(self, parameters: Mapping[str, Any], buffers: Mapping[str, Any], mode: Mode) -> Any:
        if mode.train and self._dropout and mode.key is None:
            raise AtollError(f"Model {self.name!r} has dropout, which draws at random: pass a key, as in model.train(w, x, mask, key=batch.key).")
        key = jax.random.key(0) if mode.key is None else mode.key
        flat = {path: variable.replace(self._value(path, variable, parameters, buffers, key)) for path, variable in self._state.items()}
        module = nnx.merge(self._graph, nnx.from_flat_state(flat))
        if mode.train:
            module.train()
        else:
            module.eval()
        for _, inner in nnx.iter_modules(module):
            if isinstance(inner, MaskedBatchNorm):
                vars(inner)["rows"] = mode.mask if mode.train else None
        return module

    def _value(self, path: Path, variable: Any, parameters: Mapping[str, Any], buffers: Mapping[str, Any], key: Array) -> Any:
        place = self._places.get(path)
        if place is None:  # a random stream: a key of its own (by its place), counting from 0
            return jax.random.fold_in(key, list(self._state).index(path)) if isinstance(variable, nnx.RngKey) else jnp.zeros((), jnp.uint32)
        value = (buffers if place.buffer else parameters).get(place.block)
        if value is None:  # an absent block that the caller does not need
            return variable.get_value()
        for step in place.inside:
            value = value[step]
        return value

    def _read(self, module: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """(parameters, buffers) of a module, by block. Variables that a call added (sown intermediates) are left out."""
        parts: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        for path, variable in nnx.to_flat_state(nnx.state(module)):
            place = self._places.get(path)
            if place is not None:
                _put(parts[place.buffer], (place.block, *place.inside), variable.get_value())
        return parts

    def _place(self, path: Path, variable: Any) -> Place:
        top, inside = (path[1], path[2:]) if self._sequential else (path[0], path[1:])
        return Place(self._block_name(top), tuple(map(str, inside)), not isinstance(variable, nnx.Param))

    def _block_name(self, child: str | int) -> str:
        return f"layer{child}" if isinstance(child, int) else child

    def _check_buffers(self) -> None:
        lost = sorted({place.block for place in self._places.values()} - set(self.blocks))
        if lost:
            raise AtollError(f"Model {self.name!r}: {', '.join(lost)} holds state but no parameters, so it belongs to no block. Move it into a block with parameters.")


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


def _children(module: nnx.Module) -> Iterable[str | int]:
    return range(len(module.layers)) if isinstance(module, nnx.Sequential) else list(vars(module))


def _put(tree: dict[str, Any], path: Iterable[str], value: Any) -> None:
    *above, name = path
    for step in above:
        tree = tree.setdefault(step, {})
    tree[name] = value


def _abstract(tree: Any) -> bool:
    return any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in _leaves(tree))


def _leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, dict):
        for value in tree.values():
            yield from _leaves(value)
    else:
        yield tree
