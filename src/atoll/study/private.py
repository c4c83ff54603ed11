"""How clients differ, from noised counts alone, and how far that is from what their rows say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.data.federation import Federation
from atoll.engine.engines import make_engine
from atoll.engine.host import HostRows
from atoll.metrics.heterogeneity.features import wasserstein
from atoll.metrics.heterogeneity.labels import gini, jensen_shannon, shares, to_everybody, total_variation
from atoll.parts.noised import Budget, Counts, Noised, Range, some_values, whole_laplace
from atoll.parts.selection import selector
from atoll.study.models import choose_models
from atoll.study.training import facts_of

DRAWS = 40  # of noise, by which its part in an estimate is worked out


class Estimate(NamedTuple):
    """One measure from noised counts."""

    key: str  # as in the measures with access to rows
    name: str
    value: float  # estimate, corrected for what the noise adds on average
    noise: float  # what the same estimate is on average where clients differ by chance alone
    exact: float  # from the rows of the same clients

    @property
    def error(self) -> float:
        """By how much the estimate is off."""
        return self.value - self.exact


@dataclass(frozen=True)
class Private:
    """What clients said, and what follows."""

    budget: Budget  # epsilon per statistic; it adds up to what was asked for
    scales: Budget  # of the noise (sensitivity / epsilon) in rows, per statistic; 0 where nothing was asked
    counts: Counts  # a leading axis [seen clients]
    estimates: tuple[Estimate, ...]
    bytes_up: int  # of all replies together


def private_heterogeneity(
    fed: Federation, epsilon: float, *, seed: int = 0, engine: str = "simulate", secret: bool = False, values: int = 4, bins: int = 10
) -> Private:
    """Measures how the seen clients of a federation differ from noised counts of their train rows, and compares with the rows.

    epsilon: spent in all per row (see atoll.parts.noised.Noised, also for what is sent). secret: noise that cannot be repeated, as at real sites. values, bins:
    how many values of a row get a histogram of how many bins; more of them show more and get more noise. AtollError for labels at every position of a row.
    """
    if fed.y.ndim > 1:
        raise AtollError(f"{fed.name}: rows have many labels each, and noised counts are for one per row. Measure without --private.")
    asked = Noised(epsilon=float(epsilon), values=values, bins=bins, secret=secret)
    facts = facts_of(fed, choose_models((), fed), has_pool=False)
    exchange = make_engine(engine, fed, facts, seed)
    exchange.executor.begin("noised counts")
    server = Fed(asked, exchange, facts, selector("uniform", None), None, seed)
    images = fed.x.ndim > 2
    span = Range(*np.array([0, 1] if images else [-4, 4], np.float32)[:, None])
    try:
        counts = asked.ask(server, span)
    finally:
        exchange.executor.close()
    labelled, shown = bool(fed.labels), fed.x.dtype != np.int32
    budget = asked.budget(labelled, shown)
    scales = Budget(1 / budget.sizes, 1 / budget.labels if labelled else 0, counts.features.shape[1] / budget.features if shown else 0)
    return Private(budget, scales, counts, _estimates(fed, counts, scales, span, seed), int(server.traffic.up.sum()))


def _estimates(fed: Federation, counts: Counts, scales: Budget, span: Range, seed: int) -> tuple[Estimate, ...]:
    rng = np.random.default_rng([seed, 4])
    exact = _exact(fed, counts, span)
    sizes = np.maximum(counts.rows, 1)
    width = float(span.high[0] - span.low[0]) / counts.features.shape[2]
    kinds: list[tuple[str, str, np.ndarray, float, Callable[[np.ndarray], float], bool]] = [
        ("gini", "Gini of sizes", counts.rows, scales.sizes, lambda c: gini(np.maximum(c, 0)), False),
    ]
    if fed.labels:
        kinds += [
            ("label_tv", "total variation to all rows", counts.labels, scales.labels, lambda c: to_everybody(_possible(c), total_variation), True),
            ("label_js", "Jensen-Shannon to all rows, bits", counts.labels, scales.labels, lambda c: to_everybody(_possible(c), jensen_shannon), True),
        ]
    if counts.features.shape[1]:
        kinds.append(("feature_wasserstein", "1-Wasserstein to all rows, deviations", counts.features, scales.features, lambda c: _wasserstein(c, width), True))
    found = []
    for key, name, said, scale, measure, dealt in kinds:
        value = _corrected(said, scale, measure, rng)
        alike = [_corrected(whole_laplace(_alike(said, sizes, rng, dealt), scale, rng), scale, measure, rng, DRAWS // 4) for _ in range(5)]
        found.append(Estimate(key, name, value, float(np.mean(alike)), exact[key]))
    return tuple(found)


def _corrected(counts: np.ndarray, scale: float, measure: Callable[[np.ndarray], float], rng: np.random.Generator, draws: int = DRAWS) -> float:
    """A measure of noised counts without what noise adds: noised once and twice more, and extrapolated back to none (SIMEX, Cook and Stefanski 1994)."""
    levels = [measure(counts)]
    for times in (1, 2):
        levels.append(float(np.mean([measure(_noisier(counts, scale, times, rng)) for _ in range(draws)])))
    return max(0.0, 3 * levels[0] - 3 * levels[1] + levels[2])


def _noisier(counts: np.ndarray, scale: float, times: int, rng: np.random.Generator) -> np.ndarray:
    for _ in range(times):
        counts = whole_laplace(counts, scale, rng)
    return counts


def _alike(counts: np.ndarray, sizes: np.ndarray, rng: np.random.Generator, dealt: bool) -> np.ndarray:
    """Counts [clients, ...] without noise of clients that differ by chance alone: of the same sizes with the law of all, or (not dealt) all of one size."""
    if not dealt:
        return np.full(len(counts), round(float(np.mean(sizes))))
    everybody = shares(_possible(counts.sum(axis=0)).astype(np.float64))
    layers = [rng.multinomial(sizes, law) for law in everybody.reshape(-1, counts.shape[-1])]
    return np.stack(layers, axis=1).reshape(counts.shape)


def _possible(counts: np.ndarray) -> np.ndarray:
    return np.maximum(counts, 0)


def _wasserstein(counts: np.ndarray, width: float) -> float:
    """Mean over clients and values of the 1-Wasserstein distance between a client's and everybody's histogram [clients, values, bins], in deviations."""
    p, q = shares(_possible(counts).astype(np.float64)), shares(_possible(counts.sum(axis=0)).astype(np.float64))
    at = np.arange(counts.shape[2]) * width
    deviation = np.sqrt(np.maximum(q @ at**2 - (q @ at) ** 2, 0))
    kept = (deviation > 0) & (p.sum(axis=2) > 0)
    apart = np.abs(np.cumsum(p - q, axis=2)).sum(axis=2) * width / np.where(deviation > 0, deviation, 1)
    return float(apart[kept].mean()) if kept.any() else 0.0


def _exact(fed: Federation, counts: Counts, span: Range) -> dict[str, float]:
    """The same measures of the same clients from their rows; of the same values, without bins."""
    rows = HostRows(fed)
    parts = [rows(i) for i in range(fed.seen)]
    found = {"gini": gini(fed.count["train"][: fed.seen])}
    if fed.labels:
        table = np.stack([np.bincount(y, minlength=len(fed.labels)) for _, y in parts])
        found |= {"label_tv": to_everybody(table, total_variation), "label_js": to_everybody(table, jensen_shannon)}
    if counts.features.shape[1]:
        values = np.concatenate([some_values(x, counts.features.shape[1]) for x, _ in parts])
        owner = np.repeat(np.arange(fed.seen), [len(y) for _, y in parts])
        found["feature_wasserstein"] = float(np.nan_to_num(np.nanmean(wasserstein(values, owner))))
    return found
