"""Figures of what a method gains and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import plotly.graph_objects as go
import polars as pl

from atoll import metrics
from atoll.report import words
from atoll.report.colours import FAINT, Style
from atoll.report.digest import Digest
from atoll.report.figure import BYTES, Chart, blank, marker, plain, text, unit_of

OPERATIONS = ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1e3, "kFLOP"), (1.0, "FLOP"))


@dataclass(frozen=True)
class Cost:
    """One kind of cost: a column of the comparison."""

    key: str
    column: str
    title: str
    says: str
    units: tuple[tuple[float, str], ...]


COSTS = (
    Cost("price", "bytes_chosen", "Gain and traffic", "bytes down and up per seen client until the round that counts", BYTES),
    Cost("price-work", "flops_client", "Gain and computing", "floating-point operations per seen client over all rounds", OPERATIONS),
    Cost("price-state", "state_client", "Gain and private state", "bytes that a client keeps from round to round", BYTES),
)


def prices(d: Digest, look: dict[str, Style]) -> Iterator[Chart]:
    """Gain over FedAvg+FT (else: the score) against each kind of cost that some method has, with the Pareto front."""
    rival = d.run.reference("FedAvg+FT")
    base = d.value(rival, d.unit)
    for cost in COSTS:
        rows = d.table.filter(pl.col(d.unit).is_not_null() & pl.col(cost.column).is_not_null()).select("method", d.unit, cost.column)
        if d.run.reference("Local") in d.methods:  # costs as little as Majority, which would only stretch the scale
            rows = rows.filter(pl.col("method") != pl.lit(d.run.reference("Majority"), pl.String).fill_null(""))
        if not rows.is_empty() and (rows[cost.column] > 0).any():
            names, scores, spent = (rows[column].to_list() for column in ("method", d.unit, cost.column))
            sign = -1.0 if d.regression and base is not None else 1.0
            gains = scores if base is None else [sign * (score - base) for score in scores]
            yield price(look, cost, names, gains, spent, rival=rival if base is not None else None, regression=d.regression)


def price(
    look: dict[str, Style], cost: Cost, names: list[str], gains: list[float], spent: list[float], *, rival: str | None, regression: bool, over: str = ""
) -> Chart:
    """What methods gain on `rival` (None: gains are scores) against what they spend. over: what numbers are means over, for the caption."""
    scale = 1.0 if regression else 100.0
    unit, prefix = unit_of(max(spent), cost.units)
    what = "loss" if regression else "accuracy"
    points = "" if regression else ", points" if rival else ", %"
    figure = blank(300, f"{prefix} per client", f"gain on {rival}{points}" if rival else f"test {what}{points}")
    if rival:
        figure.add_hline(y=0, line={"color": FAINT[0], "width": 1, "dash": "dot"})
    better = [-gain for gain in gains] if regression and not rival else gains
    front = metrics.front(spent, better)
    edge = [spent[i] / unit for i in front], [gains[i] * scale for i in front]
    figure.add_trace(
        go.Scatter(
            x=plain([*edge[0], max(spent) / unit]), y=plain([*edge[1], edge[1][-1]]), mode="lines", hoverinfo="skip",
            line={"color": FAINT[0], "width": 1, "shape": "hv"},
        )
    )  # fmt: skip
    for name, gain, paid in zip(names, gains, spent, strict=True):
        hover = f"{text(name)}: %{{y:.4g}} for %{{x:.3g}} {prefix}<extra></extra>"
        figure.add_trace(
            go.Scatter(
                x=plain([paid / unit]), y=plain([gain * scale]), mode="markers", marker=marker(look[name], 13, 1.0), name=text(name), meta=name,
                hovertemplate=hover,
            )
        )  # fmt: skip
    right = max(spent) / unit
    figure.update_xaxes(range=[-0.03 * right, 1.05 * right])
    unbeaten = words.some([names[i] for i in front])
    says = f"Test score at the round that counts, against {cost.says}{over}. On the line is who is not beaten at its price: {unbeaten}."
    return Chart(cost.key, cost.title, says, figure, tuple(names), wide=cost.key == "price")
