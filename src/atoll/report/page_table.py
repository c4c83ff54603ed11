"""The comparison on the page: sortable, with every column on request, and to take away."""

from __future__ import annotations

import base64

import polars as pl

from atoll.report.colours import Style
from atoll.report.columns import Column, best_rows, cell, columns, methods_first_row
from atoll.report.digest import Digest
from atoll.report.export import summary_json
from atoll.report.legend import swatch
from atoll.report.markup import Html, e, join

MOST = 20_000  # scores of clients that are packed into the page to be taken away
FIRST = 8  # columns up to this rank are shown at once


def comparison_table(d: Digest, look: dict[str, Style], titled: str) -> Html:
    """The table with the means to sort it and to see more of it, and below it what its columns mean. titled: the id of its title."""
    shown = columns(d)
    best = {c.key: best_rows(d, c) for c in shown}
    head = e("tr", _method_head(), *(_head(c) for c in shown))
    split = methods_first_row(d)
    rows = [_row(d, look, shown, best, row, row == split > 0) for row in range(len(d.table))]
    caption = e("caption", f"Comparison of methods on {d.run.name}", class_="unseen")
    table = e("table", caption, e("thead", head), e("tbody", *rows), class_="comparison")
    more = [c for c in shown if c.rank > FIRST]
    switch = e("label", e("input", type="checkbox", class_="more"), f" {len(more)} more columns") if more else None
    tools = e("p", e("span", "A click on a column's head sorts by it."), switch, *_downloads(d), class_="tools")
    meaning = join(*(join(e("dt", _plain(c.title)), e("dd", f"{c.full}.")) for c in shown))
    frame = e("div", table, class_="scroll", role="region", tabindex=0, aria_labelledby=titled)
    return e("div", tools, frame, e("details", e("summary", "What the columns mean"), e("dl", meaning, class_="meaning")), class_="table")


def _method_head() -> Html:
    return e("th", e("button", "method", type="button"), scope="col", data_first="ascending", aria_sort="none")


def _head(c: Column) -> Html:
    first = "ascending" if c.best == "low" else "descending"
    button = e("button", _broken(c.title), type="button", title=f"{c.full}. Sort by it.")
    return e("th", button, scope="col", class_=_class(c), data_first=first, aria_sort="none", data_column=c.key)


def _row(d: Digest, look: dict[str, Style], shown: list[Column], best: dict[str, set[int]], row: int, ruled: bool) -> Html:
    name, note, baseline = d.table.select("method", "note", "baseline").row(row)
    marks = " ".join(word for word, yes in (("baseline", baseline), ("ruled", ruled)) if yes)
    title = e("th", swatch(look[name]), e("span", name, class_="name"), e("span", note, class_="note") if note else None, scope="row", data_v=name)
    return e("tr", title, *(_cell(d, c, row, row in best[c.key]) for c in shown), class_=marks or None)


def _cell(d: Digest, c: Column, row: int, best: bool) -> Html:
    value = cell(d, c, row)
    text = c.show(value)
    return e("td", e("strong", text) if best else text, class_=_class(c), data_v=None if value is None else repr(value))


def _class(c: Column) -> str | None:
    return "extra" if c.rank > FIRST else None


def _plain(title: str) -> str:
    return " ".join(title.split())


def _broken(title: str) -> Html:
    first, _, rest = title.strip().partition("\n")
    return join(first, e("br") if rest else None, rest)


def _downloads(d: Digest) -> list[Html]:
    """The table and, unless they are very many, the scores of clients it is made of; full precision."""
    found = [
        _download(d.table.write_csv(), f"{d.run.folder.name}-methods.csv", "Table as CSV"),
        _download(summary_json(d), f"{d.run.folder.name}-summary.json", "Summary as JSON", "application/json"),
    ]
    if 0 < len(d.scores) <= MOST:
        names = d.scores.with_columns(pl.col("client").map_elements(d.run.client_name, return_dtype=pl.String).alias("name"))
        found.append(_download(names.write_csv(), f"{d.run.folder.name}-clients.csv", "Clients as CSV"))
    return found


def _download(content: str, name: str, what: str, kind: str = "text/csv") -> Html:
    data = base64.b64encode(content.encode()).decode()
    return e("a", what, download=name, href=f"data:{kind};base64,{data}")
