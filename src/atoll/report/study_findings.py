"""What a study found, in sentences: who wins where, where personalization does not pay, and what must be known before believing it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from atoll import metrics
from atoll.metrics import Difference
from atoll.report import words
from atoll.report.findings import mistaken
from atoll.report.study_results import CellResult, StudyResults
from atoll.report.tuning import read_tuning

DEARER = 1.5  # computing so many times as much as FedAvg+FT is worth a warning


@dataclass(frozen=True)
class Gap:
    """One method against another in a cell, on test rows; positive: the first is better. `unit` is what the bootstrap resamples."""

    student: Difference  # over seeds; infinite bounds for one seed
    bootstrap: Difference
    unit: str

    @property
    def interval(self) -> Difference:
        """Student's over seeds; with one seed, that over resampled clients."""
        return self.student if self.unit == "seeds" else self.bootstrap

    @property
    def clear(self) -> int:
        """1, -1 or 0: the interval lies above 0, below 0, or neither."""
        return int(self.interval.low > 0) - int(self.interval.high < 0)


def gap(cell: CellResult, method: str, rival: str) -> Gap | None:
    """None where no seed has both."""
    a, b = cell.scores(method), cell.scores(rival)
    both = np.isfinite(a) & np.isfinite(b)
    if not both.any():
        return None
    any_run = next(iter(cell.digests.values()))
    first, second = a[both].tolist(), b[both].tolist()
    student = metrics.repeated(first, second, regression=any_run.regression)
    if len(first) > 1:
        return Gap(student, metrics.resampled_seeds(first, second, regression=any_run.regression), "seeds")
    d = next(d for d, there in zip(cell.digests.values(), both, strict=True) if there)
    clients = metrics.resampled_clients(d.scores, method, rival, regression=d.regression)
    return None if clients is None else Gap(student, clients, "clients")


def overall(results: StudyResults, method: str, rival: str) -> Difference | None:
    """One method against another over the cells in which both have scores: means over cells, paired seed by seed, with Student's interval over seeds.

    None where there is no such cell, or no seed with scores in all of them. Infinite bounds for one seed.
    """
    cells = [cell for cell in results.cells if (np.isfinite(cell.scores(method)) & np.isfinite(cell.scores(rival))).any()]
    if not cells:
        return None
    a, b = results.by_seed(method, cells), results.by_seed(rival, cells)
    both = np.isfinite(a) & np.isfinite(b)
    return metrics.repeated(a[both].tolist(), b[both].tolist(), regression=results.regression) if both.any() else None


def rivals(results: StudyResults) -> list[str]:
    """The baselines that every method is held against, where the study has them."""
    return [name for name in ("FedAvg+FT", "Local") if name in results.methods]


def best(results: StudyResults) -> str | None:
    """The method, not a baseline, with the best mean rank over cells by validation scores: test rows have no say."""
    names = [name for name in results.methods if name not in results.baselines]
    if not names:
        return None
    column = f"validation_{results.any.unit}"
    scores = np.array([[np.mean(cell.scores(name, column)) for name in names] for cell in results.cells])
    return None if np.isnan(scores).all() else names[int(np.argmin(metrics.ranks(scores, regression=results.regression).mean(axis=0)))]


def verdict(results: StudyResults) -> list[str]:
    """The best method by validation rows against FedAvg+FT and Local on test rows, over cells."""
    top = best(results)
    if top is None:
        return ["The study has baselines only."]
    cells = words.number(len(results.cells), "cell")
    gaps = {rival: [g for cell in results.cells if (g := gap(cell, top, rival))] for rival in rivals(results)}
    means = {rival: d for rival in gaps if (d := overall(results, top, rival))}
    line = f"{top}, the best method by validation scores over {cells},"
    line += f" is on test rows {' and '.join(_beside(results, rival, d) for rival, d in means.items())}, on average." if means else " has no rival here."
    found = [line]
    for rival in means:
        better, worse = (sum(g.clear == sign for g in gaps[rival]) for sign in (1, -1))
        found.append(f"Against {rival} it is clearly better in {better} and clearly worse in {worse} of {words.number(len(gaps[rival]), 'cell')}.")
    about = "Best: the best mean rank over cells, baselines aside; test rows have no say in it. Clear: the 95 % interval does not hold 0."
    over = any(np.isfinite(d.low) for d in means.values())
    return [*found, about + (" In brackets: 95 % intervals of the mean over cells (Student's, over seeds; positive is better)." if over else "")]


def _beside(results: StudyResults, rival: str, d: Difference) -> str:
    """How much better or worse than a rival."""
    side = "better" if d.mean > 0 else "worse"
    scale, digits = (1.0, ".3g") if results.regression else (100.0, ".1f")
    bounds = f" [{scale * d.low:+{digits}}, {scale * d.high:+{digits}}]" if np.isfinite(d.low) else ""
    if results.regression:
        return f"{side} than {rival} by {words.loss(abs(d.mean))} of mean loss{bounds}"
    size = words.percent(abs(d.mean))
    return f"level with {rival}{bounds}" if size == "0.0" else f"{size} points {side} than {rival}{bounds}"


