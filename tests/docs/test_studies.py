"""What docs/studies.md says is so: its study is one, its commands have the options."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from typer.testing import CliRunner

from atoll import cli
from atoll.study.grid import make_study
from atoll.study.run import check_spec

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")


def test_the_study_of_the_page_is_one():
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    runs = make_study(tomllib.loads(text), "page").runs()
    assert len(runs) == 2 * 3 * 3
    for run in runs:
        check_spec(run.spec)
    assert {(run.spec.per_round, run.spec.settings["lr"]) for run in runs} == {(None, 0.1), (5, 0.05)}


def test_the_commands_of_the_page_exist():
    for line in re.findall(r"^atoll ([^\n#]*)", "\n".join(re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)), re.MULTILINE):
        command, *rest = line.split()
        told = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).output
        for option in re.findall(r"--[a-z-]+", " ".join(rest)):
            assert option in told, f"{option} in {line}"
