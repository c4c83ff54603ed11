"""Ready-made studies: TOML files beside this one, run by name."""

from __future__ import annotations

import tomllib
from importlib.resources import files

from atoll.study.grid import Study, make_study

READY = (
    "quick", "survey-label-skew", "survey-feature-skew", "survey-quantity", "survey-preference", "survey-temporal", "systems", "scalability",
    "adaptation", "label-attacks",
)  # fmt: skip


def ready(name: str) -> Study:
    """One of the ready-made studies."""
    return make_study(tomllib.loads(files("atoll.study.ready").joinpath(f"{name}.toml").read_text(encoding="utf-8")), name)
