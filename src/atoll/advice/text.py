"""An answer in words: for readers who know their data and have not heard of personalized federated learning."""

from __future__ import annotations

import math

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from atoll.advice.judge import FEW, Gain, more_rows
from atoll.advice.result import Advice, Line
from atoll.methods import TABLE
from atoll.report import words

ROLES = {
    "trivial": "always each client's most frequent label",
    "alone": "each client by itself",
    "pooled": "all rows in one place",
    "common": "one model for all",
    "tuned": "one model for all, which each client trains on for itself",
}
KINDS = {"quantity": "how many rows they have", "labels": "which labels they have", "features": "what their inputs look like",
         "preference": "what they call like inputs", "attack": "attackers"}  # fmt: skip


def print_advice(a: Advice, console: Console) -> None:
    """The answer, why, the evidence, what it costs, what is uncertain, and what to run next."""
    first, *others = paragraphs(a)
    console.print(f"[bold]{escape(first)}[/]", highlight=False)
    for text in others:
        console.print(f"\n{escape(text)}", highlight=False)
    if a.differences.measures:
        console.print(f"\n[bold]How clients differ[/]{'' if a.epsilon is None else ', from noised counts alone'}")
        console.print(_measured(a))
    console.print("\n[bold]Evidence[/]")
    console.print(_evidence(a))
    console.print(f"\n[bold]What it costs[/] (a client that takes part in all of the pilot's {a.rounds} rounds)")
    console.print(_costs(a))
    if a.notes:
        console.print("\n[bold]Mind[/]")
    for text in a.notes:
        console.print(f"- {escape(text)}", highlight=False)
    console.print("\n[bold]Next[/]")
    console.print(escape(a.command), highlight=False, soft_wrap=True)
    console.print(f"Report: {escape(str(a.folder / 'report.html'))}", highlight=False, soft_wrap=True)


def paragraphs(a: Advice) -> list[str]:
    """The answer in a sentence; what it rests on; how clients differ."""
    return [answer(a), _because(a), _differ(a)]


def answer(a: Advice) -> str:
    """One sentence or two."""
    g = a.gains
    if a.verdict.kind == "personalize":
        method = a.line(a.recommended)
        how = "Fine-tuning the common model (FedAvg+FT) is enough" if a.verdict.simple else f"Best so far: {method.title} ({method.family})"
        if not a.verdict.simple and method.role != "tuned" and not g.tuned.shown:
            how += ", though not shown to be better than simply fine-tuning the common model (FedAvg+FT)"
        return f"Personalize: it brings {_gain(a, g.common)} over the best common model, and {_gain(a, g.alone)} over training alone. {how}."
    if a.verdict.kind == "common":
        return f"Don't personalize: one common model ({a.common}) serves as well. Personal models bring {_gain(a, g.common)} over it."
    if a.verdict.kind == "alone":
        more = f"Models of their own, yes, but each client trained on its own rows alone: that brings {_gain(a, g.split)} over the best common model"
        if not g.split.shown:
            more = f"Clients should have models of their own ({_gain(a, g.common)} over the best common model), but training each alone does as well"
        return f"{more}. Federating them is not shown to add to that: {_gain(a, g.alone)}."
    said = " ".join(_unsettled(a))
    if g.common.shown:
        return f"Clients should have models of their own ({_gain(a, g.common)} over the best common model). Whether by federation can't be told yet. {said}"
    return f"It can't be told from so few rows whether to personalize. {said}"


def _unsettled(a: Advice) -> list[str]:
    said = []
    names = {"common": "the best common model", "alone": "training alone"}
    for key in a.verdict.open:
        gain: Gain = getattr(a.gains, key)
        text = f"Personal models bring {_gain(a, gain)} over {names[key]}"
        times = more_rows(gain, a.worth)
        said.append(f"{text}; about {math.ceil(times)} times as much evidence (rows or clients) would settle it." if math.isfinite(times) else f"{text}.")
    return said


def _because(a: Advice) -> str:
    picked = words.some([f"{a.line(name).title} in {n}" for name, n in a.picks.items()])
    anew = "test rows drawn anew in each" if a.drawn_anew else "all with the same test rows"
    who = "clients" if a.clients >= FEW or not a.drawn_anew or a.splits == 1 else "splits, about these clients only"
    return (
        f"Seen on {a.test_rows:,} test rows of {words.number(a.clients, 'client')} in {words.number(a.splits, 'split')} ({anew}), which took no part in any "
        f"choice: method, learning rate and round were chosen on validation rows. The best personal method there was {picked} of the splits. "
        f"In brackets: 95 % intervals, over {who}. A gain counts as shown where its interval is above 0 and all splits agree."
    )


def _differ(a: Advice) -> str:
    told = [f"{KINDS[kind]}: {word}" for kind, word in a.differences.words.items() if kind in KINDS and word in ("weak", "strong")]
    if not told and a.epsilon is not None:
        return "Clients were not found to differ beyond chance in what counts can tell: sizes, labels and inputs, but not what they call like inputs."
    if not told:
        return "Clients were not found to differ beyond chance."
    return f"How clients differ: {'; '.join(told)}."


