"""The comparison for papers and spreadsheets."""

from __future__ import annotations

import json
import math
from pathlib import Path

from atoll.report.columns import Column, best_rows, cell, columns, methods_first_row
from atoll.report.digest import Digest, digest
from atoll.report.findings import ONE_RUN, verdict, warnings
from atoll.report.run import open_run
from atoll.report.table import comparison

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "\N{EN DASH}": "--", "±": r"$\pm$",
}  # fmt: skip


def write_csv(run_folder: Path, out: Path) -> Path:
    """Writes the comparison with all its columns and full precision; returns the path."""
    comparison(run_folder).write_csv(out)
    return out


def latex(run_folder: Path) -> str:
    """The comparison as a LaTeX table for `\\usepackage{booktabs}`: the columns of the terminal, baselines above the second rule, best values bold."""
    return latex_of(digest(open_run(Path(run_folder))))


def latex_of(d: Digest) -> str:
    """The same of a run that has been read."""
    shown = [c for c in columns(d) if c.rank < 6]
    best = {c.key: best_rows(d, c) for c in shown}
    lines = [r"\begin{tabular}{l" + "r" * len(shown) + "}", r"\toprule", _heads(shown), r"\midrule"]
    for row, (name, note) in enumerate(d.table.select("method", "note").iter_rows()):
        if 0 < row == methods_first_row(d):
            lines.append(r"\midrule")
        lines.append(_row(d, shown, best, row, name, note))
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([f"% {_plain(d.run.name)}; round chosen on validation rows. {ONE_RUN}", *lines]) + "\n"


def write_latex(run_folder: Path, out: Path) -> Path:
    """Writes `latex(run_folder)` to a file; returns its path."""
    out.write_text(latex(run_folder), encoding="utf-8")
    return out


def summary_json(d: Digest) -> str:
    """Verdict, warnings and the comparison with all its columns as JSON; what is not known is null."""
    rows = [{name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()} for row in d.table.to_dicts()]
    said = verdict(d)
    content = {
        "run": d.run.name, "score": d.unit, "verdict": said.line, "details": said.details, "warnings": warnings(d), "methods": rows,
        "split": d.run.data.get("split_hash"),
    }  # fmt: skip
    return json.dumps(content, indent=1, allow_nan=False)


def _heads(shown: list[Column]) -> str:
    return " & ".join(["Method", *(tex(column.title.replace("\n", " ").strip()) for column in shown)]) + r" \\"


def _row(d: Digest, shown: list[Column], best: dict[str, set[int]], row: int, name: str, note: str) -> str:
    if d.table[d.unit][row] is None and note:
        return rf"{tex(name)} & \multicolumn{{{len(shown)}}}{{l}}{{{tex(note)}}} \\"
    texts = [tex(column.show(cell(d, column, row))) for column in shown]
    bold = [rf"\textbf{{{text}}}" if row in best[column.key] else text for column, text in zip(shown, texts, strict=True)]
    return " & ".join([tex(name) + (f" ({tex(note)})" if note else ""), *bold]) + r" \\"


def tex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(_SPECIAL.get(c, c) for c in text)


def _plain(text: str) -> str:
    """One line, for a comment."""
    return " ".join(text.split())
