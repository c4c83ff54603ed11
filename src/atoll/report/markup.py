"""HTML built from parts. What is not made here is text and gets escaped, so no name of a client or method can become markup."""

from __future__ import annotations

import html
import json
from typing import Any

EMPTY = frozenset({"meta", "br", "hr", "input"})  # elements without content


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def e(element: str, /, *children: str | None, **attributes: str | float | bool | None) -> Html:
    """An element. children: Html is taken as it is, any other text is escaped, None is left out.

    attributes: `class_` is class, `data_key` is data-key; True gives the name alone, False and None nothing.
    """
    opened = "".join([element, *(_attribute(key, value) for key, value in attributes.items())])
    if element in EMPTY:
        return Html(f"<{opened}>")
    return Html(f"<{opened}>{join(*children)}</{element}>")


def join(*parts: str | None) -> Html:
    """Parts one after another, escaped where they are not Html."""
    return Html("".join(part if isinstance(part, Html) else html.escape(part, quote=False) for part in parts if part is not None))


def prose(text: str) -> Html:
    """A sentence in which `code` stands between backticks."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return join(text)
    return join(*(e("code", part) if n % 2 else part for n, part in enumerate(parts)))


def script_data(value: Any, **attributes: str) -> Html:
    """Data for the page's script. No text in it can close the element: < is written as an escape of JSON's."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return e("script", Html(text), type="application/json", **attributes)


def _attribute(key: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value), quote=True)}"'
