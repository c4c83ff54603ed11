"""Messages as named byte arrays: a JSON header with the structure, then the arrays' bytes. Nothing is pickled.

Layout: 8 bytes little-endian length of the header, the header (UTF-8 JSON), the arrays one after another. Containers known: dict with text keys,
list, tuple, NamedTuple (named by module and class, and only looked up among classes already loaded), tree_math.Vector, None, numbers, text, keys.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tree_math import Vector

from atoll.core.errors import AtollError


def encode(tree: Any) -> bytes:
    """A message as bytes. AtollError for a value that has no place in a message."""
    arrays: list[tuple[str, np.ndarray]] = []
    structure = _pack(tree, "", arrays)
    table = [[name, array.dtype.name, list(array.shape)] for name, array in arrays]
    header = json.dumps({"structure": structure, "arrays": table}).encode()
    return b"".join([len(header).to_bytes(8, "little"), header, *(np.ascontiguousarray(array).tobytes() for _, array in arrays)])


def decode(message: bytes) -> Any:
    """The value that `encode` was given, with arrays of its own of the same kind (JAX or NumPy). AtollError for bytes that are no message."""
    try:
        size = int.from_bytes(message[:8], "little")
        header = json.loads(message[8 : 8 + size])
        at, arrays = 8 + size, []
        for _, dtype, shape in header["arrays"]:
            kind = np.dtype(jnp.dtype(dtype))
            count = int(np.prod(shape))
            arrays.append(np.frombuffer(message, kind, count, at).reshape(shape).copy())
            at += count * kind.itemsize
        return _unpack(header["structure"], arrays)
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise AtollError(f"These {len(message)} bytes are no Atoll message, or one cut short: {error}.") from error


def _pack(value: Any, name: str, arrays: list[tuple[str, np.ndarray]]) -> Any:
    def inner(part: Any, key: Any) -> Any:
        return _pack(part, f"{name}/{key}" if name else str(key), arrays)

    if value is None:
        return None
    if isinstance(value, Vector):
        return {"vector": inner(value.tree, "w")}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        kind: Any = type(value)
        return {"named": [kind.__module__, kind.__qualname__], "items": [inner(part, field) for field, part in zip(kind._fields, value, strict=True)]}
    if isinstance(value, tuple | list):
        return {"tuple" if isinstance(value, tuple) else "list": [inner(part, n) for n, part in enumerate(value)]}
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise AtollError(f"A message can't carry the dict at {name or 'its top'}: its keys must be text.")
        return {"dict": [[key, inner(part, key)] for key, part in value.items()]}
    if isinstance(value, bool | int | float | str):
        return {"value": value}
    return _pack_array(value, name, arrays)


def _pack_array(value: Any, name: str, arrays: list[tuple[str, np.ndarray]]) -> Any:
    is_key = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    if not hasattr(value, "dtype"):
        raise AtollError(f"A message can't carry a {type(value).__name__} (at {name or 'its top'}): send arrays, numbers, text and containers of these.")
    arrays.append((name, np.asarray(jax.random.key_data(value) if is_key else value)))
    if arrays[-1][1].dtype == object:
        raise AtollError(f"A message can't carry an array of Python objects (at {name or 'its top'}).")
    return {"key" if is_key else "array" if isinstance(value, jax.Array) else "numpy": len(arrays) - 1}


def _unpack(node: Any, arrays: list[np.ndarray]) -> Any:
    if node is None:
        return None
    if "named" in node:
        return _named_tuple(*node["named"])(*(_unpack(part, arrays) for part in node["items"]))
    (kind, content), *_ = node.items()
    match kind:
        case "vector":
            return Vector(_unpack(content, arrays))
        case "tuple":
            return tuple(_unpack(part, arrays) for part in content)
        case "list":
            return [_unpack(part, arrays) for part in content]
        case "dict":
            return {key: _unpack(part, arrays) for key, part in content}
        case "value":
            return content
        case "array":
            return jnp.asarray(arrays[content])
        case "numpy":
            return arrays[content]
        case "key":
            return jax.random.wrap_key_data(jnp.asarray(arrays[content]))
    raise ValueError(f"unknown container {kind!r}")


def _named_tuple(module: str, name: str) -> Any:
    """A NamedTuple class that is already loaded; nothing is imported and nothing else is called because a message says so."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, tuple) and hasattr(found, "_fields")):
        raise AtollError(f"A message names the type {module}.{name}, which is no NamedTuple known here. Both ends must run the same method.")
    return found
