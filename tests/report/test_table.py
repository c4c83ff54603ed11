"""The comparison as a frame and in the terminal."""

import io

import pytest
from rich.console import Console

from atoll.report import words
from atoll.report.columns import best_rows, columns
from atoll.report.digest import digest
from atoll.report.run import open_run
from atoll.report.table import comparison, print_table
from tests.report.exact_run import base, exact_run, flat
from tests.report.make_run import make_run


def printed(folder, width: int, *, terminal: bool = False) -> str:
    out = io.StringIO()
    print_table(folder, Console(file=out, width=width, force_terminal=terminal, color_system="standard" if terminal else None))
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("table") / "run", unseen=2, late=1)


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_nothing_runs_over_the_edge(folder, width):
    assert max(len(line) for line in printed(folder, width).splitlines()) <= width


def test_a_narrow_terminal_keeps_what_matters_most(folder):
    head = " ".join(printed(folder, 80).splitlines()[1:3])
    assert "accuracy" in head
    assert "worst" in head
    assert "hurt vs" in head
    assert "state" not in head
    assert "FLOPs" not in head


def test_a_wide_terminal_shows_costs_too(folder):
    head = " ".join(printed(folder, 200).splitlines()[1:3])
    for word in ("accuracy", "std over", "worst", "unseen", "traffic", "FLOPs", "training", "state"):
        assert word in head


def test_the_numbers_are_those_of_the_frame(folder):
    lines = printed(folder, 200).splitlines()
    for row in comparison(folder).iter_rows(named=True):
        line = next(line for line in lines if line.startswith(row["method"] + " "))
        for key, show in (("accuracy", words.percent), ("accuracy_worst", words.percent), ("bytes_round", words.size)):
            assert show(row[key]) in line


def test_verdict_warnings_and_footnotes_follow_the_table(folder):
    text = " ".join(printed(folder, 200).split())
    assert "FedPer is" in text
    assert "! Blowup diverged at round 5" in text
    assert "Test rows take no part." in text
    assert text.index("FedPer is") < text.index("! Blowup") < text.index("Test rows take no part.")


def test_brackets_in_names_are_not_markup(tmp_path):
    text = printed(exact_run(tmp_path / "run", {"[bold]New[/bold]": flat(5, 6)}), 120)
    assert "[bold]New[/bold]" in text


def test_baselines_come_first_and_the_best_is_bold(tmp_path):
    folder = exact_run(tmp_path / "run", {"New": flat(7, 9), "Local": base(5, 6)})
    lines = printed(folder, 120, terminal=True).splitlines()
    local, new = (next(i for i, line in enumerate(lines) if line.startswith(name)) for name in ("Local", "New"))
    assert local < new
    assert "\x1b[1m80.0\x1b[0m" in lines[new]
    assert "\x1b[1m55.0" not in lines[local]


def test_values_that_read_alike_are_equally_good_and_where_all_are_none_is(tmp_path):
    d = digest(open_run(exact_run(tmp_path / "run", {"A": flat(5, 7, bytes=1), "B": flat(6, 6, bytes=0), "C": flat(4, 4, bytes=2)})))
    by_key = {c.key: c for c in columns(d)}
    assert best_rows(d, by_key["accuracy"]) == {0, 1}
    assert best_rows(d, by_key["bytes_round"]) == {0}  # B sends nothing, which is no merit among those that do
    alike = digest(open_run(exact_run(tmp_path / "alike", {"A": flat(5, 5), "B": flat(5, 5)})))
    assert best_rows(alike, {c.key: c for c in columns(alike)}["accuracy"]) == set()


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (words.percent(0.8421), "84.2"), (words.share(0.1), "10.0 %"), (words.percent(None), words.DASH), (words.percent(float("nan")), words.DASH),
        (words.loss(0.5), "0.5000"), (words.loss(1234.0), "1234"), (words.count(12000), "12,000"), (words.size(999), "999 B"), (words.size(12_500), "12.5 kB"),
        (words.size(999_999), "1.00 MB"), (words.work(2.1e9), "2.10 G"), (words.seconds(0.42), "0.420 s"),
        (words.seconds(0.004), "4.00 ms"), (words.seconds(75), "1.25 min"),
        (words.seconds(7200), "2.00 h"), (words.some(["a"]), "a"), (words.some(["a", "b", "c"]), "a, b and c"),
        (words.some(list("abcdefgh"), 3), "a, b and 6 more"),
        (words.number(1, "client"), "1 client"), (words.number(1200, "client"), "1,200 clients"), (words.short("abc", 3), "abc"),
        (words.short("hospital of the city 7", 12), "hospita…ty 7"),
    ],
)  # fmt: skip
def test_how_numbers_read(shown, expected):
    assert shown == expected
