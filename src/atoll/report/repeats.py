"""Runs that differ in nothing but their seeds, taken together: the only ones from which a reader learns whether a difference comes back."""

from __future__ import annotations

import tomllib
from typing import Any

import numpy as np

from atoll import metrics
from atoll.report import words
from atoll.report.digest import Digest


def are_repeats(digests: list[Digest]) -> bool:
    """True for two or more runs of one specification on one source of data, each with another seed."""
    specs = [_parsed(d.run.spec) for d in digests]
    if len(digests) < 2 or not all(specs) or len({d.unit for d in digests}) > 1:
        return False
    seeds = {(spec.get("seed"), spec.get("data", {}).get("seed")) for spec in specs}
    return len(seeds) == len(specs) and all(_without_seeds(spec) == _without_seeds(specs[0]) for spec in specs)


def seed(d: Digest) -> str:
    """What tells a repetition from the others."""
    spec = _parsed(d.run.spec)
    own = spec.get("data", {}).get("seed")
    return str(spec.get("seed")) + (f", split {own}" if own is not None else "")


def scores(digests: list[Digest], method: str) -> list[float] | None:
    """The score of a method in each run; None where a run has none."""
    values = [d.value(method, d.unit) for d in digests]
    return [float(v) for v in values if v is not None] if all(v is not None for v in values) else None


def best(digests: list[Digest]) -> str | None:
    """The method, not a baseline, with the best mean validation score over all runs: test rows have no say."""
    regression, column = digests[0].regression, f"validation_{digests[0].unit}"
    means: dict[str, float] = {}
    for name in digests[0].table.filter(~digests[0].table["baseline"])["method"]:
        values = [d.value(name, column) for d in digests]
        if scores(digests, name) is not None and all(v is not None for v in values):
            means[name] = float(np.mean([v for v in values if v is not None]))
    if not means:
        return None
    return (min if regression else max)(means, key=lambda name: means[name])


def summary(digests: list[Digest]) -> list[str]:
    """Sentences on the best method against FedAvg+FT and Local, over seeds."""
    top = best(digests)
    if top is None:
        return []
    first, n = digests[0], len(digests)
    found = [f"Over {n} seeds, {top} has the best mean validation score of the methods."]
    for title in ("FedAvg+FT", "Local"):
        rival = first.run.reference(title)
        theirs, ours = scores(digests, rival) if rival else None, scores(digests, top)
        if rival and theirs and ours:
            found.append(_sentence(first, top, rival, metrics.repeated(ours, theirs, regression=first.regression)))
    same = len({d.run.data.get("split_hash") for d in digests}) == 1
    found.append("All runs share one split of the data: only training was repeated." if same else "The split of the data was drawn anew for each seed.")
    return found


def spread(d: Digest, values: list[float] | None) -> str:
    """Mean ± standard deviation over runs."""
    if values is None:
        return words.DASH
    show = words.loss if d.regression else words.percent
    return f"{show(float(np.mean(values)))} ± {show(float(np.std(values, ddof=1)))}"


def _sentence(d: Digest, top: str, rival: str, gap: metrics.Difference) -> str:
    scale, digits, unit = (1.0, ".3g", "mean loss") if d.regression else (100.0, ".1f", "points")
    low, mean, high = (f"{scale * value:+{digits}}" for value in (gap.low, gap.mean, gap.high))
    told = "" if gap.low > 0 or gap.high < 0 else ", which does not tell it from none"
    return f"{top} against {rival} on test rows: {mean} {unit} (95 % interval {low} to {high}, {gap.pairs} paired runs; positive is better){told}."


def _parsed(spec: str) -> dict[str, Any]:
    try:
        return tomllib.loads(spec)
    except tomllib.TOMLDecodeError:
        return {}


def _without_seeds(spec: dict[str, Any]) -> dict[str, Any]:
    """A specification without its seeds, and without what follows from the machine."""
    data = {key: value for key, value in spec.get("data", {}).items() if key != "seed"}
    return {**{key: value for key, value in spec.items() if key not in ("seed", "threads", "lanes", "together")}, "data": data}
