"""Who says what in a play as plain text: speeches by speaker."""

from __future__ import annotations

import re
from collections import Counter

# Stage directions stand in brackets; an empty line ends one that nobody closed.
DIRECTION = re.compile(r"\[(?:[^\[\]\n]|\n(?!\s*\n))*\]?")
# One to four words that begin as a name does, alone on a line ("ALONSO.", "Ber.", "First Lord"), or before what is said ("HELENA. Most noble Diomed, ...").
WORD = r"[A-Z][A-Za-z'\u2019\-]*\.?"
NAME = rf"{WORD}(?: (?:(?:of|OF|and|AND) )?{WORD}){{0,3}}"
ALONE = re.compile(rf"\s{{0,4}}({NAME})\s*")
BEFORE = re.compile(rf"\s{{0,4}}({NAME})[.:] +(\S.*)")
NO_NAME = re.compile(r"(ACT|SCENE|PROLOGUE|EPILOGUE|THE END|FINIS|EXEUNT|EXIT|ENTER|DRAMATIS|SONG|INDUCTION|CHORUS OF)\b", re.IGNORECASE)
END = re.compile(r"(ACT|SCENE|THE END|FINIS)\b", re.IGNORECASE)
OFTEN = 2  # headings after which a line is taken for a name: a cry ("Holla!") or a line of a song stands alone once


def speeches(text: str) -> dict[str, list[str]]:
    """Speaker, in capitals -> what he says, speech by speech, in the play's order. What stands before the first act or the first name is left out.

    A name is a line of its own after an empty line that heads speeches more than once; with it known, it may also stand before the words.
    """
    lines = DIRECTION.sub("", text.replace("\r", "")).split("\n")
    lines = lines[next((i for i, line in enumerate(lines) if END.match(line.strip())), 0) :]  # before the first act stands the title, often a name too
    headings = [_heading(lines, i) for i in range(len(lines))]
    names = {name for name, times in Counter(name for name in headings if name).items() if times >= OFTEN}
    said: dict[str, list[str]] = {}
    speaker, words = "", list[str]()

    def close() -> None:
        speech = " ".join(" ".join(words).split())
        if speaker and speech:
            said.setdefault(speaker, []).append(speech)
        words.clear()

    for line, heading in zip(lines, headings, strict=True):
        before = BEFORE.fullmatch(line)
        if heading in names:
            close()
            speaker = heading
        elif before and _clean(before[1]) in names:
            close()
            speaker = _clean(before[1])
            words.append(before[2])
        elif END.match(line.strip()):
            close()
            speaker = ""
        else:
            words.append(line)
    close()
    return said


def _heading(lines: list[str], i: int) -> str:
    """The name that line i consists of, "" where it is none: words follow it, and an empty line (or the beginning) comes before it."""
    line = lines[i].strip()
    found = ALONE.fullmatch(lines[i])
    if not found or NO_NAME.match(line):
        return ""
    # A direction beside or below the name leaves space where it was cut out.
    follows = any(after.strip() for after in lines[i + 1 : i + 3])
    return _clean(found[1]) if follows and (i == 0 or not lines[i - 1].strip() or (line.isupper() and line.endswith("."))) else ""


def _clean(name: str) -> str:
    return name.strip(" .").upper()
