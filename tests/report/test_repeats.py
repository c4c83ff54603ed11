"""Runs that differ in their seeds only are taken together; others are not."""

import pytest

from atoll.report import repeats
from atoll.report.digest import digest
from atoll.report.html import write_report
from atoll.report.run import open_run
from tests.report.exact_run import base, exact_run, flat
from tests.report.parsed import parse

SPEC = 'rounds = 1\nseed = {seed}\n\n[data]\nsource = "digits"\n'


@pytest.fixture
def runs(tmp_path):
    """Three seeds; New against Local has 1, 2 and 3 more of ten right, Shiny has more on test rows and less on validation rows."""

    def make(**changes):
        made = []
        for seed, gain in enumerate((1, 2, 3)):
            methods = {"Local": base(5, 5), "New": flat(5 + gain, 5 + gain, validation=9), "Shiny": flat(10, 10, validation=8)}
            spec = SPEC.format(seed=changes.get("seed", seed)) + (changes.get("also", "") if seed else "")
            made.append(exact_run(tmp_path / f"run{len(list(tmp_path.iterdir()))}", methods, spec=spec))
        return made

    return make


def read(folders):
    return [digest(open_run(folder)) for folder in folders]


def test_the_interval_by_hand(runs):
    """Differences of 10, 20 and 30 points: mean 20, standard error 10 / sqrt 3, quantile of t with 2 degrees 4.3027: 20 ± 24.8."""
    digests = read(runs())
    assert repeats.are_repeats(digests)
    assert repeats.best(digests) == "New"
    found = repeats.summary(digests)
    assert found[0] == "Over 3 seeds, New has the best mean validation score of the methods."
    assert found[1] == (
        "New against Local on test rows: +20.0 points (95 % interval -4.8 to +44.8, 3 paired runs; positive is better), which does not tell it from none."
    )
    assert repeats.spread(digests[0], repeats.scores(digests, "New")) == "70.0 ± 10.0"


@pytest.mark.parametrize("changes", [{"seed": 0}, {"also": "limit = 7\n"}])
def test_other_runs_are_not_summed_up(runs, changes):
    assert not repeats.are_repeats(read(runs(**changes)))


def test_one_run_is_no_repetition(runs):
    assert not repeats.are_repeats(read(runs()[:1]))


def test_a_method_that_failed_once_is_not_the_best(runs, tmp_path):
    digests = read(runs())
    lame = exact_run(tmp_path / "lame", {"Local": base(5, 5), "New": flat(1, 1, state="diverged"), "Shiny": flat(9, 9, validation=8)}, spec=SPEC.format(seed=9))
    assert repeats.best([*digests, *read([lame])]) == "Shiny"


def test_the_page_shows_it(runs, tmp_path):
    root = parse(write_report(runs(), tmp_path / "all.html").read_text(encoding="utf-8"))
    section = root.one("section")
    assert section.one(class_="verdict").text.startswith("Over 3 seeds, New has")
    assert [th.text for th in section.one("thead").all("th")] == ["method", "mean ± std over seeds", "seed 0", "seed 1", "seed 2"]
    assert "70.0 ± 10.0" in section.text
    assert "All runs share one split of the data" in section.text
