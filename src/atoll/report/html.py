"""The report: one HTML file that needs nothing else. It opens from disk, offline, and a policy in its head forbids the browser to fetch anything."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from plotly.offline import get_plotlyjs

from atoll.core.errors import AtollError
from atoll.report.colours import FAINT, GRID, GROUND, INK, pairs
from atoll.report.digest import Digest, digest
from atoll.report.markup import Html, e, script_data
from atoll.report.overview import overview
from atoll.report.run import open_run
from atoll.report.sections import TITLES, run_section

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"


def write_report(runs: list[Path], out: Path | None) -> Path:
    """Writes the report of one or several run folders; returns its path (default: report.html in the first folder).

    AtollError where a folder is no complete run, or the file can't be written. An older report stays until the new one is whole.
    """
    if not runs:
        raise AtollError("A report needs at least one run. Give the folder that `atoll run` named.")
    folders = list(dict.fromkeys(Path(run) for run in runs))
    target = Path(out) if out is not None else folders[0] / "report.html"
    return write_page(page([digest(open_run(folder)) for folder in folders]), target)


def write_page(text: str, target: Path) -> Path:
    """Writes a page; an older one stays until the new one is whole. AtollError where that can't be."""
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        os.replace(part, target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise AtollError(f"The report can't be written to {target}: {error.strerror or error}. Name another file with --out.") from None
    return target


def page(digests: list[Digest]) -> str:
    """The whole file."""
    keys = [f"run{n}" for n in range(1, len(digests) + 1)]
    alone = len(digests) == 1
    title = digests[0].run.name if alone else f"{len(digests)} runs"
    names = [d.run.name if alone else f"{n}. {d.run.name}" for n, d in enumerate(digests, 1)]
    sections = [run_section(d, key, name, 1 if alone else 2) for d, key, name in zip(digests, keys, names, strict=True)]
    main = sections if alone else [e("h1", title), overview(digests, keys), *sections]
    return shell(title, _links(keys, names, sections), main)


def shell(title: str, links: list[tuple[str, str]], main: Sequence[Html | None]) -> str:
    """A page around its content. links: (address, text) of the bar at the top."""
    body = e(
        "body",
        e("a", "Skip to the report", href="#main", class_="skip"),
        _bar(links),
        e("noscript", e("p", "Charts, sorting and filtering need JavaScript; all numbers and texts are here without it.")),
        e("main", *main, id="main"),
        e("footer", "Made by Atoll. Scores are read on test rows; every choice was made on validation rows."),
        script_data(dict(pairs()), id="colours"),
        _script(get_plotlyjs()),
        _script(_packaged("page.js")),
    )
    return "<!DOCTYPE html>\n" + e("html", _head(title), body, lang="en")


def _head(title: str) -> Html:
    return e(
        "head",
        e("meta", charset="utf-8"),
        e("meta", http_equiv="Content-Security-Policy", content=POLICY),
        e("meta", name="viewport", content="width=device-width, initial-scale=1"),
        e("meta", name="color-scheme", content="light dark"),
        e("title", f"{title} · Atoll"),
        e("style", Html(_colours() + _packaged("page.css"))),
    )


def _colours() -> str:
    """The colours that the page shares with its charts."""
    names = {"ink": INK, "faint": FAINT, "grid": GRID, "ground": GROUND}
    return ":root{" + "".join(f"--{name}:light-dark({light},{dark});" for name, (light, dark) in names.items()) + "}\n"


def _links(keys: list[str], names: list[str], sections: list[Html]) -> list[tuple[str, str]]:
    """Where to go on a page of runs."""
    if len(keys) == 1:
        return [(f"#{keys[0]}-{name}", title) for name, title in TITLES.items() if f'id="{keys[0]}-{name}"' in sections[0]]
    return [("#runs", "Runs"), *((f"#{key}", name) for key, name in zip(keys, names, strict=True))]


def _bar(links: list[tuple[str, str]]) -> Html:
    """The bar at the top: where to go, and the colour scheme."""
    items = [e("li", e("a", title, href=address)) for address, title in links]
    scheme = e("button", "Dark", type="button", id="scheme", title="Switch the colour scheme")
    return e("nav", e("strong", "Atoll"), e("ul", *items), scheme, aria_label="Sections", class_="bar")


def _script(code: str) -> Html:
    if "</script" in code.lower():
        raise AssertionError("a script would end early")
    return e("script", Html(code))


def _packaged(name: str) -> str:
    return files("atoll.report").joinpath(name).read_text(encoding="utf-8")
