"""The page: one file, well formed, with the numbers of the comparison, and names that stay text."""

import json
import os
import re
from pathlib import Path

import pytest

from atoll.core.errors import AtollError
from atoll.report import columns as described
from atoll.report.digest import digest
from atoll.report.findings import verdict
from atoll.report.html import write_report
from atoll.report.run import open_run
from atoll.report.table import comparison
from tests.report.exact_run import base, exact_run, flat
from tests.report.make_run import SORTS, make_run
from tests.report.parsed import Element, parse

EVIL = "<script>alert('x')</script> & \"Co\" <b>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("html") / "run", unseen=3, late=1)


@pytest.fixture(scope="module")
def page(folder) -> Element:
    return parse(write_report([folder], None).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Element:
    where = tmp_path_factory.mktemp("several")
    folders = [make_run(where / "a"), make_run(where / "b", regression=True), make_run(where / "c", clients=1)]
    return parse(write_report(folders, where / "all.html").read_text(encoding="utf-8"))


def test_it_lies_in_the_first_runs_folder_or_where_it_is_asked_for(folder, tmp_path):
    assert write_report([folder], None) == folder / "report.html"
    assert write_report([folder], tmp_path / "new" / "r.html") == tmp_path / "new" / "r.html"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["r.html"]  # nothing half written beside it


@pytest.mark.parametrize("which", ["page", "several"])
def test_it_fetches_nothing(which, request):
    root = request.getfixturevalue(which)
    policy = next(m for m in root.all("meta") if m.attributes.get("http-equiv") == "Content-Security-Policy")
    assert policy.attributes["content"].startswith("default-src 'none';")
    assert "http" not in policy.attributes["content"]
    loaders = ("src", "srcset", "poster", "action", "background", "data", "xlink:href")
    assert [e for e in root.all() for name in loaders if name in e.attributes] == []
    assert [e.name for e in root.all() if e.name in ("link", "iframe", "object", "embed", "img", "base", "form")] == []
    inside = ("#", "data:text/csv;base64,", "data:application/json;base64,")
    assert [a for a in (e.attributes.get("href", "#") for e in root.all()) if not a.startswith(inside)] == []
    style = "".join(root.one("style").own)
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize("which", ["page", "several"])
def test_it_is_sound(which, request):
    """Every id once, every reference to an id that is there, headings that skip no level, a name for every region, chart and button."""
    root = request.getfixturevalue(which)
    ids = [e.attributes["id"] for e in root.all() if "id" in e.attributes]
    assert len(set(ids)) == len(ids)
    for e in root.all():
        assert set(e.attributes.get("aria-labelledby", "").split()) <= set(ids)
        if e.attributes.get("href", "").startswith("#"):
            assert e.attributes["href"][1:] in ids
        if e.attributes.get("role") in ("region", "img", "group"):
            assert "aria-label" in e.attributes or "aria-labelledby" in e.attributes
        if e.name == "button":
            assert e.text or "aria-label" in e.attributes
    levels = [int(e.name[1]) for e in root.all() if re.fullmatch("h[1-6]", e.name)]
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip([0, *levels], levels, strict=False))
    assert root.one("html").attributes["lang"] == "en"
    assert "width=device-width" in next(m for m in root.all("meta") if m.attributes.get("name") == "viewport").attributes["content"]


def test_everything_is_there_in_its_order(page):
    article = page.one("article")
    blocks = [article.one(class_="card"), article.one(class_="warnings"), article.one("table", "comparison")]
    blocks += [figure for figure in article.all("figure") if figure.attributes["data-name"] != "run1-ladder"]
    order = {id(e): n for n, e in enumerate(article.all())}
    assert [order[id(e)] for e in blocks] == sorted(order[id(e)] for e in blocks)
    names = [figure.attributes["data-name"].removeprefix("run1-") for figure in blocks[3:]]
    clients = ["spread", "cumulative", "histogram", "before-after", "gain"]
    assert names == [*clients, "rounds", "bytes", "price", "price-work", "price-state", "labels", "sizes", "by-size"]
    for text in ("source: made up for a test", "atoll run", 'source = "digits"', "3.11.7", r"\begin{tabular}"):
        assert text in article.text


