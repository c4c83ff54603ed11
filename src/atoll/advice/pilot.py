"""A pilot: candidates trained on one split of a federation, each with the same few learning rates, and what became of it on validation and test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from atoll.advice.candidates import Candidate
from atoll.core.errors import AtollError
from atoll.data.federation import Federation
from atoll.data.sheet import split_hash
from atoll.report.digest import Digest, digest
from atoll.report.run import open_run
from atoll.study.run import Plan, Watcher, execute, make_plan, split_of
from atoll.study.spec import MethodSpec, Spec, to_toml

BATCH = 10
COSTS = ("round", "bytes_round", "bytes_chosen", "flops_client", "state_client", "seconds", "sim_seconds")
ROWS = 20_000  # of all clients together that a pilot looks at
CLIENTS = 300  # natural clients at most


@dataclass(frozen=True)
class Outcome:
    """A candidate on one split, with the learning rate and at the round that are best on its validation rows."""

    candidate: Candidate
    rate: float | None
    validation: float  # accuracy, or mean loss
    late: bool  # it was still best at the last round
    totals: np.ndarray  # [seen clients] rows right, or losses, on test rows
    costs: dict[str, float | None]  # COSTS


@dataclass(frozen=True)
class Pilot:
    """What one split gave."""

    folder: Path
    rows: np.ndarray  # [seen clients] test rows
    outcomes: dict[str, Outcome]  # by the candidate's name; those that diverged at every rate are missing
    regression: bool

    def best(self, *roles: str) -> Outcome | None:
        """The outcome of these roles that is best on validation rows, of equal ones the first."""
        there = [one for one in self.outcomes.values() if one.candidate.role in roles]
        return (min if self.regression else max)(there, key=lambda one: one.validation, default=None)


def planned(spec: Spec, candidates: Sequence[Candidate], rates: Sequence[float], federation: Federation) -> Plan:
    """The run of all candidates, those that have a learning rate at every rate."""
    asked = []
    for one in candidates:
        for rate in rates if one.rated else (None,):
            asked.append(MethodSpec(name=one.name, settings=one.settings if rate is None else {**one.settings, "lr": rate}))
    return make_plan(spec.model_copy(update={"methods": tuple(asked), "settings": {"batch": BATCH}, "baselines": False}), federation)


def carry_out(plan: Plan, candidates: Sequence[Candidate], folder: Path, watcher: Watcher | None, command: str) -> Pilot:
    """Trains, from the start or from where it was stopped, and looks. AtollError where the folder holds another pilot; Interrupted as in `execute`."""
    _check_the_same(plan, folder)
    execute(plan, folder, watcher, command)
    d = digest(open_run(folder))
    titles: dict[str, list[tuple[str, float | None]]] = {}
    for entry in plan.entries:
        titles.setdefault(entry.spec.name, []).append((entry.title, entry.spec.settings.get("lr")))
    found = {one.name: outcome for one in candidates if (outcome := _outcome(d, one, titles[one.name], plan.federation)) is not None}
    return Pilot(folder, np.asarray(plan.federation.count["test"][: plan.federation.seen]), found, d.regression)


def _check_the_same(plan: Plan, folder: Path) -> None:
    """Refuses to go on with a pilot of another question, or of data that have changed since."""
    held = folder / "spec.toml"
    if not held.exists():
        return
    if held.read_text(encoding="utf-8") != to_toml(plan.spec) or split_of(folder) != split_hash(plan.federation):
        raise AtollError(f"{folder} holds a pilot of another question, or of data that have changed since. Choose another folder.")


def _outcome(d: Digest, candidate: Candidate, titles: list[tuple[str, float | None]], fed: Federation) -> Outcome | None:
    rates = dict(titles)
    rows = d.chosen.filter(pl.col("method").is_in(list(rates)) & pl.col("validation").is_not_null())
    if rows.is_empty():
        return None
    best = rows.sort("validation", descending=not d.regression, maintain_order=True).row(0, named=True)
    title = best["method"]
    scores = d.scores.filter(pl.col("method") == title)
    totals = np.zeros(fed.seen)
    totals[scores["client"].to_numpy()] = scores["total"].to_numpy()
    costs = {name: d.value(title, name) for name in COSTS}
    return Outcome(candidate, rates[title], best["validation"], bool(best["round"] == best["last"] > 0), totals, costs)


def smaller(spec: Spec, fed: Federation) -> tuple[Spec, str]:
    """The specification of a pilot that takes minutes, and what was left out in a sentence ("" where nothing was).

    Natural clients are left out whole, as long as there are many; else rows are drawn from all clients in proportion.
    """
    rows = sum(int(n.sum()) for n in fed.count.values())
    clients = len(fed.names)
    natural = not spec.data.skew and fed.names[0] != "client 0"
    kept = min(CLIENTS, max(30, int(ROWS * clients / rows)))
    changes: dict[str, int] = {}
    notes = []
    if natural and clients > kept:
        changes["clients"] = kept
        notes.append(f"The pilot looked at {kept} of {clients} clients, drawn at random.")
        rows = round(rows * kept / clients)
    if rows > 2 * ROWS:
        changes["limit"] = ROWS
        notes.append(f"The pilot looked at {ROWS:,} rows at most: with all of them each client knows more by itself, and gains may differ.")
    if not changes:
        return spec, ""
    return spec.model_copy(update={"data": spec.data.model_copy(update=changes)}), " ".join(notes)


def same_tests(a: Federation, b: Federation) -> bool:
    """Whether clients have the same test rows in both, as where the source says which they are."""
    first = [int(one.start["test"][0]) for one in (a, b)]
    return np.array_equal(a.x[first[0] :], b.x[first[1] :]) and np.array_equal(a.y[first[0] :], b.y[first[1] :])


def benign(pilot: Pilot, fed: Federation) -> Pilot:
    """Without the clients that are known to attack: what they get out of it is nobody's concern."""
    if fed.attackers is None:
        return pilot
    kept = ~np.asarray(fed.attackers[: fed.seen])
    found = {name: replace(one, totals=one.totals[kept]) for name, one in pilot.outcomes.items()}
    return replace(pilot, rows=pilot.rows[kept], outcomes=found)
