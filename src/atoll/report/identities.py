"""Identities of methods that were checked, for the terminal and the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from atoll.report import words
from atoll.report.markup import Html, e, join
from atoll.study.verified import CANNOT, FAILS, HOLDS, NOTHING, Checked, Verification, read_verification

HEADS = ("method", "with", "is", "models", "largest difference", "result")
MARKS = {HOLDS: "\N{CHECK MARK}", FAILS: "\N{BALLOT X}"}  # beside the words, for the eye


def read_identities(folder: Path) -> Verification | None:
    """What `identities.json` in a folder says; None where there is none."""
    path = folder / "identities.json"
    return read_verification(path.read_text(encoding="utf-8")) if path.exists() else None


def print_identities(found: Verification, console: Console) -> None:
    """The table, why some could not be checked, and what it comes to."""
    table = Table(title="Identities", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for head in HEADS:
        table.add_column(head, justify="right" if head == "largest difference" else "left", overflow="fold")
    for one in found.checked:
        table.add_row(*(escape(text) for text in row(one)), style="bold yellow" if one.state == FAILS else None)
    if found.checked:
        console.print(table)
    for line in reasons(found):
        console.print(f"[dim]{escape(line)}[/]", highlight=False)
    for line in warnings_of(found):
        console.print(f"[bold yellow]! {escape(line)}[/]", highlight=False)
    console.print(escape(summary(found)), highlight=False)


def identities_table(found: Verification) -> Html:
    """The same on the page."""
    heads = e("tr", *(e("th", head, scope="col") for head in (*HEADS, "because")))
    body = [e("tr", e("th", first, scope="row"), *(e("td", text) for text in rest), e("td", one.why)) for one in found.checked for first, *rest in [row(one)]]
    table = e("div", e("table", e("thead", heads), e("tbody", *body), class_="identities"), class_="scroll", role="region", tabindex=0, aria_label="Identities")
    notes = [e("li", line) for line in reasons(found)]
    return join(e("p", says(found)), table if body else None, e("ul", *notes, class_="footnotes") if notes else None, e("p", summary(found)))


def row(one: Checked) -> tuple[str, ...]:
    """A row of the table as texts."""
    until = f", in {words.number(one.until, 'round')}" if one.until > 1 else ", in the first round" if one.until else ""
    other = " ".join([one.other, *([f"({_settings(one.partner)})"] if one.partner else [])])
    exact = ", bit for bit" if one.state == HOLDS and one.bits else ""
    apart = words.DASH if one.difference is None else f"{one.difference:.1e}" if one.difference else "0"
    return one.method, _settings(one.settings) or "defaults", other + until, one.model, apart, f"{MARKS.get(one.state, '')} {one.state}{exact}".strip()


def says(found: Verification) -> str:
    """What the table means."""
    return (
        "With the settings of a row a method is another one, by its mathematics. Both were trained on the clients, the model and the seed of this run for "
        f"{words.number(found.rounds, 'round')}, with all clients asked, and every client's validation and test scores were compared after each. Equal up to "
        f"rounding is up to {found.tolerance:g} of a client's mean loss. What fails is a mistake in a method or in the machine, and no property of the data."
    )


def summary(found: Verification) -> str:
    """How many hold."""
    states = [one.state for one in found.checked]
    if not states:
        return "There was no identity to check."
    held = [one for one in found.checked if one.state == HOLDS]
    rest = [(FAILS, "fails", "fail"), (NOTHING, "was not put to the test, as nothing was learned", "were not put to the test, as nothing was learned"),
            (CANNOT, "can't be checked here", "can't be checked here")]  # fmt: skip
    told = [f"{n} {one if n == 1 else more}" for state, one, more in rest if (n := states.count(state))]
    holds = f"{len(held)} of {words.number(len(states), 'identity', 'identities')} {'holds' if len(held) == 1 else 'hold'}"
    return "; ".join([f"{holds}, {sum(one.bits for one in held)} of them bit for bit", *told]) + "."


def warnings_of(found: Verification) -> list[str]:
    """A sentence for every identity that fails."""
    return [f"{_named(one)} should score as {_other(one)} does, and a client's mean loss differs by {one.difference:.2g}." for one in found.failed]


def reasons(found: Verification) -> list[str]:
    """Why some can't be checked, and which methods have none."""
    told: dict[str, list[str]] = {}
    for one in found.checked:
        if one.reason:
            told.setdefault(one.reason, []).append(_named(one))
    lines = [f"{words.some(names, len(names))}: {reason}" for reason, names in told.items()]
    if found.partners:
        names = words.some(list(found.partners), len(found.partners))
        lines.append(f"{names} {'are' if len(found.partners) > 1 else 'is'} what others become at some setting.")
    if found.without:
        lines.append(f"No identity is known of {words.some(list(found.without), len(found.without))}.")
    return lines


def _named(one: Checked) -> str:
    return f"{one.method} ({_settings(one.settings)})" if one.settings else one.method


def _other(one: Checked) -> str:
    return row(one)[2]


def _settings(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={f'{value:g}' if isinstance(value, float) else value}" for name, value in values.items())
