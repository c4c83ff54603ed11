"""Models from the user's own modules: flax.nnx, flax.linen, or a pair of plain functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx
from jax import Array

from atoll.core.errors import AtollError
from atoll.core.model import EVALUATE, Mode, Model, Network
from atoll.models.linen_network import LinenNetwork
from atoll.models.nnx_network import NnxNetwork

Tree = Mapping[str, Any]


def own(module: Any, input_shape: Sequence[int], outputs: int, task: str = "classification", name: str | None = None) -> Model:
    """A model from whatever the user brings; see `from_nnx`, `from_linen`, `from_functions`."""
    if isinstance(module, linen.Module):
        return from_linen(module, input_shape, outputs, task, name)
    if isinstance(module, type) and issubclass(module, linen.Module):
        raise AtollError(f"{module.__name__} is a flax.linen class: give an instance with its settings, as in {module.__name__}(...).")
    if isinstance(module, tuple) and len(module) == 2 and all(map(callable, module)):
        return from_functions(*module, input_shape, outputs, task, name)
    if isinstance(module, nnx.Module) or callable(module):
        made: Any = module
        return from_nnx(made, input_shape, outputs, task, name)
    raise AtollError(f"A model is made of a flax.nnx or flax.linen module or a pair (init, apply), not of {type(module).__name__}.")


def from_nnx(
    module: nnx.Module | Callable[..., nnx.Module],
    input_shape: Sequence[int],
    outputs: int,
    task: str = "classification",
    name: str | None = None,
) -> Model:
    """A model of a flax.nnx module: its class (called with rngs=...), a function `rngs -> module`, or an instance.

    An instance keeps its weights: `init` returns them whatever the key, so a pretrained module starts from where it is. Blocks are the top-
    level children in definition order. For features and head the last one must be a module applied last, or the module has a method
    `features(x)`. Padding rows are kept out of every nnx.BatchNorm's statistics; dropout needs `key` in `train`.
    """
    name = name or _name(module)
    if isinstance(module, nnx.Module):
        network = NnxNetwork(lambda _: nnx.clone(module), name, original=module)
    else:
        by_name = "rngs" in inspect.signature(module.__init__ if isinstance(module, type) else module).parameters
        network = NnxNetwork(lambda rngs: module(rngs=rngs) if by_name else module(rngs), name)
    return _checked(network, network.blocks, input_shape, outputs, task, name)


def from_linen(module: linen.Module, input_shape: Sequence[int], outputs: int, task: str = "classification", name: str | None = None) -> Model:
    """A model of a flax.linen module. Blocks are its top-level submodules in the order of their first call.

    The call may take `train`, `training`, `deterministic` or `use_running_average`. Collections other than "params" (batch_stats) are
    buffers. For features and head the last block must be the last thing applied.
    """
    name = name or _name(module)
    network = LinenNetwork(module, _example(input_shape, task, 2), name)
    return _checked(network, network.blocks, input_shape, outputs, task, name)


def from_functions(
    init: Callable[[Array], Tree],
    apply: Callable[[Tree, Array], Array],
    input_shape: Sequence[int],
    outputs: int,
    task: str = "classification",
    name: str | None = None,
    features: Callable[[Tree, Array], Array] | None = None,
    head: Callable[[Tree, Array], Array] | None = None,
) -> Model:
    """A model of plain functions: `init(key) -> {block: parameters}` in forward order and `apply(parameters, x) -> outputs`.

    `features(parameters, x)` and `head(parameters, z)` are needed only by methods that use them. Such a model has no buffers.
    """
    name = name or _name(apply)
    network = FunctionNetwork(init, apply, features, head, name)
    return _checked(network, network.blocks, input_shape, outputs, task, name)


class FunctionNetwork:
    """Implements atoll.core.model.Network for plain functions."""

    def __init__(self, init: Callable, apply: Callable, features: Callable | None, head: Callable | None, name: str):
        self.name = name
        self._init, self._apply, self._features, self._head = init, apply, features, head
        order: list[str] = []  # read while tracing: jax sorts the keys of what a traced function returns

        def note(key: Array) -> Tree:
            tree = init(key)
            if not isinstance(tree, Mapping) or not all(isinstance(block, str) for block in tree):
                raise AtollError(f"Model {name!r}: init must return a dict {{block name: parameters}}, not {type(tree).__name__}.")
            order.extend(tree)
            return tree

        jax.eval_shape(note, jax.random.key(0))
        self.blocks = tuple(order)

    def init(self, key: Array) -> tuple[dict[str, Any], dict[str, Any]]:
        return dict(self._init(key)), {}

    def run(self, parameters: Tree, buffers: Tree, x: Array, mode: Mode) -> tuple[Array, dict[str, Any]]:
        return self._apply(parameters, x), {}

    def features(self, parameters: Tree, buffers: Tree, x: Array, mode: Mode) -> tuple[Array, dict[str, Any]]:
        return self._asked(self._features, "features(parameters, x)")(parameters, x), {}

    def head(self, parameters: Tree, buffers: Tree, z: Array, mode: Mode) -> Array:
        return self._asked(self._head, "head(parameters, z)")(parameters, z)

    def below(self, parameters: Tree, buffers: Tree, x: Array, block: str, mode: Mode) -> tuple[Array, dict[str, Any]]:
        if block != self.blocks[-1]:
            raise AtollError(f"Model {self.name!r} is made of functions: it can be cut before its last block {self.blocks[-1]!r} only, not before {block!r}.")
        return self.features(parameters, buffers, x, mode)

    def above(self, parameters: Tree, buffers: Tree, z: Array, block: str, mode: Mode, like: Array) -> tuple[Array, dict[str, Any]]:
        return self.head(parameters, buffers, z, mode), {}

    def _asked(self, function: Callable | None, what: str) -> Callable:
        if function is None:
            raise AtollError(f"Model {self.name!r} was made without `{what}`, which this method needs: pass it to from_functions.")
        return function


class SeparableNetwork:
    """A user's network; before features or head are used for the first time, checks that head(features(x)) gives the outputs."""

    def __init__(self, network: Network, example: Array, last: str, name: str):
        self._network, self._example, self._last, self._name = network, example, last, name
        self._separable = False
        self.init, self.run, self.below, self.above = network.init, network.run, network.below, network.above

    def features(self, parameters: Tree, buffers: Tree, x: Array, mode: Mode) -> tuple[Array, dict[str, Any]]:
        self._check()
        return self._network.features(parameters, buffers, x, mode)

    def head(self, parameters: Tree, buffers: Tree, z: Array, mode: Mode) -> Array:
        self._check()
        return self._network.head(parameters, buffers, z, mode)

    def _check(self) -> None:
        if self._separable:
            return
        with jax.ensure_compile_time_eval():  # may be called while a program is traced
            parts = self._network.init(jax.random.key(0))
            z, _ = self._network.features(*parts, self._example, EVALUATE)
            cut, whole = self._network.head(*parts, z, EVALUATE), self._network.run(*parts, self._example, EVALUATE)[0]
            self._separable = cut.shape == whole.shape and bool(np.allclose(cut, whole, rtol=1e-3, atol=1e-4))
        if not self._separable:
            raise AtollError(
                f"Model {self._name!r} cannot be cut into features and head: its last block {self._last!r} applied to that block's input "
                "does not give the outputs, so something follows it. Define the head last and end with it."
            )