def test_the_card_says_what_was_found_on_what(page, folder):
    card = page.one(class_="card")
    assert card.one(class_="verdict").text == verdict(digest(open_run(folder))).line
    told = {row.one("dt").text: row.one("dd").text for row in card.one("dl").children}
    assert told["Clients"] == "9 taking part, 3 held out"
    assert told["Seed"] == "0"
    assert told["Rounds"] == "10, all clients asked in each"
    assert told["Model"] == "mlp:64 with 4,810 parameters"


def test_the_tables_numbers_are_those_of_the_comparison(page, folder):
    frame, d = comparison(folder), digest(open_run(folder))
    by_key = {c.key: c for c in described.columns(d)}
    table = page.one("table", "comparison")
    heads = [th.attributes["data-column"] for th in table.one("thead").all("th")[1:]]
    assert set(heads) == set(by_key)
    rows = table.one("tbody").all("tr")
    assert [row.one("th").attributes["data-v"] for row in rows] == frame["method"].to_list()
    for row, expected in zip(rows, frame.iter_rows(named=True), strict=True):
        for key, cell in zip(heads, row.all("td"), strict=True):
            value = expected[key]
            shown = cell.attributes.get("data-v")
            assert (None if shown is None else float(shown)) == value
            assert cell.text == by_key[key].show(value)


def test_baselines_are_marked_and_the_best_is_bold(tmp_path):
    root = parse(write_report([exact_run(tmp_path / "run", {"Local": base(5, 6), "New": flat(7, 9)})], None).read_text(encoding="utf-8"))
    rows = {row.one("th").attributes["data-v"]: row for row in root.one("table", "comparison").one("tbody").all("tr")}
    assert "baseline" in rows["Local"].classes
    assert "baseline" not in rows["New"].classes
    assert "80.0" in [e.text for e in rows["New"].all("strong")]
    assert "55.0" not in [e.text for e in rows["Local"].all("strong")]


def test_names_stay_text(tmp_path):
    clean = make_run(tmp_path / "clean", sorts=SORTS[:6], diverging=None)
    evil = make_run(tmp_path / "evil", sorts=(*SORTS[:5], SORTS[5].__class__(**{**SORTS[5].__dict__, "label": EVIL})), diverging=None, names=[EVIL] * 12)
    data = json.loads((evil / "data.json").read_text()) | {"name": EVIL, "history": [EVIL], "labels": [EVIL, "]]>", "</style>", "--><!--"]}
    (evil / "data.json").write_text(json.dumps(data))
    (evil / "environment.json").write_text(json.dumps({"command": EVIL, "platform": EVIL, EVIL: EVIL}))
    (evil / "spec.toml").write_text(f"# {EVIL}\n")
    pages = [parse(write_report([run], None).read_text(encoding="utf-8")) for run in (clean, evil)]
    scripts, bold = ([len(root.all(name)) for root in pages] for name in ("script", "b"))
    assert scripts[0] == scripts[1]
    assert bold == [0, 0]
    root = pages[1]
    assert root.one("h1").text == EVIL
    assert [row.one("th").attributes["data-v"] for row in root.one("table", "comparison").one("tbody").all("tr")][-1] == EVIL
    assert EVIL in {key.attributes["data-method"] for key in root.all("button", "key")}
    assert EVIL in root.one("ol", "history").text
    for figure in root.all("figure"):  # what plotly gets is data, and its text is escaped once more, since plotly reads a little HTML
        content = json.loads("".join(figure.one("script").own))
        assert "<script" not in json.dumps([{k: v for k, v in trace.items() if k != "meta"} for trace in content["data"]])
        assert "<script" not in json.dumps(content["layout"])


