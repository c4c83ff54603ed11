"""Classes of methods by what a specification calls them."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from atoll.core.errors import AtollError
from atoll.methods import get, wrap


def class_of(name: str) -> type[Any]:
    """The class of a method of the table ("fedprox+ft"), or of the user's own ("module:Class"). AtollError where there is none."""
    return _import(name) if ":" in name else get(name)


def _import(path: str) -> type[Any]:
    path, *wrappers = path.split("+")
    module, _, name = path.partition(":")
    sys.path.insert(0, os.getcwd())  # a method in a file beside the specification
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise AtollError(f"Method {path!r}: can't import {module}: {error}.") from None
    finally:
        sys.path.pop(0)
    if found is None or not hasattr(found, "__dataclass_fields__"):
        raise AtollError(f"Method {path!r}: {module} has no method {name} (a class marked @method).")
    return wrap(found, wrappers)
