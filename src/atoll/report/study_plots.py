"""Charts of a study: scores and ranks along what is varied, and mean ranks with what tells them apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from atoll import metrics
from atoll.metrics import Ranking
from atoll.report import words
from atoll.report.colours import FAINT, INK, Style
from atoll.report.figure import Chart, apart, blank, line, marker, plain, text
from atoll.report.plots_cost import COSTS, price
from atoll.report.study_findings import crossings, winners
from atoll.report.study_results import StudyResults
from atoll.study.grid import shown

Styles = dict[str, Style]
MOST = 9  # methods that a crowded chart shows at first


@dataclass(frozen=True, eq=False)
class Sweep:
    """One axis of the grid. All arrays over its values; where the grid has other axes, means over their cells."""

    axis: str
    values: list[str]
    score: dict[str, np.ndarray]  # method -> mean test score
    reach: dict[str, np.ndarray]  # half of its 95 % interval over seeds; NaN for one seed
    rank: dict[str, np.ndarray]  # mean rank within a cell


def sweeps(results: StudyResults) -> list[Sweep]:
    """Every axis with more than one value."""
    keys = list(results.cells[0].cell.values)
    return [made for key in keys if len((made := _sweep(results, key)).values) > 1]


def sweep_charts(results: StudyResults, made: Sweep, number: int, look: Styles, ranking: Ranking) -> list[Chart]:
    """Scores with intervals, and ranks; what to read from them is in the caption."""
    methods = [name for name in results.methods if np.isfinite(made.score[name]).any()]
    crowd = hidden(results, ranking, methods)
    crossed = crossings(results, made.values, made.score)
    says = " ".join([sentence for _, sentence in crossed] + winners(results, made.values, made.score))
    others = [key for key in results.cells[0].cell.values if key != made.axis]
    about = f"Mean test score{' over the other cells' if others else ''}, with 95 % intervals over seeds (Student's)." if len(results.study.seeds) > 1 else ""
    scale, title = (1.0, "test loss") if results.regression else (100.0, "test accuracy, %")
    figure, most = blank(420, made.axis, title), np.inf if results.regression else 100.0
    for n, name in enumerate(methods):
        _line(figure, look[name], name, made.values, made.score[name] * scale, made.reach[name] * scale, n, len(methods), "%{y:.4g}", most)
    for place, _ in crossed:
        figure.add_vline(x=place, line={"dash": "dot", "width": 1, "color": FAINT[0]})
        label = {"text": "Local = FedAvg", "font": {"size": 10, "color": FAINT[0]}, "showarrow": False, "xanchor": "left", "yanchor": "bottom"}
        figure.add_annotation(x=place, y=0, yref="paper", **label)
    scores = Chart(f"sweep{number}", f"Scores along {made.axis}", f"{about} {says}".strip(), figure, tuple(methods), crowd, wide=True)
    ranks = blank(360, made.axis, "mean rank")
    for n, name in enumerate(methods):
        _line(ranks, look[name], name, made.values, made.rank[name], np.full(len(made.values), np.nan), n, len(methods), "rank %{y:.3g}", np.inf)
    ranks.update_yaxes(autorange="reversed", dtick=1 if len(methods) < 12 else None)
    told = "Rank by mean test score within a cell; 1 is best. Methods that diverged come last."
    for chart in (figure, ranks):
        _categories(chart, made.values)
    return [scores, Chart(f"ranks{number}", f"Ranks along {made.axis}", told, ranks, tuple(methods), crowd, wide=True)]


def hidden(results: StudyResults, ranking: Ranking, methods: list[str]) -> tuple[str, ...]:
    """Of these methods the ones that a crowded chart shows only when asked for: the last by rank, and Majority, far below the others, which would flatten
    their lines."""
    order = [name for name in ranking.methods if name in methods]
    least = [name for name in methods if name not in results.baselines and name not in order[:MOST]] if len(methods) > MOST else []
    return (*least, *(name for name in methods if name == "Majority"))


def cost_charts(results: StudyResults, look: Styles) -> Iterator[Chart]:
    """Gain over FedAvg+FT (else: the score) against each kind of cost, means over cells and seeds; methods without a score somewhere are left out."""
    rival = "FedAvg+FT" if "FedAvg+FT" in results.methods else None
    means = dict(zip(results.methods, results.means().mean(axis=0), strict=True))
    sign = -1.0 if results.regression and rival else 1.0
    gains = {name: sign * (mean - means[rival]) if rival else mean for name, mean in means.items() if name != "Majority"}
    over = f"; means over {words.number(len(results.cells), 'cell')} and {words.number(len(results.study.seeds), 'seed')}"
    for cost in COSTS:
        spent = {name: float(np.mean([cell.scores(name, cost.column).mean() for cell in results.cells])) for name in gains}
        names = [name for name in gains if np.isfinite([gains[name], spent[name]]).all()]
        if any(spent[name] > 0 for name in names):
            told = [float(gains[name]) for name in names], [spent[name] for name in names]
            yield price(look, cost, names, *told, rival=rival, regression=results.regression, over=over)


def critical(ranking: Ranking, look: Styles) -> Chart | None:
    """Mean ranks over cells; methods whose bars overlap are not told apart by Nemenyi's test. None for fewer than two cells or three methods."""
    if ranking.cells < 2 or len(ranking.methods) < 3:
        return None
    k = len(ranking.methods)
    figure = blank(34 * k + 70, "mean rank over cells (1 is best)")
    ticks = apart([text(name, 20) for name in ranking.methods])
    half = ranking.critical / 2
    for tick, name, rank in zip(ticks, ranking.methods, ranking.ranks, strict=True):
        bar = {"type": "data", "array": [half], "color": look[name].colour, "thickness": 2, "width": 5}
        shown_as = {"mode": "markers+text", "marker": marker(look[name], 11, 1.0), "text": [f"{rank:.2f}"], "textposition": "top center"}
        hover = f"{text(name)}: mean rank {rank:.3g}<extra></extra>"
        font = {"size": 10, "color": INK[0]}
        figure.add_trace(go.Scatter(x=[rank], y=[tick], error_x=bar, meta=name, hovertemplate=hover, textfont=font, cliponaxis=False, **shown_as))
    right = max(ranking.ranks) + half
    for n, clique in enumerate(ranking.cliques()):
        ends = [ticks[ranking.methods.index(clique[0])], ticks[ranking.methods.index(clique[-1])]]
        place = right + 0.06 * k * (n + 1)
        figure.add_trace(
            go.Scatter(x=[place, place], y=ends, mode="lines", line={"width": 5, "color": FAINT[0]}, hoverinfo="skip", meta="(clique)", cliponaxis=False)
        )
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="", dtick=1)
    figure.update_xaxes(tickvals=list(range(1, k + 1, 1 + k // 16)))
    figure.update_xaxes(range=[min(1.0, min(ranking.ranks) - half) - 0.1, right + 0.06 * k * (len(ranking.cliques()) + 1)])
    says = f"Two methods differ at 5 % if their mean ranks are more than {ranking.critical:.2f} apart (Nemenyi; {words.number(ranking.cells, 'cell')}): "
    says += "bars do not overlap then. Grey bars join methods that are not told apart."
    if np.isfinite(ranking.p):
        says += f" Friedman's test of no difference at all: p = {ranking.p:.2g}."
    if ranking.cells < 10:
        says += " With so few cells only large differences can show, and cells that share data are not independent."
    return Chart("critical", "Critical differences", says, figure, wide=True)


def _sweep(results: StudyResults, key: str) -> Sweep:
    groups: dict[str, list[int]] = {}
    for n, cell in enumerate(results.cells):
        groups.setdefault(shown(cell.cell.values[key]), []).append(n)
    held = [[results.cells[n] for n in numbers] for numbers in groups.values()]
    each = metrics.ranks(results.means(), regression=results.regression)
    score, reach, rank = {}, {}, {}
    for m, name in enumerate(results.methods):
        by_seed = [results.by_seed(name, cells) for cells in held]
        score[name] = np.array([np.mean(values) for values in by_seed])
        reach[name] = np.array([_half(values) for values in by_seed])
        rank[name] = np.array([each[cells, m].mean() for cells in groups.values()])
    return Sweep(key, list(groups), score, reach, rank)


def _half(values: np.ndarray) -> float:
    if len(values) < 2 or not np.isfinite(values).all():
        return np.nan
    d = metrics.repeated(values.tolist(), [0.0] * len(values), regression=False)
    return d.high - d.mean


def _line(figure: Any, style: Style, name: str, values: list[str], y: np.ndarray, half: np.ndarray, n: int, of: int, hover: str, most: float) -> None:
    """A method's line; methods stand a little beside each other, so that their intervals can be told apart. Intervals are cut off at 0 and `most`."""
    x = np.arange(len(values)) + (n - (of - 1) / 2) * min(0.02, 0.3 / of)
    bars = None
    if np.isfinite(half).any():
        bars = {"type": "data", "array": plain(np.minimum(half, most - y)), "arrayminus": plain(np.minimum(half, y)), "symmetric": False}
        bars |= {"color": style.colour, "thickness": 1, "width": 2}
    hovers = [f"{text(name)} at {text(value)}: {hover}<extra></extra>" for value in values]
    how = {"mode": "lines+markers", "line": line(style), "marker": marker(style, 7, 1.0), "error_y": bars, "hovertemplate": hovers}
    figure.add_trace(go.Scatter(x=plain(x), y=plain(y), name=text(name), meta=name, cliponaxis=False, **how))


def _categories(figure: Any, values: list[str]) -> None:
    labels = apart([text(value, 22) for value in values])
    figure.update_xaxes(tickvals=list(range(len(values))), ticktext=labels, range=[-0.35, len(values) - 0.65], showgrid=False)
