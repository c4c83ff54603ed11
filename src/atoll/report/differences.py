"""How clients differ, as a small table on the page, and what attackers hide."""

from __future__ import annotations

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
    """Where clients attack: that most columns have them with the others."""
    if not d.run.attackers:
        return []
    return [f"{len(d.run.attackers)} of {words.number(d.run.seen, 'client')} train on wrong labels. Only the columns called benign leave them out."]


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"
