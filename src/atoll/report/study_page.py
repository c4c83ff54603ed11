"""The report of a study: one HTML file, from the verdict to how it is repeated."""

from __future__ import annotations

import base64
from pathlib import Path

from atoll import metrics
from atoll.metrics import Ranking
from atoll.report import words
from atoll.report.colours import Style, styles
from atoll.report.figure import Chart
from atoll.report.html import shell, write_page
from atoll.report.legend import swatch
from atoll.report.markup import Html, e, join, prose
from atoll.report.sections import Drawer, code, warning_box
from atoll.report.study_cells import convergence, distributions
from atoll.report.study_data import data_table
from atoll.report.study_export import latex, summary_json, table_of_all
from atoll.report.study_findings import Gap, gap, rivals, verdict, warnings
from atoll.report.study_measures import mean_of, measures
from atoll.report.study_plots import cost_charts, critical, sweep_charts, sweeps
from atoll.report.study_results import StudyResults
from atoll.report.study_table import says, score
from atoll.report.tuning import read_tuning, tuning_table
from atoll.study.grid import study_toml

TITLES = {
    "scores": "Scores", "data": "Data", "differences": "Differences", "sweep": "What is varied", "ranks": "Ranks", "clients": "Clients",
    "convergence": "Convergence", "costs": "Gains and costs", "measures": "Other measures", "tuning": "Tuning", "repeat": "How to repeat it",
}  # fmt: skip


def write_study_report(results: StudyResults, out: Path | None = None) -> Path:
    """Writes the page (default: report.html in the study's folder), and beside it scores.csv, summary.json and table.tex; returns the page's path."""
    target = out or results.folder / "report.html"
    write_page(study_page(results), target)
    for name, content in (("scores.csv", table_of_all(results).write_csv()), ("summary.json", summary_json(results)), ("table.tex", latex(results))):
        write_page(content, target.with_name(name))
    return target


def study_page(results: StudyResults) -> str:
    """The whole file."""
    look = styles(results.methods)
    ranking = metrics.ranking(results.methods, results.means(), regression=results.regression)
    draw = Drawer(look, "study", 3)
    charts = [chart for n, made in enumerate(sweeps(results), 1) for chart in sweep_charts(results, made, n, look, ranking)]
    told = read_tuning(results.folder)
    parts = {
        "scores": _scores(results, look, ranking),
        "data": data_table(results),
        "differences": join(*(_differences(results, look, rival) for rival in rivals(results))),
        "sweep": draw(*charts),
        "ranks": draw(critical(ranking, look)),
        "clients": _each(draw, *distributions(results, look, ranking)),
        "convergence": _each(draw, *convergence(results, look, ranking)),
        "costs": draw(*cost_charts(results, look)),
        "measures": _measures(results, look),
        "tuning": tuning_table(told) if told else None,
        "repeat": _repeat(results),
    }
    sections = [e("section", e("h2", TITLES[name]), content, id=name) for name, content in parts.items() if content]
    links = [(f"#{name}", TITLES[name]) for name, content in parts.items() if content]
    main = [_card(results), warning_box(warnings(results), 2), *sections]
    return shell(results.study.name, links, main)


def _card(results: StudyResults) -> Html:
    first, *more = verdict(results)
    study, d = results.study, results.any
    facts = [
        ("Cells", f"{len(results.cells):,}"),
        ("Seeds", ", ".join(map(str, study.seeds))),
        ("Varied", ", ".join(results.cells[0].cell.values) or "nothing but seeds"),
        ("Methods", f"{len(results.methods)}, {len(results.baselines)} of them baselines"),
        ("Rounds", f"{study.base.rounds:,}"),
        ("Training time", f"{words.seconds(results.seconds)}, scoring included, over all runs"),
        ("Started", str(d.run.environment.get("started", ""))),
        ("Folder", results.folder.name),
    ]
    listed = e("dl", *(e("div", e("dt", name), e("dd", value)) for name, value in facts if value), class_="facts")
    said = e("div", e("p", first, class_="verdict"), e("ul", *(e("li", line) for line in more)) if more else None)
    about = e("p", study.about) if study.about else None
    return e("header", e("h1", study.name), about, e("div", said, listed, class_="card single"))


def _each(draw: Drawer, says: str, charts: list[Chart]) -> Html | None:
    """Charts of single cells."""
    return join(e("p", prose(says)), draw(*charts)) if charts else None


def _scores(results: StudyResults, look: dict[str, Style], ranking: Ranking) -> Html:
    mean = dict(zip(ranking.methods, ranking.ranks, strict=True))
    heads = [*(cell.cell.title for cell in results.cells), *(["mean rank"] if len(results.cells) > 1 else [])]
    rows = []
    for name in results.methods:
        texts = [score(results, cell, name) for cell in results.cells]
        cells = [e("td", e("strong", text) if name == best else text) for text, best in zip(texts, results.picked, strict=True)]
        rows.append(_row(results, look, name, [*cells, *([e("td", f"{mean[name]:.2f}")] if len(results.cells) > 1 else [])]))
    return join(e("p", _downloads(results), class_="tools"), _frame(heads, rows, "Scores of all cells"), e("p", says(results), class_="footnotes"))


