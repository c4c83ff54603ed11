"""How clients differ, as a small table on the page, and what attackers hide."""

from __future__ import annotations

import polars as pl

from atoll import metrics
from atoll.metrics.heterogeneity.summary import BY_CHANCE
from atoll.report import words
from atoll.report.digest import Digest
from atoll.report.markup import Html, e, join
from atoll.report.run import Run

NONE = "\N{EN DASH}"


def differences(run: Run, level: int) -> Html | None:
    """A row per measure of heterogeneity; None for runs that have none."""
    found = run.data.get("heterogeneity") or []
    if not found:
        return None
    heads = e("tr", *(e("th", head, scope="col") for head in ("kind", "how much", "number", "by chance", "what")))
    rows = []
    for one, before in zip(found, [None, *found], strict=False):
        kind = "" if before and before["kind"] == one["kind"] else str(one["kind"])
        word = e("strong", one["word"]) if one["word"] == "strong" else str(one["word"])
        cells = [e("td", word), e("td", _number(one["value"]), class_="number"), e("td", _number(one["chance"]), class_="number"), e("td", str(one["name"]))]
        rows.append(e("tr", e("th", kind, scope="row"), *cells))
    table = e("table", e("thead", heads), e("tbody", *rows), class_="differences")
    scroll = e("div", table, class_="scroll", role="region", tabindex=0, aria_label="How clients differ")
    return e("div", join(e(f"h{level}", "How clients differ"), scroll, e("p", BY_CHANCE, class_="footnotes")), class_="told")


def benign(d: Digest) -> list[str]:
    """Where clients attack: the scores of the others, which the table mixes with theirs."""
    marked = [i for i, one in enumerate(d.run.data.get("attackers") or []) if one]
    if not marked:
        return []
    rest = metrics.summary(d.scores.filter(~pl.col("client").is_in(marked)), regression=d.regression)
    said = [f"{row['method']} {words.share(row['mean'])}" for row in rest.iter_rows(named=True) if row["mean"] is not None]
    if not said:
        return []
    return [
        f"{len(marked)} of {words.number(d.run.seen, 'client')} train on wrong labels, and the table has them with the others. "
        f"Mean accuracy of the benign clients alone: {', '.join(said)}."
    ]


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"
