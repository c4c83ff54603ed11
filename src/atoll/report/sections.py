"""One run on the page, from the card to how it is repeated."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator
from typing import Any

import plotly.io as pio

from atoll.report import plots_clients, plots_clusters, plots_cost, plots_data, plots_run, plots_time, words
from atoll.report.colours import Style, styles
from atoll.report.differences import differences
from atoll.report.digest import Digest
from atoll.report.export import latex_of
from atoll.report.figure import Chart
from atoll.report.findings import footnotes, verdict, warnings
from atoll.report.identities import identities_table, read_identities
from atoll.report.legend import legend, swatch
from atoll.report.markup import Html, e, join, prose, script_data
from atoll.report.page_table import comparison_table
from atoll.report.run import Run
from atoll.report.tuning import read_tuning, tuning_table

TITLES = {
    "comparison": "Comparison", "clients": "Clients", "clusters": "Clusters", "time": "Change over time", "convergence": "Convergence", "data": "Data",
    "tuning": "Tuning", "identities": "Identities", "repeat": "How to repeat it",
}  # fmt: skip


def run_section(d: Digest, key: str, title: str, level: int) -> Html:
    """Everything about a run. key: unique on the page; level: of its heading."""
    look = styles(list(d.run.status))
    draw = Drawer(look, key, level + 2)
    parts = {
        "comparison": join(comparison_table(d, look, f"{key}-comparison-title"), e("ul", *(e("li", note) for note in footnotes(d)), class_="footnotes")),
        "clients": draw(*_client_charts(d, look)),
        "clusters": draw(*plots_clusters.clusters(d, look)),
        "time": draw(plots_time.change(d, look)),
        "convergence": draw(*plots_run.convergence(d, look), *plots_cost.prices(d, look)),
        "data": join(
            draw(plots_data.labels(d.run), plots_data.sizes(d.run), plots_clients.by_size(d, look)), differences(d.run, level + 2), _history(d.run, level + 2)
        ),
        "tuning": tuning_table(told) if (told := read_tuning(d.run.folder)) else None,
        "identities": identities_table(found) if (found := read_identities(d.run.folder)) else None,
        "repeat": _repeat(d, look),
    }
    blocks = [_block(f"{key}-{name}", TITLES[name], content, level + 1) for name, content in parts.items() if content]
    return e("article", _card(d, look, key, title, level), warning_box(warnings(d), level + 1), *blocks, id=key, class_="run")


class Drawer:
    """Puts charts on the page, two abreast."""

    def __init__(self, look: dict[str, Style], key: str, level: int):
        self.look, self.key, self.level = look, key, level

    def __call__(self, *charts: Chart | None) -> Html | None:
        there = [self.figure(chart) for chart in charts if chart]
        return e("div", *there, class_="charts") if there else None

    def figure(self, chart: Chart) -> Html:
        name = f"{self.key}-{chart.key}"
        caption = e("figcaption", e(f"h{self.level}", chart.title, id=name), e("p", chart.says) if chart.says else None)
        content = json.loads(pio.to_json(chart.figure, validate=False) or "{}")
        plot = e("div", class_="plot", role="img", aria_labelledby=name, style=f"height:{content['layout']['height']}px")
        save = e("button", "SVG", type="button", class_="save", aria_label=f"Save the chart {chart.title} as SVG", title="Save as SVG")
        attributes = {"class_": "wide" if chart.wide else None, "data_name": name}
        return e("figure", caption, save, legend(chart, self.look), plot, script_data(content), **attributes)


def _block(name: str, title: str, content: Html, level: int) -> Html:
    return e("section", e(f"h{level}", title, id=f"{name}-title"), content, id=name, aria_labelledby=f"{name}-title")


def _client_charts(d: Digest, look: dict[str, Style]) -> Iterator[Chart | None]:
    if d.methods:
        draw = (plots_clients.spread, plots_clients.cumulative, plots_clients.histogram, plots_clients.before_after, plots_clients.gain)
        yield from (one(d, look) for one in draw)


def _card(d: Digest, look: dict[str, Style], key: str, title: str, level: int) -> Html:
    said = verdict(d)
    text = e("div", e("p", said.line, class_="verdict"), e("ul", *(e("li", line) for line in said.details)) if said.details else None)
    ladder = plots_run.ladder(d, look)
    picture = Drawer(look, key, level + 1).figure(ladder) if ladder else None
    return e("header", e(f"h{level}", title), e("div", text, picture, _facts(facts(d.run)), class_="card"))


def warning_box(found: list[str], level: int) -> Html | None:
    """Warnings in a box of their own; None where there are none. level: of its heading."""
    if not found:
        return None
    title = e(f"h{level}", f"{words.number(len(found), 'warning')}")
    return e("aside", title, e("ul", *(e("li", prose(text)) for text in found)), class_="warnings")


def facts(run: Run) -> list[tuple[str, str]]:
    """What was run on what: (name, value) in the order of the card."""
    spec, data = settings(run), run.data
    held = int(data.get("unseen", 0))
    rows = [f"{sum(run.sizes(split)):,} {split}" for split in ("train", "validation", "test") if run.sizes(split)]
    majority = data.get("majority_accuracy")
    asked = spec.get("per_round")
    seconds = float(run.rounds["seconds"].sum()) + float(run.rounds["eval_seconds"].sum())
    found = [
        ("Clients", f"{run.seen:,} taking part" + (f", {held:,} held out" if held else "")),
        ("Rows", ", ".join(rows)),
        ("To predict", "a number" if run.regression else words.number(len(data.get("labels", [])), "label")),
        ("Most frequent label", f"right for {words.share(majority)} of test rows, per client" if majority is not None and not math.isnan(majority) else ""),
        ("Attackers", f"{sum(data['attackers']):,}, who train on wrong labels" if data.get("attackers") else ""),
        ("Model", ", ".join(_models(run)) or "chosen for the data"),
        ("Rounds", f"{spec['rounds']:,}, {f'{asked:,} clients' if asked else 'all clients'} asked in each" if "rounds" in spec else ""),
        ("Chosen by", str(spec.get("select", "uniform")) if spec.get("per_round") else ""),
        ("Unreachable clients", words.share(spec["dropout"]) if spec.get("dropout") else ""),
        ("Stragglers", words.share(spec["stragglers"]) if spec.get("stragglers") else ""),
        ("Devices", str(spec.get("devices") or "") + (f", the server waits {words.seconds(spec['deadline'])}" if spec.get("deadline") else "")),
        ("Seed", str(spec.get("seed", ""))),
        ("Started", str(run.environment.get("started", ""))),
        ("Took", f"{words.seconds(seconds)}, scoring included"),
        ("Folder", run.folder.name),
    ]
    return [(name, value) for name, value in found if value]


def _models(run: Run) -> list[str]:
    """Architectures, with their sizes where the run says them."""
    names = settings(run).get("model") or run.environment.get("models", [])
    sizes = run.environment.get("parameters", [])
    if len(sizes) != len(names):
        return names
    return [f"{name} with {words.number(n, 'parameter')}" for name, n in zip(names, sizes, strict=True)]


def settings(run: Run) -> dict[str, Any]:
    """The specification; empty where it can't be read."""
    try:
        return tomllib.loads(run.spec)
    except tomllib.TOMLDecodeError:
        return {}


