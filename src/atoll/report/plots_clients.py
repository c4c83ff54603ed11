"""Figures with a mark for every client: distributions, before against after, gain over training alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import plotly.graph_objects as go
import polars as pl

from atoll.report.colours import FAINT, Style
from atoll.report.digest import Digest
from atoll.report.figure import Chart, apart, blank, cumulated, line, marker, plain, ranked, text, thin

Styles = dict[str, Style]
MANY = 200  # clients from which single points are left out of boxes
BINS = 10  # of the histogram
MOST = 1500  # clients drawn at most in a scatter


def spread(d: Digest, look: Styles) -> Chart:
    """A box and, for few clients, a point per client, for each method."""
    methods = d.methods
    figure = blank(max(190, 46 * len(methods) + 60), _axis(d))
    for name, tick in zip(methods, apart([text(name) for name in methods]), strict=True):
        own = _scores(d, name)
        few = len(own) <= MANY
        values = own if few else ranked(own, 1001)[1]
        look_of = look[name]
        figure.add_trace(
            go.Box(
                x=plain(values * _scale(d)), name=tick, meta=name, orientation="h", boxpoints="all" if few else "outliers", jitter=0.6, pointpos=0,
                marker={"color": look_of.colour, "size": 5, "opacity": 0.6, "symbol": look_of.symbol}, line={"color": look_of.colour, "width": 1.5},
                fillcolor="rgba(128,128,128,0.10)", boxmean=True, hoverinfo="x", width=0.62,
            )
        )  # fmt: skip
    figure.update_yaxes(autorange="reversed", ticks="", showgrid=False, dtick=1)
    points = "a mark per client, " if len(_clients(d)) <= MANY else ""
    return Chart(
        "spread",
        "Clients under each method",
        f"Test {_name(d)} of personal models: {points}box from the first to the third quarter, dashed line: mean.",
        figure,
    )


def cumulative(d: Digest, look: Styles) -> Chart:
    """Share of clients at or below each score."""
    figure = blank(max(340, min(560, 46 * len(d.methods) - 60)), _axis(d), "clients at or below, %")
    for name in d.methods:
        figure.add_trace(cumulated(name, look[name], _scores(d, name) * _scale(d), _sign(d)))
    figure.update_yaxes(range=[0, 102])
    side = "left" if d.regression else "right"
    says = f"Each curve climbs where clients are. The further {side}, the better; the foot of a curve is what the worst-off clients get."
    return Chart("cumulative", "Distribution over clients", says, figure, *_key(d, d.methods))


def histogram(d: Digest, look: Styles) -> Chart:
    """Number of clients by score, in BINS intervals of one round width at most."""
    scores = {name: _scores(d, name) * _scale(d) for name in d.methods}
    finite = np.concatenate([own[np.isfinite(own)] for own in scores.values()])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    edges = _round_edges(low, high)
    middles = (edges[:-1] + edges[1:]) / 2
    figure = blank(340, _axis(d), "clients")
    for name, own in scores.items():
        counts, _ = np.histogram(np.clip(own[np.isfinite(own)], edges[0], edges[-1]), edges)  # edges are rounded
        hovers = [f"{text(name)}: %{{y}} from {a:.4g} to {b:.4g}{_sign(d)}<extra></extra>" for a, b in pairwise(edges.tolist())]
        figure.add_trace(go.Bar(x=plain(middles), y=plain(counts), name=text(name), meta=name, marker={"color": look[name].colour}, hovertemplate=hovers))
    figure.update_layout(barmode="group", bargap=0.15)
    figure.update_xaxes(tickvals=plain(edges))
    says = f"Number of clients by test {_name(d)} of their personal models, between the marks."
    return Chart("histogram", "Histogram of clients", says, figure, *_few(d, d.methods))


def before_after(d: Digest, look: Styles) -> Chart | None:
    """What the shared model gives a client against what its personal model gives it."""
    reference = d.run.reference("FedAvg")
    if reference not in d.methods:
        return None
    methods = [m for m in d.methods if m != reference]
    shown = [m for m in (d.best(), d.run.reference("FedAvg+FT")) if m in methods] or methods[:1]
    base = d.scores.filter(pl.col("method") == reference).select("client", pl.col("score").alias("before"))
    figure = blank(440, f"{reference}: {_axis(d)}", f"personal model: {_axis(d)}")
    seen: list[float] = []
    for name in methods:
        both = d.scores.filter(pl.col("method") == name).join(base, on="client").sort("client")
        both = both[thin(len(both), MOST).tolist()]
        x, y = both["before"].to_numpy() * _scale(d), both["score"].to_numpy() * _scale(d)
        seen += [*x, *y]
        names = [f"{text(d.run.client_name(i), 40)}, {_train_rows(d, i)}" for i in both["client"]]
        hover = f"%{{text}}<br>{text(str(reference))} %{{x:.4g}}{_sign(d)}, {text(name)} %{{y:.4g}}{_sign(d)}"
        mark = {**marker(look[name], opacity=0.75), "size": _bubbles(d, both["client"].to_list())}
        figure.add_trace(
            go.Scatter(
                x=plain(x),
                y=plain(y),
                mode="markers",
                marker=mark,
                name=text(name),
                meta=name,
                text=names,
                hovertemplate=hover + "<extra></extra>",
                visible=name in shown,
            )
        )
    _diagonal(figure, seen)
    good = "below" if d.regression else "above"
    says = f"A mark per client, larger for more training rows. {good.capitalize()} the diagonal the personal model serves the client better "
    says += f"than {reference}'s common model."
    return Chart("before-after", "Common model and personal model", says, figure, tuple(methods), tuple(m for m in methods if m not in shown))


def gain(d: Digest, look: Styles) -> Chart | None:
    """Gain of every client over training alone, clients sorted by it."""
    reference = d.run.reference("Local")
    if reference not in d.methods:
        return None
    methods = [m for m in d.methods if m != reference]
    if not methods:
        return None
    base = d.scores.filter(pl.col("method") == reference).select("client", pl.col("score").alias("alone"))
    unit = "loss" if d.regression else "points"
    figure = blank(360, "clients, from the one that loses most, %", f"gain over {reference}, {unit}")
    for name in methods:
        both = d.scores.filter(pl.col("method") == name).join(base, on="client").sort("client")
        difference = (both["score"] - both["alone"]).to_numpy() * _scale(d) * (-1 if d.regression else 1)
        order = np.argsort(difference, kind="stable")
        order = order[thin(len(order), 500)]
        place = 100 * (np.argsort(np.argsort(difference, kind="stable"), kind="stable")[order] + 0.5) / len(difference)
        names = [text(d.run.client_name(int(both["client"][int(i)])), 40) for i in order]
        figure.add_trace(
            go.Scatter(
                x=plain(place), y=plain(difference[order]), mode="lines+markers", line=line(look[name], 1.6), marker=marker(look[name], 6, most=20),
                name=text(name), meta=name, text=names, hovertemplate=f"%{{text}}: %{{y:+.3g}} {unit}<extra>{text(name)}</extra>",
            )
        )  # fmt: skip
    figure.add_hline(y=0, line={"color": FAINT[0], "width": 1.5})
    figure.update_xaxes(range=[0, 100])
    says = f"Below the line a client is worse off than with {reference}. Where a curve crosses the line, so many per cent of clients lose."
    return Chart("gain", f"Who gains over {reference}, and who loses", says, figure, *_key(d, methods))


def by_size(d: Digest, look: Styles) -> Chart | None:
    """Gain of every client over training alone, against its training rows."""
    reference, sizes = d.run.reference("Local"), d.run.sizes("train")
    methods = [m for m in d.methods if m != reference]
    if reference not in d.methods or not methods or not sizes:
        return None
    best = d.best()
    shown = [best] if best in methods else methods[:1]
    base = d.scores.filter(pl.col("method") == reference).select("client", pl.col("score").alias("alone"))
    unit = "loss" if d.regression else "points"
    figure = blank(320, "training rows of the client", f"gain over {reference}, {unit}")
    for name in methods:
        both = d.scores.filter(pl.col("method") == name).join(base, on="client").sort("client")
        both = both[thin(len(both), MOST).tolist()]
        rows = [sizes[i] for i in both["client"]]
        difference = (both["score"] - both["alone"]).to_numpy() * _scale(d) * (-1 if d.regression else 1)
        names = [text(d.run.client_name(i), 40) for i in both["client"]]
        figure.add_trace(
            go.Scatter(
                x=rows, y=plain(difference), mode="markers", marker=marker(look[name], 8), name=text(name), meta=name, text=names,
                hovertemplate=f"%{{text}}, %{{x:,}} training rows: %{{y:+.3g}} {unit}<extra>{text(name)}</extra>", visible=name in shown,
            )
        )  # fmt: skip
    figure.add_hline(y=0, line={"color": FAINT[0], "width": 1.5})
    if min(sizes) > 0 and max(sizes) > 20 * min(sizes):
        figure.update_xaxes(type="log")
    says = f"A mark per client: does it pay more for small clients, or for large ones? Below the line a client is worse off than with {reference}."
    return Chart("by-size", "Gain by size of client", says, figure, tuple(methods), tuple(m for m in methods if m not in shown))


def _key(d: Digest, methods: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(all methods, those hidden at first)."""
    shown = d.leading(methods)
    return tuple(methods), tuple(m for m in methods if m not in shown)


