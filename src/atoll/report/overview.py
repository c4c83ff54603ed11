"""The head of a page with several runs: what each found, and the scores side by side."""

from __future__ import annotations

from atoll.report import repeats, words
from atoll.report.digest import Digest
from atoll.report.findings import verdict
from atoll.report.markup import Html, e, join
from atoll.report.sections import warning_box
from atoll.report.side_by_side import Column, differences


def overview(digests: list[Digest], keys: list[str]) -> Html:
    """A table of contents with verdicts, then methods by runs; over all of them where they are repetitions with other seeds."""
    entries = [_entry(d, key) for d, key in zip(digests, keys, strict=True)]
    title = e("h2", "What each found", id="runs-title")
    return e("section", _repeats(digests), title, e("ol", *entries, class_="runs"), _scores(digests, keys), id="runs", aria_labelledby="runs-title")


def _entry(d: Digest, key: str) -> Html:
    return e("li", e("a", d.run.name, href=f"#{key}"), " ", e("span", d.run.folder.name, class_="folder"), e("p", verdict(d).line))


def _repeats(digests: list[Digest]) -> Html | None:
    """What holds over seeds, if the runs can tell."""
    if not repeats.are_repeats(digests):
        told = "These runs differ in more than their seeds, or not in their seeds, so they are not summed up into one result."
        columns = [Column(f"{n}. {d.run.name}", [d]) for n, d in enumerate(digests, 1)]
        return join(e("p", told, class_="folder"), warning_box(differences(columns), 2))
    found = repeats.summary(digests)
    if not found:
        return None
    return join(e("p", found[0], class_="verdict"), e("ul", *(e("li", line) for line in found[1:])))


def _scores(digests: list[Digest], keys: list[str]) -> Html:
    together = repeats.are_repeats(digests)
    methods = list(dict.fromkeys(name for d in digests for name in d.table["method"]))
    names = [f"seed {repeats.seed(d)}" if together else f"{n}. {d.run.name}" for n, d in enumerate(digests, 1)]
    heads = [e("th", e("a", name, href=f"#{key}"), scope="col") for name, key in zip(names, keys, strict=True)]
    if together:
        heads.insert(0, e("th", "mean ± std over seeds", scope="col"))
    rows = [_row(digests, name, together) for name in methods]
    table = e("table", e("thead", e("tr", e("th", "method", scope="col"), *heads)), e("tbody", *rows))
    says = "Test score of personal models, seen clients, every row counting alike: accuracy in per cent, or mean loss. "
    says += "Bold: picked on validation rows among the methods of its run."
    return e("div", e("p", says), e("div", table, class_="scroll", role="region", tabindex=0, aria_label="Scores of all runs"))


def _row(digests: list[Digest], method: str, together: bool) -> Html:
    cells = [_score(d, method) for d in digests]
    if together:
        cells.insert(0, e("td", repeats.spread(digests[0], repeats.scores(digests, method))))
    return e("tr", e("th", method, scope="row"), *cells)


def _score(d: Digest, method: str) -> Html:
    value = d.value(method, d.unit)
    text = words.loss(value) if d.regression else words.percent(value)
    return e("td", e("strong", text) if method == d.best() else text)
