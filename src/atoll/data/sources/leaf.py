"""Datasets as LEAF writes them: JSON files with users, num_samples and user_data. FEMNIST, CelebA, Shakespeare, Sent140, Reddit, synthetic and alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.sources.files import said
from atoll.data.sources.leaf_kinds import KINDS, kind_of
from atoll.data.table import FREE, TEST, TRAIN, VALIDATION, Table

SPLITS = {"train": FREE, "val": VALIDATION, "test": TEST}
UNSPLIT = ("rem_user_data", "sampled_data", "all_data")  # in the order in which LEAF's own splitting prefers them


class Piece(NamedTuple):
    """What one file has of one user."""

    user: str
    part: int
    x: list[Any]
    y: list[Any]
    where: str  # for errors


def read(
    *,
    path: str | Path | None = None,
    images: str | Path | None = None,
    side: int = 84,
    length: int | None = None,
    vocabulary: int = 10_000,
    least: int = 2,
) -> Table:
    """A LEAF dataset: its users are the clients, and its test rows stay test rows where it was split by sample.

    path: the dataset's folder (with train/ and test/, or all_data/), one with JSON files, or one JSON file. What rows are is seen from the first: 784 numbers
    are an image (FEMNIST), other numbers are features (synthetic), names of files are images (CelebA; images: their folder, side: their new size), a text
    with one character to be foretold is Shakespeare, a tweet Sent140 (hashed words; length, vocabulary), lists of tokens Reddit (next words in rows of
    `length`, `vocabulary` most frequent ones). least: users with fewer rows are left out. AtollError for anything that is not so.
    """
    if isinstance(least, bool) or not isinstance(least, int) or least < 2:
        raise AtollError(f"least={least!r} must be a whole number of at least 2: a client needs a row to train and one to test.")
    if path is None:
        raise AtollError("Source leaf needs a folder: give path=FOLDER (--path FOLDER), that of a dataset prepared with LEAF.")
    folder = Path(path).expanduser()
    kind, converted = "", None
    for piece in _pieces(folder):
        if converted is None:
            kind = kind_of(piece.x[0], piece.y[0], piece.where)
            converted = KINDS[kind](images=images, side=side, length=length, vocabulary=vocabulary)
        converted.add(piece.user, piece.part, piece.x, piece.y, piece.where)
    if converted is None:
        raise AtollError(f"{folder} has no rows.")
    rows = converted.finish()
    names, owner = np.unique(rows.user, return_inverse=True)
    part = rows.part if _by_sample(owner, rows.part) else np.full(len(owner), FREE, np.int8)
    kept, stays = _large_enough(owner, part, len(names), least)
    if not stays.any():
        raise AtollError(f"{folder}: no user has {least} rows, one to train and one to test among them.")
    number = np.cumsum(stays) - 1
    split = bool((part != FREE).any())
    if (part == VALIDATION).any():  # the source has its own validation rows (Reddit), so that none are taken of these
        part = np.where(part == FREE, TRAIN, part).astype(np.int8)
    how = "its own splits" if split else "not split, or by user: test users are clients like others"
    line = f"LEAF {kind} {folder}: {int(kept.sum()):,} rows of {int(stays.sum()):,} users ({int((~stays).sum()):,} with too few are left out), {how}"
    return Table(
        name=f"leaf {kind}",
        x=rows.x[kept],
        y=rows.y[kept],
        labels=rows.labels,
        owner=number[owner[kept]],
        names=tuple(str(name) for name in names[stays]),
        by=rows.by,
        scale=rows.scale,
        part=part[kept] if split else None,
        fixed="LEAF has set test rows apart already" if split else "",
        history=(line, *((rows.note,) if rows.note else ())),
    )


def _by_sample(owner: np.ndarray, part: np.ndarray) -> bool:
    """Whether test rows are of users that have other rows too. Where LEAF split by user they are not."""
    return bool(np.isin(owner[part == TEST], owner[part == FREE]).any())


def _large_enough(owner: np.ndarray, part: np.ndarray, users: int, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Which rows and which users stay, bool [rows] and [users]."""
    n, free, tests = (np.bincount(owner[rows], minlength=users) for rows in (slice(None), part == FREE, part == TEST))
    stays = n >= least
    if tests.any():
        stays &= (free >= 1) & (tests >= 1)
    return stays[owner], stays


def _pieces(folder: Path) -> Iterator[Piece]:
    for file, part in _files(folder):
        try:
            content = json.loads(file.read_bytes())
            users, data = content["users"], content["user_data"]
            found = [(str(user), data[user]["x"], data[user]["y"]) for user in users]
        except (ValueError, KeyError, TypeError, OSError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else said(error)
            raise AtollError(f"{file} is not a LEAF file with users and user_data, each of them with x and y: {reason}.") from None
        for user, x, y in found:
            if not isinstance(x, list) or not isinstance(y, list) or len(x) != len(y):
                raise AtollError(f"{file}: x and y of user {user!r} must be lists of one length.")
            if x:
                yield Piece(user, part, x, y, f"{file}, user {user!r}")


def _files(folder: Path) -> list[tuple[Path, int]]:
    """JSON files, and the part that their rows are."""
    if folder.is_file():
        return [(folder, FREE)]
    if not folder.is_dir():
        raise AtollError(f"There is no folder {folder}.")
    inside = next((f for f in (folder, folder / "data") if (f / "train").is_dir() and (f / "test").is_dir()), None)
    if inside is not None:
        found = [(file, part) for split, part in SPLITS.items() if (inside / split).is_dir() for file in sorted((inside / split).glob("*.json"))]
    else:
        places = [f / name for f in (folder, folder / "data") for name in UNSPLIT]
        where = next((place for place in places if place.is_dir() and any(place.glob("*.json"))), folder)
        found = [(file, FREE) for file in sorted(where.glob("*.json"))]
    if not found:
        raise AtollError(f"{folder} has no JSON files, neither itself nor in train/ and test/, nor in {', '.join(f'{name}/' for name in UNSPLIT)}.")
    return found