def _measures(results: StudyResults, look: dict[str, Style]) -> Html:
    """A folded table for each column of the comparison beside the score: means over seeds, method by cell."""
    made = []
    for column in measures(results):
        rows = [_row(results, look, name, [e("td", mean_of(cell, name, column)) for cell in results.cells]) for name in results.methods]
        about = e("p", f"{column.full}. Mean over seeds; {words.DASH}: a seed has none.", class_="footnotes")
        heads = [cell.cell.title for cell in results.cells]
        made.append(e("details", e("summary", " ".join(column.title.split())), _frame(heads, rows, column.full), about))
    return join(*made)


def _differences(results: StudyResults, look: dict[str, Style], rival: str) -> Html:
    heads = [*(cell.cell.title for cell in results.cells), "won, tied, lost"]
    rows = []
    units: set[str] = set()
    for name in results.methods:
        if name == rival:
            continue
        gaps = [gap(cell, name, rival) for cell in results.cells]
        units |= {g.unit for g in gaps if g}
        own, theirs = results.means()[:, results.methods.index(name)], results.means()[:, results.methods.index(rival)]
        counts = metrics.record(own, theirs, regression=results.regression)
        rows.append(_row(results, look, name, [*(_gap(results, g) for g in gaps), e("td", ", ".join(map(str, counts)))]))
    return join(
        e("h3", f"Against {rival}"), _frame(heads, rows, f"Differences to {rival}"), e("p", _about(results, rival, units), class_="footnotes")
    )


def _about(results: StudyResults, rival: str, units: set[str]) -> str:
    unit = "mean loss, positive is better" if results.regression else "points of accuracy"
    text = f"Test score less that of {rival} ({unit}), paired run by run. Bold: the interval lies above 0; faint: it holds 0."
    text += " Won, tied, lost: cells, by mean scores."
    if "seeds" in units:
        text += " Intervals: first Student's over seeds, below it the bootstrap's over resampled seeds, which is too short where seeds are few."
    if "clients" in units:
        text += " With one seed the interval is the bootstrap's over resampled clients, and says nothing about other seeds."
    return text


def _gap(results: StudyResults, g: Gap | None) -> Html:
    if g is None:
        return e("td", words.DASH)
    scale, digits = (1.0, ".3g") if results.regression else (100.0, ".1f")

    def bounds(low: float, high: float) -> str:
        return f"[{scale * low:+{digits}}, {scale * high:+{digits}}]"

    mean = f"{scale * g.interval.mean:+{digits}}"
    second = e("span", bounds(g.bootstrap.low, g.bootstrap.high), class_="second") if g.unit == "seeds" else None
    shown = f"{mean} {bounds(g.interval.low, g.interval.high)}"
    return e("td", e("strong", shown) if g.clear > 0 else shown, second, class_=None if g.clear else "unclear")


def _row(results: StudyResults, look: dict[str, Style], name: str, cells: list[Html]) -> Html:
    title = e("th", swatch(look[name]), e("span", name, class_="name"), scope="row")
    return e("tr", title, *cells, class_="baseline" if name in results.baselines else None)


def _frame(heads: list[str], rows: list[Html], label: str) -> Html:
    head = e("tr", e("th", "method", scope="col"), *(e("th", text, scope="col") for text in heads))
    table = e("table", e("thead", head), e("tbody", *rows), class_="cells")
    return e("div", table, class_="scroll", role="region", tabindex=0, aria_label=label)


def _downloads(results: StudyResults) -> Html:
    csv, summary = table_of_all(results).write_csv(), summary_json(results)
    files = (("Scores of all runs as CSV", "scores.csv", "text/csv", csv), ("Summary as JSON", "summary.json", "application/json", summary))
    made = []
    for what, name, kind, content in files:
        data = base64.b64encode(content.encode()).decode()
        made.append(e("a", what, download=f"{results.study.name}-{name}", href=f"data:{kind};base64,{data}"))
    return join(*made)


def _repeat(results: StudyResults) -> Html:
    splits = {(cell.cell.title, seed): str(d.run.data.get("split_hash", "")) for cell in results.cells for seed, d in cell.digests.items()}
    rows = [e("tr", e("th", title, scope="row"), e("td", str(seed)), e("td", e("code", value[:16]))) for (title, seed), value in splits.items()]
    table = e("table", e("thead", e("tr", *(e("th", t, scope="col") for t in ("cell", "seed", "hash of the split")))), e("tbody", *rows), class_="differences")
    how = "`atoll study study.toml --out FOLDER` repeats the study; `atoll report` with a folder in `runs/` shows one of its runs in full."
    return join(
        e("p", prose(how)),
        e("details", e("summary", "Specification (study.toml)"), code(study_toml(results.study))),
        e("details", e("summary", "Splits of the data"), e("div", table, class_="scroll")),
        e("details", e("summary", "The table for LaTeX"), code(latex(results))),
    )
