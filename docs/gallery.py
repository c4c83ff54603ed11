"""Runs the ready-made studies and puts their tables into docs/gallery.md; what is said beside them is written by hand.

    python docs/gallery.py                     all studies, about an hour on two cores; what is finished already is not run again
    python docs/gallery.py survey-preference   one of them
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from generate import with_part
from rich.console import Console

import atoll
from atoll.core.cores import cores
from atoll.report import words
from atoll.report.columns import every_column
from atoll.report.study_findings import verdict, warnings
from atoll.report.study_measures import mean_of
from atoll.report.study_results import StudyResults, open_results
from atoll.report.study_table import score
from atoll.watch import StudyProgress

PAGE = Path(__file__).with_name("gallery.md")
MEASURES = {  # what a study is about, beside its scores
    "quick": ("hurt_local",),
    "survey-label-skew": ("hurt_local", "mix_accuracy"),
    "survey-feature-skew": ("accuracy_worst",),
    "survey-quantity": ("accuracy_mean", "accuracy_worst"),
    "survey-preference": ("adjusted_rand",),
    "survey-temporal": ("mean_over_time", "lost"),
    "systems": ("accuracy_worst", "rounds_to_target"),
    "adaptation": ("unseen_accuracy", "start_accuracy"),
    "label-attacks": ("benign_accuracy",),
    "scalability": ("hurt_local",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=", ".join(MEASURES))
    parser.add_argument("--folder", type=Path, default=Path("studies"), help="where studies are kept")
    asked = parser.parse_args()
    for name in asked.studies or MEASURES:
        if name not in MEASURES:
            parser.error(f"there is no study {name} here; there are {', '.join(MEASURES)}")
        with StudyProgress(Console()) as progress:
            made = atoll.run_study(name, processes=cores(), out=asked.folder / name, watcher=progress)
        PAGE.write_text(with_part(PAGE.read_text(encoding="utf-8"), name, section(open_results(made.folder))), encoding="utf-8")
        print(f"{name}: in {PAGE}", flush=True)


def section(results: StudyResults) -> str:
    """What the command prints, and tables of what the study is about, as Markdown."""
    columns = {column.key: column for column in every_column(regression=results.regression)}

    def scored(name: str) -> list[str]:
        texts = [score(results, cell, name) for cell in results.cells]
        return [f"**{text}**" if name == best else text for text, best in zip(texts, results.picked, strict=True)]

    study = results.study
    runs = f"{words.number(len(results.cells), 'cell')}, {words.number(len(study.seeds), 'seed')}, {study.base.rounds} rounds"
    spent = words.seconds(results.seconds)
    lines = [f"`atoll study {study.name} --processes 2` ({runs}; {spent} of training and scoring over all runs)", "", "Accuracy, %:", ""]
    lines += table(results, scored)
    for key in MEASURES[study.name]:
        column = columns[key]
        known = [name for name in results.methods if any(mean_of(cell, name, column) != words.DASH for cell in results.cells)]
        lines += ["", f"{column.full} (`{key}`):", ""]
        lines += table(results, lambda name, column=column: [mean_of(cell, name, column) for cell in results.cells], known)
    lines += ["", *(f"> {text}  " for text in (*verdict(results), *(f"Warning: {text}" for text in warnings(results))))]
    return "\n".join(lines)


def table(results: StudyResults, row: Callable[[str], list[str]], methods: list[str] | None = None) -> list[str]:
    heads = ["method", *(cell.cell.title for cell in results.cells)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join([name, *row(name)]) + " |" for name in methods or results.methods]


if __name__ == "__main__":
    main()
