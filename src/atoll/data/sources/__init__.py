"""The table of sources of data. A source's module is imported only when it is read."""

from __future__ import annotations

import inspect
from functools import partial
from importlib import import_module
from typing import Any

from atoll.core.errors import AtollError, unknown
from atoll.data.sources.catalogue import CATALOGUE, Source
from atoll.data.table import Table

__all__ = ["SOURCES", "Source", "read"]


SOURCES: dict[str, Source] = {source.name: source for source in CATALOGUE}


def read(name: str, clients: int | None, seed: int, options: dict[str, Any]) -> Table:
    """The rows of a source. AtollError for an unknown source or option (with the nearest known one), and for what the source finds wrong."""
    if name not in SOURCES:
        raise unknown("source of data", name, SOURCES)
    source = SOURCES[name]
    module, _, function = source.reader.partition(":")
    reader = getattr(import_module(f"atoll.data.{module}"), function)
    if source.table:
        reader = partial(reader, source.table)
    known = [p for p in inspect.signature(reader).parameters if p not in ("clients", "seed")]
    for option in options:
        if option not in known:
            raise unknown(f"option of source {name}", option, known) if known else AtollError(f"Source {name} has no options, so not {option!r}.")
    return reader(clients=clients, seed=seed, **options) if source.generated else reader(**options)
