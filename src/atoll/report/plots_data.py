"""Figures of the data sheet: who holds which labels, and how many rows."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from atoll.report.colours import HEAT, INK
from atoll.report.figure import Chart, apart, blank, plain, text, thin
from atoll.report.run import Run

ROWS = 400  # clients drawn at most
NAMED = 40  # clients up to which every one is named


def labels(run: Run) -> Chart | None:
    """Training rows per client and label."""
    counts = np.array(run.data.get("label_table") or [], dtype=float)
    names = apart([text(str(name), 14) for name in run.data.get("labels", [])])
    if counts.ndim != 2 or not counts.size or not names:
        return None
    kept = thin(len(counts), ROWS)
    share = 100 * counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    ticks = apart([_client(run, int(i), counts) for i in kept])
    few = len(kept) <= NAMED
    top = min(100.0, max(float(share.max()), 500 / len(names)))  # even shares stay pale, whatever the number of labels
    figure = blank(min(900, max(220, (22 if few else 3) * len(kept) + 80)), "label")
    numbers = few and len(names) <= 26
    title = {"text": "% of the<br>client's rows", "side": "top", "font": {"size": 11, "color": INK[0]}}
    figure.add_trace(
        go.Heatmap(
            z=[plain(row) for row in share[kept]], x=names, y=ticks, customdata=counts[kept].astype(int).tolist(), colorscale=_scale(), zmin=0, zmax=top,
            xgap=1, ygap=1 if few else 0, text=[[f"{int(v)}" if v else "" for v in row] for row in counts[kept]] if numbers else None,
            texttemplate="%{text}" if numbers else None,
            hovertemplate="%{y}, label %{x}: %{customdata} rows, %{z:.1f} % of the client's<extra></extra>",
            colorbar={"title": title, "thickness": 10, "outlinewidth": 0, "len": 0.9},
        )
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", showticklabels=few, ticks="", showgrid=False, type="category", dtick=1 if few else None)
    figure.update_xaxes(type="category", showgrid=False, ticks="")
    says = "Training rows of each client (in brackets: in all) by label; the shade is the label's share of the client's rows."
    if len(kept) < len(counts):
        says += f" {len(kept)} of {len(counts):,} clients are drawn, evenly spaced."
    return Chart("labels", "Labels of clients", says, figure, wide=True)


def sizes(run: Run) -> Chart | None:
    """Training rows per client, clients sorted by them."""
    rows = np.array(run.sizes("train"), dtype=float)
    if not rows.size:
        return None
    order = np.argsort(-rows, kind="stable")
    places = thin(len(order), ROWS)
    kept = order[places]
    figure = blank(320, "clients, the largest first", "training rows")
    names = [text(run.client_name(int(i)), 40) for i in kept]
    bars = {"color": HEAT[2][0]}
    width = 0.85 if len(kept) <= NAMED else len(order) / len(kept)
    hover = "%{text}: %{y:,} rows<extra></extra>"
    figure.add_trace(go.Bar(x=(places + 1).tolist(), y=plain(rows[kept]), width=width, marker=bars, text=names, textposition="none", hovertemplate=hover))
    figure.update_yaxes(rangemode="tozero")
    figure.update_xaxes(showgrid=False, tick0=1, dtick=max(1, round(len(order) / 8)))
    return Chart("sizes", "Rows of clients", "How unequal clients are in quantity.", figure)


def _client(run: Run, i: int, counts: np.ndarray) -> str:
    held = " · unseen" if i >= run.seen else ""
    return f"{text(run.client_name(i), 18)} ({int(counts[i].sum()):,}){held}"


def _scale() -> list[list[float | str]]:
    return [[at, pair[0]] for at, pair in zip((0.0, 0.2, 0.55, 1.0), HEAT, strict=True)]
