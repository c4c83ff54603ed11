"""From pilots to an answer: who stands for whom is chosen on each split's validation rows, and compared on its test rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from atoll.advice.candidates import Candidate
from atoll.advice.differences import Differences
from atoll.advice.judge import Gain, Gains, Verdict, gain, judge
from atoll.advice.pilot import COSTS, Pilot
from atoll.advice.result import Advice, Line
from atoll.advice.text import remarks
from atoll.core.errors import AtollError
from atoll.data.federation import Federation

WORTH = 0.01  # of accuracy; of a loss: as a share of the best common model's
ROLES = {"personalize": ("tuned", "personal"), "alone": ("alone",), "common": ("common",), "unclear": ("tuned",)}  # whom an answer recommends


def concluded(
    pilots: Sequence[Pilot], tried: Sequence[Candidate], fed: Federation, differ: Differences, *, drawn_anew: bool, worth: float | None, epsilon: float | None,
    model: str, rounds: int, seconds: float, note: str, folder: Path,
) -> Advice:  # fmt: skip
    """The answer, without what to run next. drawn_anew: every split has test rows of its own. AtollError where a baseline has no result."""
    regression = pilots[0].regression
    rows = np.stack([one.rows for one in pilots])
    ratio = float(fed.count["test"].sum() / fed.count["train"].sum()) if drawn_anew else None

    def best(*roles: str) -> np.ndarray:
        """Test totals [splits, clients] of the best of these roles, on each split the one that is best there on validation rows."""
        found = [one.best(*roles) for one in pilots]
        if any(one is None for one in found):
            raise AtollError(f"{fed.name}: a baseline diverged at every learning rate, so nothing can be compared. Try smaller rates (--rates 0.003,0.01).")
        return np.stack([one.totals for one in found if one is not None])

    def over(first: np.ndarray, second: np.ndarray) -> Gain:
        return gain(rows, first, second, regression=regression, ratio=ratio)

    common, alone, tuned, personal = best("common"), best("alone"), best("tuned"), best("tuned", "personal")
    gains = Gains(over(personal, common), over(personal, alone), over(alone, common), over(personal, tuned), over(tuned, common), over(tuned, alone))
    least = (WORTH if worth is None else worth) * (float(common.sum() / rows.sum()) if regression else 1.0)
    verdict = judge(gains, least)
    lines = tuple(_line(one, pilots) for one in tried if all(one.name in pilot.outcomes for pilot in pilots))
    there = {one.name for one in lines}
    made = Advice(
        verdict=verdict,
        recommended=_recommended(verdict, lines, regression),
        gains=gains,
        over_majority=over(best("common", "alone", "tuned", "personal"), best("trivial")),
        pooled=over(best("pooled"), common) if "pooled" in there else None,
        lines=lines,
        picks=_picks(pilots, "tuned", "personal"),
        common=next(one.title for one in tried if one.name == next(iter(_picks(pilots, "common")))),
        differences=differ,
        epsilon=epsilon,
        data=fed.name,
        model=model,
        clients=rows.shape[1],
        test_rows=int(rows.sum()),
        splits=len(pilots),
        drawn_anew=drawn_anew,
        rounds=rounds,
        worth=least,
        regression=regression,
        seconds=seconds,
        notes=(),
        command="",
        folder=folder,
    )
    own = [text for text in (differ.note, note) if text]
    return replace(made, notes=(*own, *remarks(made, [one.title for one in tried if one.name not in there])))


def _picks(pilots: Sequence[Pilot], *roles: str) -> dict[str, int]:
    """In how many splits each method of these roles was the best on validation rows, most often first."""
    return dict(Counter(best.candidate.name for one in pilots if (best := one.best(*roles)) is not None).most_common())


def _recommended(verdict: Verdict, lines: Sequence[Line], regression: bool) -> str:
    """The method to use: of several the one with the best mean validation score."""
    roles = ("tuned",) if verdict.simple else ROLES[verdict.kind]
    return (min if regression else max)((one for one in lines if one.role in roles), key=lambda one: one.validation).name


def _line(candidate: Candidate, pilots: Sequence[Pilot]) -> Line:
    found = [one.outcomes[candidate.name] for one in pilots]
    costs: dict[str, float | None] = {}
    for name in COSTS:
        known = [value for one in found if (value := one.costs[name]) is not None]
        costs[name] = float(np.mean(known)) if known else None
    return Line(
        name=candidate.name,
        title=candidate.title,
        family=candidate.family,
        role=candidate.role,
        why=candidate.why,
        validation=float(np.mean([one.validation for one in found])),
        test=float(sum(one.totals.sum() for one in found) / sum(one.rows.sum() for one in pilots)),
        rate=Counter(one.rate for one in found).most_common(1)[0][0],
        late=sum(one.late for one in found) > len(found) / 2,
        costs=costs,
    )
