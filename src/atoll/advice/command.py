"""What to run next, as a command."""

from __future__ import annotations

import shlex

from atoll.advice.result import Advice
from atoll.study.spec import Spec


def next_command(a: Advice, spec: Spec) -> str:
    """What to run to see more of the answer: the recommended method beside the baselines, on the whole data."""
    line, d = a.line(a.recommended), spec.data
    if d.source == "(given)":
        model = f', model="{a.model}"' if a.model else ""
        return f'atoll.run(data, ["{line.name}"]{model}, rounds={2 * a.rounds}, settings={{"lr": {line.rate or 0.1}, "batch": 10}})'
    if d.source in ("csv", "parquet") and "path" in d.options:
        parts = ["atoll", "run", "--data", str(d.options["path"])]
    else:
        parts = ["atoll", "run", "--data", d.source, *(["--path", str(d.options["path"])] if "path" in d.options else [])]
    for name, value in d.options.items():
        if name in ("client", "label", "task"):
            parts += [f"--{name}", str(value)]
        elif name != "path":
            parts += ["--option", f"{name}={value}"]
    for skew in d.skew:
        parts += ["--skew", skew]
    for name in ("clients", "unseen", "public", "limit", "resample"):
        value = getattr(d, name)
        if value:
            parts += [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]
    parts += ["--model", a.model] if a.model else []
    parts += ["--method", line.name, "--set", f"lr={line.rate or 0.1:g}", "--set", "batch=10", "--rounds", str(2 * a.rounds)]
    if spec.seed:
        parts += ["--seed", str(spec.seed)]
    return shlex.join(parts)
