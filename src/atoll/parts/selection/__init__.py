"""Selectors: whom a round asks."""

from atoll.parts.selection.uniform import Uniform

__all__ = ["Uniform"]
