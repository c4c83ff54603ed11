"""What all figures share: their look, their parts, and the form in which the page takes them."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from atoll.report import words
from atoll.report.colours import FAINT, GRID, INK, Style

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"


BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes"))


@dataclass(frozen=True)
class Chart:
    """A figure with what stands around it on the page."""

    key: str  # unique in its run
    title: str
    says: str  # what to look for
    figure: go.Figure
    legend: tuple[str, ...] = ()  # methods named beside it
    hidden: tuple[str, ...] = ()  # of these, the ones that show only when asked for
    wide: bool = False  # takes the whole width of the page


def blank(height: int, x: str = "", y: str = "", **layout: Any) -> go.Figure:
    """An empty figure in the report's look. x, y: titles of the axes; layout: any other plotly layout entry."""
    figure = go.Figure()
    axis = {"gridcolor": GRID[0], "zeroline": False, "linecolor": GRID[0], "tickcolor": GRID[0], "ticks": "outside", "ticklen": 4, "automargin": True}
    axis["title"] = {"font": {"size": 12, "color": FAINT[0]}, "standoff": 8}
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 8, "r": 14, "t": 10, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 12, "color": INK[0]},
        showlegend=False,
        hovermode="closest",
        dragmode=False,
        xaxis=axis,
        yaxis=axis,
    )
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=y)
    figure.update_layout(**layout)
    return figure


def unit_of(n: float, units: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    """The unit, of those from large to small, in which n reads well: (its size, its name)."""
    return next(((size, name) for size, name in units if n >= size), units[-1])


def text(raw: str, length: int = 26) -> str:
    """User text for a figure: cut to length, and its <, > and & shown rather than obeyed (plotly reads a little HTML, and fields after a %)."""
    return html.escape(words.short(" ".join(raw.split()), length), quote=False).replace("%{", "% {")


def apart(labels: list[str]) -> list[str]:
    """Categories of an axis: where two read alike, and plotly would draw one over the other, the later ones are numbered."""
    made: list[str] = []
    taken: dict[str, int] = {}
    for label in labels:
        taken[label] = taken.get(label, 0) + 1
        made.append(label if taken[label] == 1 else f"{label} [{taken[label]}]")
    return made


def marker(style: Style, size: float = 7, opacity: float = 0.85, most: int = 0) -> dict[str, Any]:
    """most: symbols drawn at most along a line; 0: all."""
    hollow = style.symbol.endswith("-open")
    return {"color": style.colour, "symbol": style.symbol, "size": size, "opacity": opacity, "line": {"width": 1.6 if hollow else 0}, "maxdisplayed": most}


def line(style: Style, width: float = 2.2) -> dict[str, Any]:
    return {"color": style.colour, "dash": style.dash, "width": width}


def ranked(values: np.ndarray, at_most: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """(positions in the sorted order, sorted values): all of them, or so many evenly spaced ones with both ends, which keep the shape."""
    order = np.sort(values)
    keep = np.unique(np.linspace(0, len(order) - 1, min(len(order), at_most)).round().astype(int))
    return keep, order[keep]


def cumulated(name: str, style: Style, values: np.ndarray, unit: str) -> go.Scatter:
    """The share of clients at or below each of these values, in steps. unit: stands behind a value where the mouse is."""
    at, kept = ranked(values)
    share = 100 * (at + 1) / len(values)
    look = {"mode": "lines+markers", "line": {**line(style), "shape": "hv"}, "marker": marker(style, 6, 1.0, most=5)}
    hover = f"%{{x:.4g}}{unit}: %{{y:.0f}} % of clients at or below"
    return go.Scatter(x=plain(kept), y=plain(share), name=text(name), meta=name, hovertemplate=hover, **look)


def thin(n: int, at_most: int) -> np.ndarray:
    """Numbers of at most so many items out of n, evenly spaced; the same every time."""
    return np.arange(n) if n <= at_most else np.unique(np.linspace(0, n - 1, at_most).round().astype(int))


def plain(values: Any) -> list[Any]:
    """Numbers as JSON has them, short: five significant digits, and null for what is not finite."""
    return [float(f"{v:.5g}") if v is not None and np.isfinite(v) else None for v in np.asarray(values, dtype=float).tolist()]
