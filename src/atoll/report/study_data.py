"""The data of a study's cells: how much there is, and how clients differ there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from atoll.metrics.heterogeneity.summary import BY_CHANCE
from atoll.report import words
from atoll.report.digest import Digest
from atoll.report.markup import Html, e, join
from atoll.report.study_results import CellResult, StudyResults

FACTS: dict[str, Callable[[Digest], float | None]] = {
    "clients taking part": lambda d: d.run.seen,
    "train rows": lambda d: sum(d.run.sizes("train")) or None,
    "most frequent label, % of test rows per client": lambda d: None if (share := d.run.data.get("majority_accuracy")) is None else 100 * share,
}


def data_table(results: StudyResults) -> Html | None:
    """A row per fact and measure of heterogeneity, a column per cell; means over seeds. None for runs that measured nothing."""
    cells = results.cells
    found: dict[tuple[str, str], str] = {}  # kind and key of every measure -> its name
    for cell in cells:
        for d in cell.digests.values():
            found |= {(one["kind"], one["key"]): one["name"] for one in _measured(d)}
    if not found:
        return None
    rows = [_row(name, [_mean(read(d) for d in cell.digests.values()) for cell in cells]) for name, read in FACTS.items()]
    rows += [_row(f"{kind}: {name}", [_measure(cell, kind, key) for cell in cells]) for (kind, key), name in found.items()]
    heads = e("tr", *(e("th", text, scope="col") for text in ("what", *(cell.cell.title for cell in cells))))
    table = e("table", e("thead", heads), e("tbody", *rows), class_="cells")
    about = "Of train rows of clients taking part; means over seeds. Bold: strong; faint: not beyond chance. "
    return join(
        e("div", table, class_="scroll", role="region", tabindex=0, aria_label="Data of all cells"), e("p", about + BY_CHANCE, class_="footnotes")
    )


def _row(name: str, cells: list[Html]) -> Html:
    return e("tr", e("th", name, scope="row"), *cells)


def _mean(values: Any) -> Html:
    known = [value for value in values if value is not None]
    mean = float(np.mean(known)) if known else np.nan
    return e("td", words.DASH if np.isnan(mean) else f"{mean:,.1f}".removesuffix(".0"))


def _measure(cell: CellResult, kind: str, key: str) -> Html:
    ones = [one for d in cell.digests.values() for one in _measured(d) if (one["kind"], one["key"]) == (kind, key) and one["value"] is not None]
    if not ones:
        return e("td", words.DASH)
    text, told = f"{np.mean([one['value'] for one in ones]):.3f}", {one["word"] for one in ones}
    return e("td", e("strong", text) if told == {"strong"} else text, class_="unclear" if told == {"none"} else None)


def _measured(d: Digest) -> list[dict[str, Any]]:
    return d.run.data.get("heterogeneity") or []
