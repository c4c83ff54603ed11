"""A study for spreadsheets, programs and papers."""

from __future__ import annotations

import json
import math
from typing import Any

import polars as pl

from atoll import metrics
from atoll.metrics import Difference
from atoll.report.export import tex
from atoll.report.study_findings import gap, rivals, verdict, warnings
from atoll.report.study_results import StudyResults
from atoll.report.study_table import says, score


def table_of_all(results: StudyResults) -> pl.DataFrame:
    """One row per cell, seed and method: what is varied, then the comparison of the run with all its columns and full precision."""
    parts = []
    for cell in results.cells:
        for seed, d in cell.digests.items():
            known = [pl.lit(json.dumps(v) if isinstance(v, list | dict) else str(v)).alias(k) for k, v in cell.cell.values.items()]
            parts.append(d.table.select(pl.lit(cell.cell.title).alias("title"), *known, pl.lit(seed).alias("seed"), pl.all()))
    return pl.concat(parts, how="diagonal_relaxed")


def summary_json(results: StudyResults) -> str:
    """Scores, differences, ranks and warnings as JSON; what is not known is null."""
    ranking = metrics.ranking(results.methods, results.means(), regression=results.regression)
    cells = [
        {
            "cell": cell.cell.values,
            "seeds": list(cell.digests),
            "picked": best,
            "methods": {name: _of(results, cell, name) for name in results.methods},
        }
        for cell, best in zip(results.cells, results.picked, strict=True)
    ]
    ranks = {"mean": dict(zip(ranking.methods, ranking.ranks, strict=True)), "critical_difference": _known(ranking.critical), "friedman_p": _known(ranking.p)}
    content = {
        "study": results.study.name, "score": results.any.unit, "verdict": verdict(results), "warnings": warnings(results), "cells": cells, "ranks": ranks,
    }  # fmt: skip
    return json.dumps(content, indent=1, allow_nan=False)


def latex(results: StudyResults) -> str:
    """Methods by cells for `\\usepackage{booktabs}`: baselines above the second rule, bold what validation rows pick in a cell."""
    baselines = len(results.baselines)
    heads = " & ".join(["Method", *(tex(cell.cell.title) for cell in results.cells)]) + r" \\"
    lines = [f"% {results.study.name}. {says(results)}", r"\begin{tabular}{l" + "r" * len(results.cells) + "}", r"\toprule", heads, r"\midrule"]
    for n, name in enumerate(results.methods):
        if 0 < n == baselines:
            lines.append(r"\midrule")
        texts = [tex(score(results, cell, name)) for cell in results.cells]
        bold = [rf"\textbf{{{text}}}" if name == best else text for text, best in zip(texts, results.picked, strict=True)]
        lines.append(" & ".join([tex(name), *bold]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _of(results: StudyResults, cell: Any, method: str) -> dict[str, Any]:
    made: dict[str, Any] = {"scores": [_known(value) for value in cell.scores(method).tolist()]}
    for rival in rivals(results):
        g = gap(cell, method, rival) if method != rival else None
        if g is not None:
            made[f"against {rival}"] = {"student": _interval(g.student), "bootstrap": _interval(g.bootstrap), "resampled": g.unit}
    return made


def _interval(d: Difference) -> dict[str, float | None]:
    return {"mean": _known(d.mean), "low": _known(d.low), "high": _known(d.high)}


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