def remarks(a: Advice, diverged: list[str]) -> list[str]:
    """What makes the answer less certain."""
    said: list[str] = []
    if not a.over_majority.shown:
        absent = a.over_majority.absent(a.worth)
        why = "these rows hardly tell what is asked for" if absent else "the rows or clients are too few to be sure, whatever the means say"
        said.append(f"Nothing that was trained is shown to beat a constant answer per client ({_gain(a, a.over_majority)}): {why}.")
    late = [one.title for one in a.lines if one.late and one.role in ("common", "alone", "tuned")]
    if late:
        said.append(f"Still improving at the pilot's end: {words.some(late)}. With more rounds (--rounds) the comparison may turn out otherwise.")
    if a.pooled is not None and a.pooled.shown and a.verdict.kind in ("personalize", "alone"):
        said.append(
            f"All rows in one place would give one model for all that is better than the best common one by {_gain(a, a.pooled)}. So the common model is held "
            "back by how it is trained, and not only by clients that need different ones: with more rounds (--rounds) the answer may change."
        )
    if diverged:
        said.append(f"Diverged at every learning rate, and left out: {words.some(diverged)}.")
    if a.differences.words.get("attack") in ("weak", "strong"):
        said.append("Clients marked as attackers train, and are left out of all scores here. None of the candidates defends against them.")
    if a.differences.words.get("quantity") == "strong":
        said.append("Sizes of clients differ much, and every row counts alike here: look in the report how small clients fare.")
    tried = {one.family for one in a.lines} | {"baseline"}
    families = list(dict.fromkeys(row.family for row in TABLE if row.family not in tried))
    return [
        *said,
        f"Families that were not tried: {words.some(families)}. One method stands for each that was, at its usual settings but for the learning rate.",
    ]


def _measured(a: Advice) -> Table:
    """Every measure with what it is by chance, and of private estimates by how much they are off."""
    private = a.epsilon is not None
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for name in ("kind", "how much", "number", "by chance", *(("from rows", "error") if private else ()), "what"):
        table.add_column(name, justify="left" if name in ("kind", "how much", "what") else "right", no_wrap=name != "what")
    before = ""
    for one in a.differences.measures:
        chance = words.DASH if one["chance"] is None else f"{one['chance']:.3f}"
        off = (f"{one['exact']:.3f}", f"{one['value'] - one['exact']:+.3f}") if private else ()
        word = f"[bold]{one['word']}[/]" if one["word"] == "strong" else one["word"]
        table.add_row("" if one["kind"] == before else one["kind"], word, f"{one['value']:.3f}", chance, *off, escape(one["name"]))
        before = one["kind"]
    return table


def _evidence(a: Advice) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    unit = "loss" if a.regression else "accuracy %"
    for name in ("", f"test {unit}", f"validation {unit}", "lr", "what it is, or why it was tried"):
        table.add_column(name, justify="left" if name in ("", "what it is, or why it was tried") else "right", no_wrap=not name.startswith("what"))
    best = words.loss if a.regression else words.percent
    for one in a.lines:
        constant = "always the mean of each client's train rows" if a.regression and one.role == "trivial" else None
        about = constant or ROLES.get(one.role) or f"{one.family}: {one.why}"
        title = f"[bold]{escape(one.title)}[/]" if one.name == a.recommended else escape(one.title)
        table.add_row(title, best(one.test), best(one.validation), "" if one.rate is None else f"{one.rate:g}", escape(about))
    return table


def _costs(a: Advice) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    simulated = any(one.costs["sim_seconds"] for one in a.lines)
    heads = ["", "traffic\nper round", "traffic to\nbest round", "FLOPs", "private\nstate", "wall time\nhere", *(["simulated\ntime"] if simulated else [])]
    for name in heads:
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for one in _compared(a):
        c = one.costs
        cells = [
            words.size(c["bytes_round"]),
            words.size(c["bytes_chosen"]),
            words.work(c["flops_client"]),
            words.size(c["state_client"]),
            words.seconds(c["seconds"]),
        ]
        table.add_row(escape(one.title), *cells, *([words.seconds(c["sim_seconds"])] if simulated else []))
    return table


def _compared(a: Advice) -> list[Line]:
    """Whose costs are shown: baselines, what is recommended, and the best personal candidate."""
    personal = [one for one in a.lines if one.role == "personal"]
    top = (min if a.regression else max)(personal, key=lambda one: one.validation, default=None)
    names = {"local", "fedavg", "fedavg-ft", a.recommended, top.name if top else ""}
    return [one for one in a.lines if one.name in names]


def _gain(a: Advice, gain: Gain) -> str:
    if a.regression:
        low, high = (("\N{INFINITY}" if math.isinf(value) else f"{value:+.3g}") for value in (gain.low, gain.high))
        return f"{gain.mean:+.3g} of mean loss saved [{low}, {high}]"
    if math.isinf(gain.high):
        return f"{100 * gain.mean:+.1f} points [no interval: too few clients and splits]"
    return f"{100 * gain.mean:+.1f} points [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
