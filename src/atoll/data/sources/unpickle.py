"""Reads pickles that hold NumPy arrays and plain values. A pickle may name any function and have it run; here only those of a list can be named."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.sources.files import said

# What a damaged or forged file makes the pickle module raise.
DAMAGE = (pickle.UnpicklingError, KeyError, ValueError, EOFError, OSError, TypeError, AttributeError, IndexError, AssertionError, ImportError)

Allowed = Mapping[tuple[str, str], Callable[..., Any]]


def _dtype(kind: str, align: int = 0, copy: int = 0) -> np.dtype:
    """NumPy 1 wrote the flags as 0 and 1, at which NumPy 2.4 and later take offence."""
    return np.dtype(kind, align=bool(align), copy=bool(copy))


def _frombuffer(content: bytes, kind: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    """An array from its bytes, as NumPy puts it together from a pickle of protocol 5."""
    return np.frombuffer(content, kind).reshape(shape, order="F" if order == "F" else "C")


def _text_bytes(text: str, encoding: str) -> bytes:
    """Bytes as Python 2 and protocol 2 write them."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin-1")


# What a pickled array calls when it is put together, in NumPy 1 and in NumPy 2.
ARRAYS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _text_bytes,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): np._core.multiarray._reconstruct for core in ("core", "_core")},  # type: ignore[attr-defined]
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: IO[bytes], allowed: Allowed, encoding: str):
        super().__init__(stream, encoding=encoding)
        self.allowed = allowed

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only NumPy arrays are let in. Don't trust this file")
        return self.allowed[module, name]


def unpickled(stream: IO[bytes], *, also: Allowed | None = None, encoding: str = "ASCII") -> Any:
    """The object of a pickle. also: (module, name) -> what stands in for it. encoding: of texts written by Python 2; "bytes" leaves them as bytes.

    Raises one of DAMAGE for what isn't allowed, or is damaged.
    """
    return _Unpickler(stream, ARRAYS if also is None else {**ARRAYS, **also}, encoding).load()


def unpickled_npy(stream: IO[bytes]) -> Any:
    """The object in an .npy file of one object, which NumPy would read with allow_pickle=True and so run whatever it asks for. Raises one of DAMAGE."""
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(stream)
    if shape != () or not dtype.hasobject:
        raise ValueError(f"'data' is an array {dtype}{list(shape)}, not a dict")
    return unpickled(stream).item()


def damaged(file: object, what: str, error: Exception) -> AtollError:
    """The error for a file of which one of DAMAGE was raised."""
    return AtollError(f"{file} can't be read as {what}: {said(error)}.")
