"""The one exception that reaches a user, and the search for what he may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AtollError(Exception):
    """Something asked of Atoll cannot be done. The text says what, where, why and how to mend it; the command line prints it and exits with 2."""


def unknown(kind: str, name: str, known: Iterable[str]) -> AtollError:
    """The error for a name that is not known: suggests the nearest ones, then lists all.

    `kind` is the noun the user knows ("method", "data set"), `known` all valid names.
    """
    names = {n.lower(): n for n in sorted(known)}
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    near = [n for n in near if _alike(name, n) > _alike(name, near[0]) - 0.15]  # the nearest, and what is nearly as near
    hint = f" Did you mean {' or '.join(names[n] for n in near)}?" if near else ""
    return AtollError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(names.values())}.")


def _alike(name: str, other: str) -> float:
    return difflib.SequenceMatcher(None, other, name.lower()).ratio()