def _round_edges(low: float, high: float) -> np.ndarray:
    """Edges from `low` or below to `high` or above, BINS intervals or fewer, as wide as 1, 2 or 5 times a power of ten."""
    least = (high - low) / BINS or abs(high) / BINS or 1.0
    power = 10.0 ** np.floor(np.log10(least))
    for width in (power, 2 * power, 5 * power, 10 * power, 20 * power):
        first, last = np.floor(low / width + 1e-9), np.ceil(high / width - 1e-9)
        if last - first <= BINS:
            break
    return width * np.arange(first, max(last, first + 1) + 1)


def _few(d: Digest, methods: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(all methods, those hidden at first), where only a few can be told apart: the best, Local, FedAvg and FedAvg+FT."""
    shown = {d.best(), *(d.run.reference(title) for title in ("Local", "FedAvg", "FedAvg+FT"))}
    return tuple(methods), tuple(m for m in methods if m not in shown) if any(m in shown for m in methods) else ()


def _diagonal(figure: go.Figure, values: list[float]) -> None:
    finite = [v for v in values if np.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    pad = 0.05 * (high - low or 1.0)
    ends = [low - pad, high + pad]
    figure.add_shape(type="line", x0=ends[0], y0=ends[0], x1=ends[1], y1=ends[1], line={"color": FAINT[0], "dash": "dot", "width": 1.5}, layer="below")
    figure.update_xaxes(range=ends)
    figure.update_yaxes(range=ends)


def _bubbles(d: Digest, clients: list[int]) -> list[float]:
    """Marker sizes, 6 to 16 pixels: areas grow with training rows."""
    sizes = d.run.sizes("train")
    if not sizes:
        return [8.0] * len(clients)
    top = max(sizes)
    return [round(max(6.0, 16.0 * (sizes[i] / top) ** 0.5), 1) for i in clients]


def _train_rows(d: Digest, client: int) -> str:
    sizes = d.run.sizes("train")
    return f"{sizes[client]:,} training rows" if client < len(sizes) else "training rows unknown"


def _scores(d: Digest, method: str) -> np.ndarray:
    return d.scores.filter(pl.col("method") == method)["score"].to_numpy()


def _clients(d: Digest) -> list[int]:
    return d.scores["client"].unique().to_list()


def _scale(d: Digest) -> float:
    return 1.0 if d.regression else 100.0


def _sign(d: Digest) -> str:
    return "" if d.regression else " %"


def _name(d: Digest) -> str:
    return "mean loss" if d.regression else "accuracy"


def _axis(d: Digest) -> str:
    return "test loss" if d.regression else "test accuracy, %"
