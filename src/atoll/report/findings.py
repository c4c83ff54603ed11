"""What the numbers of one run mean, in sentences: the verdict, warnings that must not be overlooked, and footnotes that say how to read the table."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from atoll import metrics
from atoll.metrics import Paired
from atoll.report import words
from atoll.report.differences import benign
from atoll.report.digest import Digest
from atoll.report.identities import read_identities, warnings_of

ONE_RUN = "One run with one seed: whether a difference would come back with another seed or split is not known from it."


@dataclass(frozen=True)
class Verdict:
    """One line, and what stands behind it."""

    line: str
    details: list[str]


def verdict(d: Digest) -> Verdict:
    """The method that is best on validation rows against FedAvg+FT and Local on test rows."""
    best = d.best()
    if best is None:
        first = d.best(baselines=True)
        if first is None:
            return Verdict("No method has a result.", [])
        return Verdict(f"Only baselines have results; the best of them on validation rows is {first} with {_score(d, first)}.", [ONE_RUN])
    rivals = [r for r in (d.run.reference("FedAvg+FT") or d.run.reference("FedAvg"), d.run.reference("Local")) if r in d.methods]
    against = [(rival, pair) for rival in rivals if (pair := metrics.paired(d.scores, best, str(rival), regression=d.regression))]
    if not against:
        return Verdict(f"{best} is the best method on validation rows, with {_score(d, best)} on test rows; no baseline to compare it with.", [ONE_RUN])
    line = f"{best} is {' and '.join(_difference(d, str(rival), pair) for rival, pair in against)}"
    harmed = d.value(best, "hurt_local")
    line += "." if harmed is None else f"; {_harm(d, harmed)}."
    first = f"{best} was picked among the methods by its validation score; it has {_score(d, best)} on test rows."
    return Verdict(line, [first, *(_pairing(d, str(rival), pair) for rival, pair in against), *_room(d), ONE_RUN])


def warnings(d: Digest) -> list[str]:
    """What a reader must know before believing the table; most serious first."""
    return [*_refused(d), *_diverged(d), *mistaken(d), *_unfinished(d), *_trivial(d), *_same(d), *_unhelpful(d), *_untrained(d)]


def footnotes(d: Digest) -> list[str]:
    """How to read the table."""
    what = "mean loss" if d.regression else "accuracy"
    late = [m for m, at, last in d.chosen.filter(pl.col("method").is_in(d.methods)).select("method", "round", "last").iter_rows() if at == last and at > 0]
    notes = [
        f"Round: the one with the best sample-weighted validation {what} of the personal models of seen clients, of equal ones the earliest. "
        "Test rows take no part.",
        "Quality is measured on test rows. Hurt: share of seen clients strictly worse off, each at the round that counts for its method.",
        "Traffic per round: of a client that takes part. FLOPs, state: per client. Bold: the best of a column; of costs, among methods that communicate.",
    ]
    if d.run.changes:
        last = d.run.settled
        notes.append(
            f"The data change while clients train. Scores are of the rows that clients have from round {last} on, and the round that counts is one of these; "
            f"over time: mean {what} over all rounds scored, each on the rows of its time."
        )
    notes += benign(d)
    if late:
        notes.append(f"Still best at the last round, so more rounds may help: {words.some(late, 8)}.")
    return notes


def _score(d: Digest, method: str) -> str:
    value = d.value(method, d.unit)
    return f"mean loss {words.loss(value)}" if d.regression else f"{words.share(value)} accuracy"


def _difference(d: Digest, rival: str, pair: Paired) -> str:
    size = abs(pair.weighted)
    text = words.loss(size) if d.regression else words.percent(size)
    if size == 0 or text == "0.0":
        return f"level with {rival}"
    side = "better" if pair.weighted > 0 else "worse"
    if d.regression:
        base = d.value(rival, "loss")
        relative = f" ({100 * size / base:.1f} %)" if base else ""
        return f"{side} than {rival} by {text} of mean loss{relative}"
    return f"{text} points {side} than {rival}"


def _harm(d: Digest, harmed: float) -> str:
    total = int(d.value(d.best(), "clients") or 0)
    n = round(harmed * total)
    if n == 0:
        return "no client is worse off with it than alone"
    return f"{n} of {words.number(total, 'client')} ({words.share(harmed)}) {'is' if n == 1 else 'are'} worse off with it than alone"


def _pairing(d: Digest, rival: str, pair: Paired) -> str:
    scale, digits, unit = (1.0, ".3g", "") if d.regression else (100.0, ".1f", " points")
    text = f"Against {rival}, client by client: better for {pair.better}, equal for {pair.equal}, worse for {pair.worse}; "
    text += f"mean gain {scale * pair.mean:+{digits}}"
    if pair.clients == 1:
        text += unit
    else:
        text += f" ± {scale * pair.error:{digits}}{unit} (standard error over clients)"
        if abs(pair.mean) < 2 * pair.error:
            text += ", so clients do not agree enough to tell it from none"
    return text + "."


def _room(d: Digest) -> list[str]:
    """What is left to gain over the best baseline; a loss has no such bound."""
    first = d.best(baselines=True)
    reached = None if d.regression else d.value(first, d.unit)
    if reached is None:
        return []
    return [f"{first}, the best baseline on validation rows, has {words.share(reached)}, so that at most {words.percent(1 - reached)} points are to be gained."]


def _refused(d: Digest) -> list[str]:
    return [f"{name} is left out: {why}" for name, why in d.run.refused.items()]


def _diverged(d: Digest) -> list[str]:
    found = []
    for name in d.run.diverged:
        entry = d.run.status[name]
        why = f": {entry['why']}" if entry.get("why") else ""
        found.append(f"{name} diverged at round {entry['round']}{why}. It has no result; a smaller learning rate may help.")
    return found


def mistaken(d: Digest) -> list[str]:
    """Identities that were checked with the run and fail."""
    found = read_identities(d.run.folder)
    return [] if found is None else [f"An identity fails: {text}" for text in warnings_of(found)]


def _unfinished(d: Digest) -> list[str]:
    rows = d.table.filter(pl.col("state").is_in(["running", "waiting"]))
    return [f"{name}: {note}. Its numbers are not final; `atoll resume` continues the run." for name, note in rows.select("method", "note").iter_rows()]


def _trivial(d: Digest) -> list[str]:
    """Majority or Local as good as the best method, FedAvg+FT among them: then the data, or the training, can't tell methods apart."""
    rivals = d.table.filter(~pl.col("baseline") | pl.col("method").str.starts_with("FedAvg+FT")).drop_nulls(d.unit)
    rows = rivals.sort(d.unit, descending=not d.regression, maintain_order=True)
    if rows.is_empty():
        return []
    top, best = rows["method"][0], rows[d.unit][0]
    found = []
    for title, meaning in (("Majority", "a constant answer per client does as well"), ("Local", "federation brought nothing here")):
        baseline = d.run.reference(title)
        value = d.value(baseline, d.unit)
        if value is not None and (value <= best if d.regression else value >= best):
            found.append(f"{baseline} ({_score(d, str(baseline))}) is at least as good as every method (best: {top}, {_score(d, top)}): {meaning}.")
    return found


def _same(d: Digest) -> list[str]:
    alike = metrics.coincide(d.run.clients.filter(pl.col("method").is_in(d.methods)))
    return [f"{words.some(list(group))} coincide exactly for every client: a part in which they differ may be switched off." for group in alike]


def _unhelpful(d: Digest) -> list[str]:
    learns = ~pl.col("baseline") | pl.col("method").str.starts_with("FedAvg+FT")  # fine-tuning alone is training, but not of the model that all share
    rows = d.table.filter(learns & (pl.col("round") == 0)).drop_nulls(d.unit)["method"].to_list()
    return [f"{words.some(rows)}: best before training, so training did not help."] if rows else []


def _untrained(d: Digest) -> list[str]:
    rows = d.table.drop_nulls("never_trained").filter((pl.col("never_trained") > 0) & (pl.col("round") > 0)).select("method", "never_trained", "clients")
    groups: dict[tuple[int, int], list[str]] = {}
    for name, n, total in rows.iter_rows():
        groups.setdefault((n, total), []).append(name)
    return [
        f"{n} of {words.number(total, 'seen client')} had never trained with {words.some(names)} by the round that counts; "
        "they count with what they had at first contact."
        for (n, total), names in groups.items()
    ]
