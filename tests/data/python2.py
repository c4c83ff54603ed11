"""Pickles as Python 2 and NumPy 1 wrote them: texts are bytes, and arrays come from numpy.core."""

from __future__ import annotations

import io
import pickle
from typing import Any, ClassVar


class _Pickler(pickle._Pickler):  # the one in Python, whose opcodes can be chosen
    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def _text(self, value: bytes) -> None:
        self.write(pickle.SHORT_BINSTRING + bytes([len(value)]) + value if len(value) < 256 else pickle.BINSTRING + len(value).to_bytes(4, "little") + value)
        self.memoize(value)

    dispatch[bytes] = _text
    dispatch[str] = lambda self, value: self._text(value.encode())


def python2_pickle(what: Any) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, protocol=2).dump(what)
    return stream.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
