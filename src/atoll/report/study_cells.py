"""Charts of a single cell of a study: how methods get on over rounds, and how clients fare, all seeds together."""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from atoll import metrics
from atoll.metrics import Ranking
from atoll.report.colours import Style
from atoll.report.figure import Chart, blank, cumulated, line, marker, plain, text
from atoll.report.study_plots import hidden
from atoll.report.study_results import CellResult, StudyResults

Styles = dict[str, Style]
DRAWN = 12  # cells that have charts of their own


def convergence(results: StudyResults, look: Styles, ranking: Ranking) -> tuple[str, list[Chart]]:
    """Validation score of personal models by round, mean over seeds: (how to read it, a chart for each of the first cells)."""
    made = [_convergence(results, cell, n, look, ranking) for n, cell in enumerate(results.cells[:DRAWN], 1)]
    over = f"; mean over {len(results.study.seeds)} seeds" if len(results.study.seeds) > 1 else ""
    return f"Validation score of the personal models of seen clients, every row alike{over}.{_left_out(results)}", [chart for chart in made if chart]


def distributions(results: StudyResults, look: Styles, ranking: Ranking) -> tuple[str, list[Chart]]:
    """Share of clients at or below each test score, clients of all seeds together: (how to read it, a chart for each of the first cells)."""
    made = [_distribution(results, cell, n, look, ranking) for n, cell in enumerate(results.cells[:DRAWN], 1)]
    side, together = "left" if results.regression else "right", ", those of all seeds together" if len(results.study.seeds) > 1 else ""
    says = f"Test scores of clients{together}, methods at the round that counts. The further {side}, the better; the foot is what the worst-off clients get."
    return f"{says}{_left_out(results)}", made


def _left_out(results: StudyResults) -> str:
    more = len(results.cells) - DRAWN
    return f" The first {DRAWN} of {len(results.cells)} cells; `atoll report` with a folder in `runs/` shows any other." if more > 0 else ""


def _convergence(results: StudyResults, cell: CellResult, n: int, look: Styles, ranking: Ranking) -> Chart | None:
    runs = [
        metrics.convergence(d.run.clients, d.run.rounds, regression=d.regression, seen=max(1, d.run.seen)).filter(pl.col("method").is_in(d.methods))
        for d in cell.digests.values()
    ]
    scale = 1.0 if results.regression else 100.0
    figure = blank(340, "round", "validation loss" if results.regression else "validation accuracy, %")
    drawn = []
    for name in results.methods:
        own = pl.concat([run.filter(pl.col("method") == name).drop_nulls("score") for run in runs])
        curve = own.group_by("round").agg(pl.col("score").mean(), pl.len()).filter(pl.col("len") == len(runs)).sort("round")
        if curve.is_empty():
            continue
        drawn.append(name)
        how = {"mode": "lines+markers", "line": line(look[name]), "marker": marker(look[name], 6, 1.0, most=6), "cliponaxis": False}
        x, y = curve["round"].to_numpy(), curve["score"].to_numpy() * scale
        hover = f"{text(name)}, round %{{x}}: %{{y:.4g}}<extra></extra>"
        figure.add_trace(go.Scatter(x=plain(x), y=plain(y), name=text(name), meta=name, hovertemplate=hover, **how))
    figure.update_xaxes(rangemode="tozero")
    return Chart(f"convergence{n}", cell.cell.title, "", figure, tuple(drawn), hidden(results, ranking, drawn)) if drawn else None


def _distribution(results: StudyResults, cell: CellResult, n: int, look: Styles, ranking: Ranking) -> Chart:
    scale = 1.0 if results.regression else 100.0
    scores = pl.concat([d.scores.select("method", "score") for d in cell.digests.values()]).drop_nulls("score")
    figure = blank(340, "test loss of a client" if results.regression else "test accuracy of a client, %", "clients at or below, %")
    there = set(scores["method"])
    drawn = [name for name in results.methods if name in there]
    for name in drawn:
        values = scores.filter(pl.col("method") == name)["score"].to_numpy() * scale
        figure.add_trace(cumulated(name, look[name], values, "" if results.regression else " %"))
    figure.update_yaxes(range=[0, 102])
    return Chart(f"distribution{n}", cell.cell.title, "", figure, tuple(drawn), hidden(results, ranking, drawn))