def _facts(found: list[tuple[str, str]]) -> Html:
    return e("dl", *(e("div", e("dt", name), e("dd", value)) for name, value in found), class_="facts")


def _history(run: Run, level: int) -> Html:
    lines = [e("li", str(line)) for line in run.data.get("history", [])]
    groups = run.data.get("groups")
    told = [
        join(e(f"h{level}", "How the data came about"), e("ol", *lines, class_="history")) if lines else None,
        e("p", f"Clients belong to {len(set(groups))} groups.") if groups else None,
        e("p", "Hash of the split (equal if and only if every client has the same rows): ", e("code", str(run.data.get("split_hash", "unknown")))),
    ]
    return e("div", *told, class_="told")


def _repeat(d: Digest, look: dict[str, Style]) -> Html:
    run = d.run
    command = str(run.environment.get("command", ""))
    given = settings(run).get("data", {}).get("source") == "(given)"
    how = "The command, and the whole specification with every default; `atoll run spec.toml` repeats the run and ends with the same scores."
    if given:
        how = "The run was started from Python with data of its own, which the specification does not hold: repeat it from Python with the same data."
    spec = e("details", e("summary", "Specification (spec.toml)"), code(run.spec)) if run.spec else None
    places = e("details", e("summary", "Environment"), _facts([(key, str(value)) for key, value in run.environment.items() if key != "command"]))
    paper = e("details", e("summary", "The table for LaTeX"), code(latex_of(d)))
    return join(e("p", prose(how)), code(command) if command else None, spec, places, _methods(d, look), paper)


def _methods(d: Digest, look: dict[str, Style]) -> Html:
    heads = e("tr", *(e("th", head, scope="col") for head in ("method", "family", "from", "state")))
    rows = [
        e(
            "tr",
            e("th", swatch(look[name]), e("span", name, class_="name"), scope="row"),
            *(e("td", text) for text in (entry.get("family", ""), entry.get("paper", ""), entry["state"])),
        )
        for name, entry in d.run.status.items()
    ]
    table = e("div", e("table", e("thead", heads), e("tbody", *rows), class_="methods"), class_="scroll", role="region", tabindex=0, aria_label="Methods")
    return e("details", e("summary", "Methods"), table)


def code(text: str) -> Html:
    """Text to be copied."""
    return e("div", e("pre", e("code", text), tabindex=0), e("button", "Copy", type="button", class_="copy"), class_="code")
