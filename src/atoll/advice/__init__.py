"""Whether personalization pays on a federation, with which family of methods, and what it costs: found out by a short pilot."""

from __future__ import annotations

from atoll.advice.advise import advise
from atoll.advice.result import Advice

__all__ = ["Advice", "advise"]
