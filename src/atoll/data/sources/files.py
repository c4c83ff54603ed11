"""Finding the files of sources."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from atoll.core.errors import AtollError


def given_file(path: str | Path | None, source: str) -> Path:
    """The file a user names. AtollError where none is named, or it isn't there."""
    if path is None:
        raise AtollError(f"Source {source} needs a file: give path=FILE (--path FILE).")
    file = Path(path).expanduser()
    if file.is_dir():
        raise AtollError(f"{file} is a folder; source {source} reads a file.")
    if not file.exists():
        raise AtollError(f"There is no file {file}.")
    return file


def given_folder(path: str | Path | None, source: str) -> Path:
    """The folder a user names. AtollError where none is named, or it isn't there."""
    if path is None:
        raise AtollError(f"Source {source} needs a folder: give path=FOLDER (--path FOLDER).")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise AtollError(f"There is no folder {folder}." if not folder.exists() else f"{folder} is a file; source {source} reads a folder.")
    return folder


def package_file(package: str, inside: str) -> Path | None:
    """A file inside an installed package, which is not imported (some write to the home folder when they are). None where it isn't installed."""
    found = find_spec(package)
    for folder in (found.submodule_search_locations or ()) if found else ():
        if (Path(folder) / inside).exists():
            return Path(folder) / inside
    return None


def check_whole(file: Path, found: int, expected: int, what: str, get: str) -> None:
    """AtollError where a package's file has not as many rows (`what`) as that of the version that is known, which the command `get` installs."""
    if found != expected:
        raise AtollError(f"{file} has {found:,} {what}, not {expected:,}. Install the version that is known: {get}.")


def said(error: Exception) -> str:
    """What a library's error says, as one line without a full stop, for an AtollError to quote."""
    return " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__
