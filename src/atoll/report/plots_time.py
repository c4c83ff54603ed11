"""The figure of a run whose data change while clients train."""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from atoll import metrics
from atoll.report.colours import FAINT, Style
from atoll.report.digest import Digest
from atoll.report.figure import Chart, blank, line, marker, plain, text


def change(d: Digest, look: dict[str, Style]) -> Chart | None:
    """Test score of personal models over the rounds, each on the rows of its time; a line where the data change. None where they don't."""
    drift = d.run.drift
    if drift is None or not d.run.changes:
        return None
    scores = metrics.over_time(d.run.clients, regression=d.regression)
    names = [m for m in d.methods if m in set(scores["method"])]
    if not names:
        return None
    scale, sign = (1.0, "") if d.regression else (100.0, " %")
    figure = blank(360, "round", "test loss" if d.regression else "test accuracy, %")
    for at in (1, *d.run.changes):
        if at > 1:
            figure.add_vline(x=at - 0.5, line={"color": FAINT[0], "width": 1, "dash": "dot"})
        figure.add_annotation(
            x=at - 0.5, y=1, yref="paper", text=text(drift.about[drift.phase(at)], 34),
            showarrow=False, xanchor="left", yanchor="bottom", font={"size": 10, "color": FAINT[0]},
            textangle=-20 if len(d.run.changes) > 2 else 0,
        )  # fmt: skip
    for name in names:
        own = scores.filter(pl.col("method") == name).drop_nulls("score")
        style = look[name]
        figure.add_trace(
            go.Scatter(
                x=plain(own["round"].to_numpy()), y=plain(own["score"].to_numpy() * scale), mode="lines+markers", line=line(style),
                marker=marker(style, 6, 1.0, most=6), name=text(name), meta=name, cliponaxis=False, hovertemplate=f"round %{{x}}: %{{y:.4g}}{sign}",
            )
        )  # fmt: skip
    figure.update_xaxes(rangemode="tozero")
    figure.update_layout(margin={"l": 8, "r": 14, "t": 70 if len(d.run.changes) > 2 else 26, "b": 8})
    says = "Sample-weighted test score of the personal models of seen clients, each time on the rows that they have then; dotted lines: the data change. "
    says += "The scores of the comparison are those of the last phase: the round that counts is chosen among its rounds."
    return Chart("time", "Score while the data change", says, figure, tuple(names), tuple(m for m in names if m not in d.leading(names)), wide=True)
