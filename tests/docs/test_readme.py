"""What the README says is so: its Python runs, its commands are known, its table of methods is the one in the code."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 14
    exec(compile(code, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "FedPer" in said
    assert "report.html" in said


def test_the_table_of_methods_is_up_to_date():
    done = subprocess.run([sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_commands_of_the_readme_exist():
    """Every `make x` is a target, and every option of an `atoll` line is one that the command has."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shell = "\n".join([*blocks("bash"), *re.findall(r"`((?:make|atoll) [^`]+)`", README)])
    assert set(re.findall(r"^\s*make ([a-z-]+)", shell, re.MULTILINE)) <= targets
    for line in re.findall(r"atoll (?:run|data|methods|report|resume|study|compare|tune|verify)[^\n#]*", shell):
        command = line.split()[1:]
        depth = 2 if command[0] == "data" else 1
        spec = subprocess.run([sys.executable, "-m", "atoll.cli", *command[:depth], "--help"], capture_output=True, text=True, check=True, env=wide())
        for option in re.findall(r"--[a-z-]+", line):
            assert option in spec.stdout, f"{option} in {line}"


def wide() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}


def test_files_that_the_readme_points_to_are_there():
    for target in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", README):
        path = target[0] or target[1]
        if not path.startswith("http"):
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("example", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_examples_run(example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / example), run_name="__main__")
    assert "accuracy" in capsys.readouterr().out
