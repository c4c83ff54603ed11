"""The page in a real browser: every chart is drawn, nothing goes wrong, nothing is fetched, and it fits a phone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from atoll.report.colours import METHODS, pairs
from atoll.report.html import write_report
from tests.report.chromium import dump
from tests.report.make_run import make_run
from tests.report.parsed import Element, parse

pytestmark = pytest.mark.browser

MARKS = {"point", "js-line", "box"}  # what plotly calls the marks of bars and scatters, lines, and boxes


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    where = tmp_path_factory.mktemp("browser")
    runs = [make_run(where / "first", unseen=3, names=[f"<b>site {i}</b> & co" for i in range(12)]), make_run(where / "second", regression=True)]
    return write_report(runs, where / "report.html")


def with_script(report: Path, code: str, name: str) -> Path:
    """A copy of the page with a script that runs when everything is drawn, and leaves what it finds in data-found of <html>."""
    waiting = (
        "<script>const root = document.documentElement; const wait = setInterval(async () => { if (!('ready' in root.dataset)) return; clearInterval(wait);"
        f"root.dataset.found = JSON.stringify(await (async () => {{ {code} }})()); parent.postMessage(root.dataset.found, '*'); }}, 50);</script>"
    )
    copy = report.with_name(name)
    copy.write_text(report.read_text(encoding="utf-8").replace("</body>", f"{waiting}</body>"), encoding="utf-8")
    return copy


def in_frame(page: Path, width: int) -> Path:
    """A page that shows this one in a frame so wide, and takes over what it finds: windows themselves are never narrower than 500 pixels."""
    listen = "addEventListener('message', (event) => { document.documentElement.dataset.found = event.data; });"
    outer = page.with_name(f"{page.stem}-frame.html")
    outer.write_text(f'<!DOCTYPE html><html><script>{listen}</script><iframe style="width:{width}px;height:844px;border:0" src="{page.name}"></iframe></html>')
    return outer


def found(text: str):
    root = parse(text, strict=False).one("html")
    assert root.attributes.get("data-errors") is None
    return json.loads(root.attributes["data-found"])


def faults(text: str) -> list[str]:
    """What is wrong with a page that should have been drawn."""
    root = parse(text, strict=False)
    html = root.one("html")
    wrong = [f"script error: {html.attributes['data-errors']}"] if "data-errors" in html.attributes else []
    if "data-ready" not in html.attributes:
        wrong.append("the page never got ready")
    figures = root.all("figure")
    if not figures:
        wrong.append("there are no charts")
    for figure in figures:
        traces = json.loads("".join(figure.one("script").own))["data"]
        hidden = {key.attributes["data-method"] for key in figure.all("button", "key") if key.attributes["aria-pressed"] == "false"}
        shown = [trace for trace in traces if trace.get("meta") not in hidden]
        drawn = marks(figure)
        if drawn < len(shown):
            wrong.append(f"{figure.attributes['data-name']}: {drawn} marks for {len(shown)} traces")
    return wrong


def marks(figure: Element) -> int:
    plot = figure.one("div", "plot")
    shapes = [e for e in plot.all("path") if e.classes & MARKS and e.attributes.get("d", "M0,0Z") != "M0,0Z"]
    bars = [path for point in plot.all("g", "point") for path in point.all("path") if path.attributes.get("d", "M0,0Z") != "M0,0Z"]
    images = [image for heat in plot.all("g", "hm") for image in heat.all("image")]
    return len(shapes) + len(bars) + len(images)


def test_every_chart_is_drawn_and_no_script_fails(report):
    text = dump(report)
    assert faults(text) == []
    assert len(parse(text, strict=False).all("figure")) == 27  # fourteen of the first run; no labels in the second


def test_a_page_without_plotly_is_found_out(report):
    text = report.read_text(encoding="utf-8")
    scripts = re.findall(r"<script>.*?</script>", text, flags=re.DOTALL)
    plotly = max(scripts, key=len)
    assert len(plotly) > 1_000_000
    broken = report.with_name("broken.html")
    broken.write_text(text.replace(plotly, ""), encoding="utf-8")
    wrong = faults(dump(broken))
    assert "Plotly is not defined" in wrong[0]
    assert len(wrong) == 28


def test_nothing_is_fetched(report):
    page = with_script(report, "return performance.getEntriesByType('resource').map((entry) => entry.name);", "fetched.html")
    assert [name for name in found(dump(page)) if not name.startswith(("data:", "blob:"))] == []


def test_it_fits_a_phone(report):
    """Nothing sticks out of a screen 390 pixels wide: wide tables scroll in a frame of their own, and charts shrink."""
    code = """
      const out = [...document.querySelectorAll("figure, .card, .warnings, .scroll, pre, .plot svg")]
        .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.parentElement.closest(".scroll"))
        .map((e) => e.tagName + " " + e.className);
      const text = [...document.querySelectorAll("p, li, dd")].map((e) => parseFloat(getComputedStyle(e).fontSize));
      return { width: innerWidth, page: root.scrollWidth, body: document.body.scrollWidth, out, smallest: Math.min(...text) };
    """
    measured = found(dump(in_frame(with_script(report, code, "phone.html"), 390)))
    assert measured["width"] == 390
    assert (measured["page"], measured["body"]) == (390, 390)
    assert measured["out"] == []
    assert measured["smallest"] >= 12


def test_a_head_sorts_the_table_and_a_third_press_restores_it(report):
    code = """
      const table = document.querySelector("table.comparison");
      const head = table.querySelector('th[data-column="accuracy"]');
      const look = () => [head.getAttribute("aria-sort"), [...table.tBodies[0].rows].map((row) => row.cells[head.cellIndex].dataset.v ?? null)];
      const seen = [look()];
      for (let i = 0; i < 3; i++) { head.querySelector("button").click(); seen.push(look()); }
      return seen;
    """
    before, best_first, worst_first, after = found(dump(with_script(report, code, "sorted.html")))
    assert [state for state, _ in (before, best_first, worst_first, after)] == ["none", "descending", "ascending", "none"]
    values = sorted((v for v in before[1] if v is not None), key=float)
    empty = [None] * before[1].count(None)
    assert best_first[1] == [*reversed(values), *empty]
    assert worst_first[1] == [*values, *empty]
    assert after == before


def test_the_key_hides_and_shows_a_method(report):
    code = """
      const figure = document.querySelector('figure[data-name="run1-cumulative"]');
      const key = [...figure.querySelectorAll(".key")].find((one) => one.dataset.method === "FedPer");
      const drawn = () => figure.querySelectorAll(".js-line").length;
      const settle = () => new Promise((next) => setTimeout(next, 300));
      const seen = [[key.getAttribute("aria-pressed"), drawn()]];
      for (const button of [key, key, figure.querySelector('[data-set="none"]'), figure.querySelector('[data-set="all"]')]) {
        button.click();
        await settle();
        seen.push([key.getAttribute("aria-pressed"), drawn()]);
      }
      return seen;
    """
    assert found(dump(with_script(report, code, "key.html"))) == [["true", 7], ["false", 6], ["true", 7], ["false", 0], ["true", 7]]


@pytest.mark.parametrize("dark", [False, True])
def test_charts_follow_the_colour_scheme(report, dark):
    """Every colour of a chart is of the scheme; and the button goes to the other one."""
    code = """
      const colours = () => {
        const ladder = document.querySelector('figure[data-name="run1-ladder"] .plot');
        return [getComputedStyle(document.body).backgroundColor, ...ladder.data.map((trace) => trace.marker.color)];
      };
      const seen = [colours()];
      document.getElementById("scheme").click();
      await new Promise((next) => setTimeout(next, 3000));
      seen.push(colours());
      return seen;
    """
    flags = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0") if dark else ("--blink-settings=preferredColorScheme=1",)
    first, second = found(dump(with_script(report, code, f"scheme-{dark}.html"), *flags))
    sides = [{pair[side] for pair in pairs()} for side in (0, 1)]
    one, other = (1, 0) if dark else (0, 1)
    assert set(first[1:]) <= sides[one]
    assert set(second[1:]) <= sides[other]
    grounds = ("rgb(255, 255, 254)", "rgb(22, 27, 33)")
    assert (first[0], second[0]) == (grounds[one], grounds[other])
    assert METHODS[1][one] in first  # FedPer, the second method