def _checked(network: Network, blocks: tuple[str, ...], input_shape: Sequence[int], outputs: int, task: str, name: str) -> Model:
    example = _example(input_shape, task, 2)
    model = Model(name, blocks, outputs, tuple(input_shape), task, SeparableNetwork(network, example, blocks[-1] if blocks else "", name))
    wanted = (2, input_shape[0], outputs) if task == "sequence" else (2, outputs)
    try:
        w = jax.eval_shape(model.init, jax.random.key(0))
        got = jax.eval_shape(model.apply, w, example).shape
    except AtollError:
        raise
    except Exception as error:
        raise AtollError(f"Model {name!r} cannot be run on a batch of shape {list(example.shape)} ({example.dtype}): {error}") from error
    if got != wanted:
        raise AtollError(f"Model {name!r} gives outputs of shape {list(got)} for a batch of 2 rows; task {task!r} with {outputs} outputs needs {list(wanted)}.")
    return model


def _example(input_shape: Sequence[int], task: str, rows: int) -> Array:
    """Rows to try a model on: noise, or tokens 0 and 1 for sequences."""
    noise = np.random.default_rng(0).normal(size=(rows, *input_shape))
    return jnp.asarray(noise > 0, jnp.int32) if task == "sequence" else jnp.asarray(noise, jnp.float32)


def _name(thing: Any) -> str:
    return thing.__name__ if hasattr(thing, "__name__") else type(thing).__name__
