"""Atoll: personalized federated learning in Python.

    import atoll

    result = atoll.run("digits", ["fedper", "scaffold"], rounds=20)
    result.show()

Importing this package is cheap; JAX is loaded when something runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from atoll.advice import Advice, advise
    from atoll.api import Result, StudyResult, resume, run, run_study, verify
    from atoll.core.errors import AtollError
    from atoll.data import load
    from atoll.metrics.heterogeneity import heterogeneity
    from atoll.study.private import private_heterogeneity
    from atoll.study.verified import Checked, Verification

__all__ = [
    "Advice",
    "AtollError",
    "Checked",
    "Result",
    "StudyResult",
    "Verification",
    "__version__",
    "advise",
    "heterogeneity",
    "load",
    "private_heterogeneity",
    "resume",
    "run",
    "run_study",
    "verify",
]

_WHERE = {
    "advise": "atoll.advice",
    "Advice": "atoll.advice",
    "run": "atoll.api",
    "resume": "atoll.api",
    "run_study": "atoll.api",
    "verify": "atoll.api",
    "Verification": "atoll.study.verified",
    "Checked": "atoll.study.verified",
    "Result": "atoll.api",
    "StudyResult": "atoll.api",
    "load": "atoll.data",
    "AtollError": "atoll.core.errors",
    "heterogeneity": "atoll.metrics.heterogeneity",
    "private_heterogeneity": "atoll.study.private",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'atoll' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)