def warnings(results: StudyResults) -> list[str]:
    """Most serious first."""
    return [*_missing(results), *_refused(results), *_diverged(results), *_mistaken(results), *_trivial(results), *_same(results), *_budgets(results)]


def crossings(results: StudyResults, values: list[str], scores: dict[str, np.ndarray]) -> list[tuple[float, str]]:
    """Where Local and FedAvg change places along a swept axis: (position between its values, counted from 0; a sentence).

    scores: method -> mean score at each value.
    """
    if "Local" not in scores or "FedAvg" not in scores:
        return []
    lead = (scores["Local"] - scores["FedAvg"]) * (-1.0 if results.regression else 1.0)
    found = []
    for i in range(len(lead) - 1):
        a, b = lead[i], lead[i + 1]
        if np.isfinite([a, b]).all() and a * b < 0:
            first, second = ("Local", "FedAvg") if a > 0 else ("FedAvg", "Local")
            found.append((i + a / (a - b), f"{first} is better than {second} at {values[i]}, {second} better than {first} at {values[i + 1]}."))
    return found


def winners(results: StudyResults, values: list[str], scores: dict[str, np.ndarray]) -> list[str]:
    """Values at which Majority, Local or FedAvg is at least as good as every method, FedAvg+FT among them: there personalization does not pay."""
    sign = -1.0 if results.regression else 1.0
    others = [name for name in scores if name not in results.baselines or name.startswith("FedAvg+FT")]
    found = []
    for title, meaning in (("Majority", "a constant answer does"), ("Local", "federation brings nothing"), ("FedAvg", "one common model does")):
        if title in scores and others:
            top = np.max([np.where(np.isnan(scores[name]), -np.inf, sign * scores[name]) for name in others], axis=0)
            at = [value for value, own, theirs in zip(values, sign * scores[title], top, strict=True) if own >= theirs]
            found += [f"{title} is at least as good as every method at {words.some(at)}: {meaning} there."] if at else []
    return found


def _missing(results: StudyResults) -> list[str]:
    if not results.missing:
        return []
    many = words.number(len(results.missing), "run")
    return [f"{many} not finished or failed, and left out: {words.some(results.missing)}. `atoll study` goes on with them."]


def _refused(results: StudyResults) -> list[str]:
    found: dict[str, dict[str, str]] = {}  # method -> cell -> why
    for cell in results.cells:
        for d in cell.digests.values():
            for name, why in d.run.refused.items():
                found.setdefault(name, {})[cell.cell.title] = why
    return [f"{name} is left out of {words.some(list(where))}: {next(iter(where.values()))}" for name, where in found.items()]


def _diverged(results: StudyResults) -> list[str]:
    found: dict[str, list[str]] = {}
    for cell in results.cells:
        for seed, d in cell.digests.items():
            for name in d.run.diverged:
                found.setdefault(name, []).append(f"{cell.cell.title}, seed {seed}")
    return [f"{name} diverged in {words.some(where)}. It ranks last there; a smaller learning rate may help." for name, where in found.items()]


def _mistaken(results: StudyResults) -> list[str]:
    return list(dict.fromkeys(text for cell in results.cells for d in cell.digests.values() for text in mistaken(d)))


def _trivial(results: StudyResults) -> list[str]:
    titles = [cell.cell.title for cell in results.cells]
    means = results.means()
    return winners(results, titles, {name: means[:, n] for n, name in enumerate(results.methods)})


def _same(results: StudyResults) -> list[str]:
    found: dict[tuple[str, ...], int] = {}
    runs = [d for cell in results.cells for d in cell.digests.values()]
    for d in runs:
        for group in metrics.coincide(d.run.clients.filter(pl.col("method").is_in(d.methods))):
            found[group] = found.get(group, 0) + 1
    of = words.number(len(runs), "run")
    told = "a part in which they differ may be switched off"
    return [f"{words.some(list(group))} coincide exactly for every client in {n} of {of}: {told}." for group, n in found.items()]


def _budgets(results: StudyResults) -> list[str]:
    """What methods compute beside FedAvg+FT, and trials of tuning."""
    found = []
    rival = next((name for name in ("FedAvg+FT", "FedAvg") if name in results.methods), None)
    if rival:
        dearer = []
        for name in results.methods:
            costs = np.concatenate([np.array([cell.scores(name, "flops_client"), cell.scores(rival, "flops_client")]) for cell in results.cells], axis=1)
            own, theirs = costs[:, np.isfinite(costs).all(axis=0)].sum(axis=1)
            dearer += [f"{name} ({own / theirs:.1f} times)"] if theirs > 0 and own > DEARER * theirs else []
        found += [f"Budgets are unequal: per client, {words.some(dearer, 12)} compute{'s' if len(dearer) == 1 else ''} as much as {rival}."] if dearer else []
    told = read_tuning(results.folder)
    if told:
        trials = {one["method"]: one["trials"] for one in told["methods"] if one["space"]}
        lone = [name for name in results.methods if name not in trials and name != "Majority"]
        found += [f"Tuning was unequal: {words.some(lone)} had no trials, and others had."] if lone else []
    return found
