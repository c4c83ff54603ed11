"""What docs/data.md says is so: its commands work, its Python runs, and the sources it speaks of are there."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from atoll import cli
from atoll.data import SOURCES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def test_a_split_is_shared_as_the_page_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (commands,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in commands.splitlines():
        monkeypatch.setattr(sys, "argv", shlex.split(line, comments=True))
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code, line
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict = {}
    exec(compile(code, "data.md", "exec"), names)
    assert "'client 3'" in capsys.readouterr().out
    assert len(names["clients"]) == 20


def test_sources_that_the_page_speaks_of_are_there():
    named = set(re.findall(r"--data ([a-z0-9-]+)", PAGE)) - {"patients"}
    assert named
    assert named <= set(SOURCES)
    first = r"^\| `([a-z0-9][a-z0-9-]*)` \|"
    assert re.findall(first, PAGE.partition("<!-- /sources -->")[0], re.MULTILINE) == list(SOURCES)
    assert set(re.findall(first, PAGE, re.MULTILINE)) <= set(SOURCES)
