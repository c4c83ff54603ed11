"""A flax.linen module as a network of pure functions on named blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp
from flax import linen
from jax import Array

from atoll.core.errors import AtollError
from atoll.core.model import Mode
from atoll.models.nnx_network import HeadReachedError, mode_arguments, needs_key, never_called

Tree = Mapping[str, Any]


class LinenNetwork:
    """Implements atoll.core.model.Network for a linen module.

    Buffers of a block are {collection: state}. Batch norms are handed the padding mask by an interceptor, and the last block's input is
    caught the same way; the last block itself is kept as an unbound copy of the submodule.
    """

    def __init__(self, module: linen.Module, example: Array, name: str):
        self.name = name
        self._module, self._example = module, example
        order: list[str] = []  # read while tracing: jax sorts the keys of what a traced function returns
        last: dict[str, linen.Module] = {}

        def note(next_call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
            if context.method_name == "__call__" and len(context.module.path) == 1:
                last[context.module.path[0]] = context.module.clone(parent=None)
            return next_call(*args, **kwargs)

        def trace(key: Array) -> Any:
            variables = self._variables(key)
            order.extend(variables.get("params", {}))
            return variables

        with linen.intercept_methods(note):
            shapes = jax.eval_shape(trace, jax.random.key(0))
        self.blocks = tuple(order)
        if not order:
            raise AtollError(f"Model {name!r}: {type(module).__name__} has no parameters, so there is nothing to train.")
        self._last = last.get(order[-1])
        self._collections = [collection for collection in shapes if collection != "params"]
        self._check(shapes)

    def init(self, key: Array) -> tuple[dict[str, Any], dict[str, Any]]:
        variables = self._variables(key)
        return dict(variables["params"]), self._buffers(variables)

    def run(self, parameters: Tree, buffers: Tree, x: Array, mode: Mode) -> tuple[Array, dict[str, Any]]:
        variables = self._joined(parameters, buffers)
        options: dict[str, Any] = mode_arguments(type(self._module).__call__, mode)
        if mode.train:
            options["mutable"] = self._collections
        if mode.key is not None:
            options["rngs"] = {"dropout": mode.key}
        try:
            with linen.intercept_methods(_masking(mode)):
                result: Any = self._module.apply(variables, x, **options)
        except flax.errors.InvalidRngError as error:
            raise needs_key(self.name) from error
        outputs, after = result if mode.train else (result, variables)
        return outputs, self._buffers({**variables, **after})

    def features(self, parameters: Tree, buffers: Tree, x: Array, mode: Mode) -> tuple[Array, dict[str, Any]]:
        return self._caught(parameters, buffers, x, self.blocks[-1], mode, last=True)

    def below(self, parameters: Tree, buffers: Tree, x: Array, block: str, mode: Mode) -> tuple[Array, dict[str, Any]]:
        return self._caught(parameters, buffers, x, block, mode, last=False)

    def above(self, parameters: Tree, buffers: Tree, z: Array, block: str, mode: Mode, like: Array) -> tuple[Array, dict[str, Any]]:
        shapes, states = jax.eval_shape(self.init, jax.random.key(0))
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), ({b: shapes[b] for b in shapes if b not in parameters}, states))

        def feed(next_call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
            mine = context.method_name == "__call__" and context.module.path == (block,)
            return next_call(*((z, *args[1:]) if mine else args), **kwargs)

        with linen.intercept_methods(feed):  # what blocks of zeros compute below is used by none and left out when compiled
            return self.run({**zeros[0], **parameters}, {**zeros[1], **buffers}, like, mode)

    def _caught(self, parameters: Tree, buffers: Tree, x: Array, block: str, mode: Mode, last: bool) -> tuple[Array, dict[str, Any]]:
        """The input of a block, and the buffers after this batch."""
        state: dict[str, Any] = {}

        def catch(next_call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
            if context.method_name == "__call__" and context.module.path == (block,):
                scope = context.module.scope.root
                state.update({c: scope.variables()[c] for c in self._collections if c in scope.variables()})
                raise HeadReachedError(args[0])
            return next_call(*args, **kwargs)

        try:
            with linen.intercept_methods(catch):
                self.run(parameters, buffers, x, mode)
        except HeadReachedError as reached:
            after = self._buffers(state) if state else buffers
            return reached.z, {block: after[block] for block in buffers}
        raise never_called(self.name, block, last)

    def head(self, parameters: Tree, buffers: Tree, z: Array, mode: Mode) -> Array:
        last = self.blocks[-1]
        if self._last is None:
            raise AtollError(f"Model {self.name!r}: its last block {last!r} is a bare parameter, which cannot be applied to features.")
        variables: dict[str, Any] = {"params": parameters[last], **buffers.get(last, {})}
        options: dict[str, Any] = mode_arguments(type(self._last).__call__, mode)
        result: Any = self._last.apply(variables, z, **options)
        return result

    def _variables(self, key: Array) -> dict[str, Any]:
        options: dict[str, Any] = mode_arguments(type(self._module).__call__, Mode(train=False))
        return dict(self._module.init(key, self._example, **options))

    def _buffers(self, variables: Tree) -> dict[str, Any]:
        """{collection: {block: state}} -> {block: {collection: state}}"""
        buffers: dict[str, Any] = {}
        for collection in self._collections:
            for block, state in variables.get(collection, {}).items():
                buffers.setdefault(block, {})[collection] = state
        return buffers

    def _joined(self, parameters: Tree, buffers: Tree) -> dict[str, Any]:
        variables: dict[str, Any] = {"params": dict(parameters)}
        for block, collections in buffers.items():
            for collection, state in collections.items():
                variables.setdefault(collection, {})[block] = state
        return variables

    def _check(self, shapes: Tree) -> None:
        homeless = sorted({block for c in self._collections for block in shapes[c]} - set(self.blocks))
        if homeless:
            raise AtollError(f"Model {self.name!r}: {', '.join(homeless)} holds state but no parameters, so it belongs to no block.")
        if self._collections and not mode_arguments(type(self._module).__call__, Mode(train=True)):
            raise AtollError(
                f"Model {self.name!r} has buffers ({', '.join(self._collections)}) but its call does not say when it trains. "
                "Give it an argument `train` and pass use_running_average=not train to its batch norms."
            )


def _masking(mode: Mode) -> Callable:
    """Hands the padding mask to every batch norm in training mode."""

    def intercept(next_call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        if mode.train and mode.mask is not None and isinstance(context.module, linen.BatchNorm) and context.method_name == "__call__":
            kwargs = {"mask": mode.mask.astype(bool).reshape(-1, *(1,) * (args[0].ndim - 1)), **kwargs}
        return next_call(*args, **kwargs)

    return intercept
