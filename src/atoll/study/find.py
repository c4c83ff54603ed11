"""A study by what a user calls it: a file, a ready-made one or the folder of one that is there already."""

from __future__ import annotations

from pathlib import Path

from atoll.core.errors import AtollError, unknown
from atoll.study.grid import Study, read_study
from atoll.study.ready import READY, ready
from atoll.study.schedule import open_study


def find(what: str | Path, out: Path | None) -> tuple[Study, Path]:
    """(the study, the folder where it is kept: `out`, or studies/<name>). AtollError, one line, for what is not there or can't be read."""
    path = Path(what)
    named = str(what) in READY
    if path.is_dir() and not named:
        if out is not None and out.resolve() != path.resolve():
            raise AtollError(f"{path} is a study that is there already; it goes on where it is. Leave out --out.")
        return open_study(path), path
    if named:  # also where a folder beside us has the name, as in the folder of all studies
        made = ready(str(what))
    elif path.suffix == ".toml" or path.exists():
        made = read_study(path)
    else:
        raise unknown("study", str(what), READY)
    return made, out or Path("studies") / made.name
