"""Figures of clusters of clients: who was put together, beside the known groups where there are any."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import plotly.graph_objects as go
import polars as pl
from scipy.optimize import linear_sum_assignment

from atoll.report import words
from atoll.report.colours import METHODS, Style
from atoll.report.digest import Digest
from atoll.report.figure import Chart, apart, blank, line, marker, plain, text, thin

MOST = 400  # clients drawn at most
NUMBERED = 60  # clients up to which the number of the cluster stands in every cell
GROUPS = "known groups"


def clusters(d: Digest, look: dict[str, Style]) -> Iterator[Chart]:
    """Who is in which cluster at the round that counts, and how the agreement with known groups went; nothing where no method finds clusters."""
    names = [m for m in d.methods if m in set(d.clusters["method"])]
    groups = d.run.data.get("groups")
    if names:
        yield _memberships(d, names, groups)
        agreed = d.agreement.drop_nulls("adjusted_rand")
        if agreed["round"].n_unique() > 1:
            yield _agreement(agreed, [m for m in names if m in set(agreed["method"])], look)


def _memberships(d: Digest, names: list[str], groups: list[int] | None) -> Chart:
    """A strip per method, a cell per client, clients sorted by known group."""
    total = len(d.run.sizes("train")) or int(d.run.clients["client"].max() or 0) + 1  # type: ignore[arg-type]
    strips = {name: _strip(d, name, total) for name in names}
    known = None if groups is None else np.unique(groups, return_inverse=True)[1].astype(float)
    first = known if known is not None else next(iter(strips.values()))
    strips = {name: numbered_like(first, strip) for name, strip in strips.items()}
    order = np.lexsort((np.arange(total), np.nan_to_num(next(iter(strips.values())), nan=np.inf), np.nan_to_num(first, nan=np.inf)))
    order = order[thin(total, MOST)]
    shown = {**({GROUPS: known} if known is not None else {}), **strips}
    z = np.stack(list(shown.values()))[:, order]
    cells = np.where(np.isfinite(z), z % len(METHODS), np.nan)
    told = [[f"{int(v) + 1}" if np.isfinite(v) else "" for v in row] for row in z]
    who = [text(d.run.client_name(int(i)), 40) + (" (unseen)" if i >= d.run.seen else "") for i in order]
    figure = blank(max(140, 34 * len(shown) + 70), "clients" + (", sorted by known group" if known is not None else ""))
    figure.add_trace(
        go.Heatmap(
            z=[plain(row) for row in cells], y=apart([_tick(d, name) for name in shown]), colorscale=_steps(), zmin=-0.5, zmax=len(METHODS) - 0.5,
            showscale=False, xgap=1 if len(order) <= 150 else 0, ygap=4, text=told, texttemplate="%{text}" if len(order) <= NUMBERED else None,
            customdata=[who] * len(shown), hovertemplate="%{customdata}: %{text}<extra>%{y}</extra>", hoverongaps=False,
        )
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", ticks="", showgrid=False, type="category", dtick=1)
    figure.update_xaxes(showticklabels=False, ticks="", showgrid=False)
    says = "A column per client: the same number means the same cluster, at the round that counts; an empty cell is a client in none. "
    if known is not None:
        says += "Clusters have the number and the colour of the group that they share most clients with. In brackets: how many there are, and the adjusted "
        says += "Rand index of seen clients (1: the groups exactly, 0: as by chance)."
    else:
        says += "In brackets: how many there are. The data have no known groups to compare them with."
    if len(order) < total:
        says += f" {len(order)} of {total:,} clients are drawn, evenly spaced."
    return Chart("memberships", "Clusters of clients", says, figure, wide=True)


def _agreement(agreed: pl.DataFrame, names: list[str], look: dict[str, Style]) -> Chart:
    figure = blank(300, "round", "adjusted Rand index")
    for name in names:
        own = agreed.filter(pl.col("method") == name).sort("round")
        style = look[name]
        figure.add_trace(
            go.Scatter(
                x=own["round"].to_list(), y=plain(own["adjusted_rand"]), mode="lines+markers", line=line(style), marker=marker(style, 6, 1.0, most=8),
                name=text(name), meta=name, cliponaxis=False, customdata=own["clusters"].to_list(),
                hovertemplate="round %{x}: %{y:.2f} with %{customdata} clusters",
            )
        )  # fmt: skip
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(range=[min(-0.05, float(agreed["adjusted_rand"].min() or 0) - 0.05), 1.05])  # type: ignore[arg-type]
    says = "Agreement of clusters with the known groups whenever clients were scored: 1 is exact, 0 is what chance gives."
    return Chart("agreement", "Known groups found", says, figure, tuple(names), wide=True)


def _strip(d: Digest, name: str, total: int) -> np.ndarray:
    """float [total], the cluster of each client at the round that counts; NaN: none."""
    at = d.chosen.filter(pl.col("method") == name)["round"].to_list()
    own = d.clusters.filter((pl.col("method") == name) & pl.col("round").is_in(at))
    strip = np.full(total, np.nan)
    strip[own["client"].to_numpy()] = own["cluster"].to_numpy()
    return strip


def numbered_like(groups: np.ndarray, strip: np.ndarray) -> np.ndarray:
    """The clusters of `strip` numbered anew, each like the group that it shares most clients with, one cluster per number; NaN stays."""
    both = np.isfinite(groups) & np.isfinite(strip)
    there, label = np.unique(strip[np.isfinite(strip)], return_inverse=True)
    if not len(there):
        return strip
    kinds = int(np.nanmax(groups)) + 1
    shared = np.zeros((len(there), max(kinds, len(there))))
    np.add.at(shared, (np.searchsorted(there, strip[both]), groups[both].astype(int)), 1)
    rows, columns = linear_sum_assignment(shared, maximize=True)
    number = np.empty(len(there))
    number[rows] = columns
    new = strip.copy()
    new[np.isfinite(strip)] = number[label]
    return new


def _tick(d: Digest, name: str) -> str:
    if name == GROUPS:
        return GROUPS
    found, index = d.value(name, "clusters"), d.value(name, "adjusted_rand")
    brackets = words.count(found) + ("" if index is None else f", {words.index(index)}")
    return f"{text(name, 22)} ({brackets})"


def _steps() -> list[list[float | str]]:
    """A colour per cluster, without anything between."""
    n = len(METHODS)
    return [[(i + end) / n, METHODS[i][0]] for i in range(n) for end in (0, 1)]