def test_client_names_cut_alike_are_kept_apart(tmp_path):
    """Forty letters in common at both ends: plotly would draw categories of one name over each other."""
    names = [f"{'north ' * 8}{i:02d}{' clinic' * 8}" for i in range(12)]
    root = parse(write_report([make_run(tmp_path / "run", names=names)], None).read_text(encoding="utf-8"))
    labels = next(f for f in root.all("figure") if f.attributes["data-name"] == "run1-labels")
    ticks = json.loads("".join(labels.one("script").own))["data"][0]["y"]
    assert len(set(ticks)) == 12


def test_each_run_has_its_section(several):
    runs = several.all("article")
    assert [run.attributes["id"] for run in runs] == ["run1", "run2", "run3"]
    links = [a.attributes["href"] for a in several.one("nav").all("a")]
    assert links == ["#runs", "#run1", "#run2", "#run3"]
    assert [run.one("h2").text for run in runs] == ["1. digits by writing form", "2. prices by town", "3. digits by writing form"]
    assert "not summed up" in several.one("section").text  # they are no repetitions of each other


def test_charts_of_many_clients_stay_small(tmp_path):
    folder = make_run(tmp_path / "run", clients=3000, sorts=SORTS[:6], rounds=2, diverging=None)
    root = parse(write_report([folder], None).read_text(encoding="utf-8"))
    assert sum(len("".join(f.one("script").own)) for f in root.all("figure")) < 1_500_000


@pytest.mark.parametrize("missing", ["status.json", "data.json", "environment.json", "clients.parquet", "rounds.parquet"])
def test_an_incomplete_run_is_refused_and_the_old_report_stays(tmp_path, missing):
    folder = make_run(tmp_path / "run")
    old = write_report([folder], None).read_bytes()
    (folder / missing).unlink()
    with pytest.raises(AtollError, match=missing.replace(".", r"\.")):
        write_report([folder], None)
    assert (folder / "report.html").read_bytes() == old


@pytest.mark.parametrize("broken", ["status.json", "data.json", "clients.parquet", "rounds.parquet"])
def test_a_broken_file_is_named(tmp_path, broken):
    folder = make_run(tmp_path / "run")
    (folder / broken).write_bytes(b"{half")
    with pytest.raises(AtollError, match=broken.replace(".", r"\.")):
        write_report([folder], None)


def test_no_run_and_no_place_to_write(tmp_path):
    with pytest.raises(AtollError, match="at least one run"):
        write_report([], None)
    folder = make_run(tmp_path / "run")
    (tmp_path / "taken").mkdir()
    with pytest.raises(AtollError, match="can't be written to"):
        write_report([folder], tmp_path / "taken")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "taken"]


def test_it_is_replaced_in_one_step(tmp_path, monkeypatch):
    """While the page is being written the old one is whole: what is moved over it is a complete file."""
    folder = make_run(tmp_path / "run")
    (folder / "report.html").write_text("old")
    moved = []

    def replace(part, target):
        moved.append((Path(target).read_text(), Path(part).read_text(encoding="utf-8").endswith("</html>")))
        real(part, target)

    real = os.replace
    monkeypatch.setattr(os, "replace", replace)
    write_report([folder], None)
    assert moved == [("old", True)]


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({"diverging": "Blowup", "sorts": SORTS[-1:]}, "No method has a result."),
        ({"diverging": None, "sorts": SORTS[:4]}, "Only baselines have results"),
        ({"regression": True}, "of mean loss"),
        ({"clients": 1}, "no client is worse off"),
        ({"clients": 200}, "of 200 clients"),
    ],
)
def test_odd_runs_have_pages_too(tmp_path, what, says):
    root = parse(write_report([make_run(tmp_path / "run", **what)], None).read_text(encoding="utf-8"))
    assert says in root.one(class_="verdict").text or says in root.one(class_="card").text
