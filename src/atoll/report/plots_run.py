"""Figures about the run as a whole: the baseline ladder and convergence."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import polars as pl

from atoll import metrics
from atoll.report import words
from atoll.report.colours import FAINT, INK, Style
from atoll.report.digest import Digest
from atoll.report.figure import BYTES, Chart, apart, blank, line, marker, plain, text, unit_of

Styles = dict[str, Style]


def ladder(d: Digest, look: Styles) -> Chart | None:
    """Baselines from the lowest rung up, and the method that is best on validation rows on top of them."""
    best = d.best()
    rungs = d.table.filter((pl.col("baseline") | (pl.col("method") == pl.lit(best, pl.String)).fill_null(False)) & pl.col(d.unit).is_not_null()).sort(
        d.unit, descending=d.regression, maintain_order=True
    )
    if rungs.is_empty():
        return None
    scale = 1.0 if d.regression else 100.0
    figure = blank(36 * len(rungs) + 58, "test loss" if d.regression else "test accuracy, %")
    ticks = apart([text(name, 18) for name in rungs["method"]])
    for tick, (name, value) in zip(ticks, rungs.select("method", d.unit).iter_rows(), strict=True):
        shown = words.loss(value) if d.regression else words.share(value)
        figure.add_trace(
            go.Bar(
                x=plain([value * scale]), y=[tick], orientation="h", meta=name, marker={"color": look[name].colour, "opacity": 0.9}, width=0.62,
                text=[f"<b>{shown}</b>" if name == best else shown], textposition="outside", textfont={"color": INK[0]}, cliponaxis=False, hoverinfo="skip",
            )
        )  # fmt: skip
    top = float(rungs[d.unit].max() or 0) * scale  # type: ignore[arg-type]
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(range=[0, 1.24 * top or 1.0])  # room for the number behind the longest bar
    if not d.regression:
        step = next((s for s in (20, 10, 5, 2) if top > 2.5 * s), 1)
        figure.update_xaxes(tickvals=list(range(0, 101, step)))
    figure.update_yaxes(ticks="", showgrid=False, dtick=1)
    says = "What is reached without any new method, and with the method that is best on validation rows. "
    says += "A method that stands below a baseline is not worth its price here."
    return Chart("ladder", "Baseline ladder", says, figure)


def convergence(d: Digest, look: Styles) -> list[Chart]:
    """Validation score of personal models by round and by traffic; the round that counts is marked."""
    curves = metrics.convergence(d.run.clients, d.run.rounds, regression=d.regression, seen=max(1, d.run.seen))
    names = [m for m in d.run.status if m in set(curves.drop_nulls("score")["method"])]
    if not names:
        return []
    key = tuple(names), tuple(m for m in names if m not in d.leading(names))
    says = "Sample-weighted validation score of the personal models of seen clients. The large mark is the round that counts."
    by_round = Chart("rounds", "Convergence by round", says, _curves(d, look, curves, names, "round"), *key)
    if not (curves["bytes_client"] > 0).any():
        return [by_round]
    silent = [m for m in names if not (curves.filter(pl.col("method") == m)["bytes_client"] > 0).any()]
    says = "The same against bytes down and up per seen client."
    says += f" {words.some(silent)} {'sends' if len(silent) == 1 else 'send'} nothing: a level line at the score of the round that counts." if silent else ""
    return [by_round, Chart("bytes", "Convergence by traffic", says, _curves(d, look, curves, names, "bytes_client"), *key)]


def _curves(d: Digest, look: Styles, curves: pl.DataFrame, names: list[str], by: str) -> go.Figure:
    scale, sign = (1.0, "") if d.regression else (100.0, " %")
    title = "validation loss" if d.regression else "validation accuracy, %"
    unit, prefix = unit_of(float(curves[by].max() or 0), BYTES) if by == "bytes_client" else (1.0, "")  # type: ignore[arg-type]
    figure = blank(360, "round" if by == "round" else f"{prefix} per client", title)
    right = float(curves[by].max() or 1) / unit  # type: ignore[arg-type]
    for name in names:
        own = curves.filter(pl.col("method") == name).drop_nulls("score")
        mark = d.chosen.filter(pl.col("method") == name)["round"].to_list()
        here = own.with_row_index().filter(pl.col("round").is_in(mark))["index"].to_list()
        x, y, at, style = own[by].to_numpy() / unit, own["score"].to_numpy() * scale, own["round"].to_list(), look[name]
        level = by == "bytes_client" and not x.any() and here
        if level:
            x, y, at = np.array([0.0, right]), y[[here[0], here[0]]], [at[here[0]]] * 2
        hover = f"round %{{customdata}}: %{{y:.4g}}{sign}"
        known = {"name": text(name), "meta": name, "cliponaxis": False}
        lines = {"mode": "lines+markers", "line": line(style), "marker": marker(style, 6, 1.0, most=6), "customdata": at, "hovertemplate": hover}
        figure.add_trace(go.Scatter(x=plain(x), y=plain(y), **lines, **known))
        if here and not level:
            large = {**marker(style, 11, 1.0), "line": {"width": 1.5, "color": FAINT[0]}}
            chosen = {"mode": "markers", "marker": large, "customdata": [at[i] for i in here], "hovertemplate": f"{hover} (the round that counts)"}
            figure.add_trace(go.Scatter(x=plain(x[here]), y=plain(y[here]), **chosen, **known))
    figure.update_xaxes(rangemode="tozero")
    return figure
