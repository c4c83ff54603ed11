"""How clients differ, kind by kind in a word: what candidates are chosen by."""

from __future__ import annotations

from typing import Any, NamedTuple

from atoll.data.federation import Federation
from atoll.metrics.heterogeneity import heterogeneity

RANK = {"": 0, "none": 1, "weak": 2, "strong": 3}
STEPS = {  # of private estimates: their kind, and how far beyond chance is more than nothing, and is strong; as with access to rows
    "gini": ("quantity", 0.1, 0.3),
    "label_tv": ("labels", 0.03, 0.3),
    "label_js": ("labels", 0.01, 0.15),
    "feature_wasserstein": ("features", 0.03, 0.2),
}


class Differences(NamedTuple):
    """What was measured."""

    words: dict[str, str]  # kind -> none, weak or strong, the strongest of its measures; kinds that could not be measured are missing
    measures: tuple[dict[str, Any], ...]  # kind, key, name, value, chance, word
    note: str  # what has to be said about them; "" where nothing has


def differences(fed: Federation, private: float | None, seed: int) -> Differences:
    """From the rows or, where `private` is an epsilon, from noised counts alone."""
    if private is None:
        found = [one.as_dict() for one in heterogeneity(fed, seed) if one.value is not None]
        return Differences(_words(found), tuple(found), "")
    from atoll.study.private import private_heterogeneity

    said = []
    for one in private_heterogeneity(fed, private, seed=seed).estimates:
        kind, weak, strong = STEPS[one.key]
        beyond = one.value - one.noise
        word = "none" if beyond <= weak else "weak" if beyond < strong else "strong"
        said.append({"kind": kind, "key": one.key, "name": one.name, "value": one.value, "chance": one.noise, "word": word})
    note = f"How clients differ was measured from noised counts alone, with epsilon {private:g} per row in all; whether they call like inputs by different "
    return Differences(
        _words(said), tuple(said), note + "labels can't be told so. In the pilot clients reported how many of their rows were right, without noise."
    )


def _words(found: list[dict[str, Any]]) -> dict[str, str]:
    words: dict[str, str] = {}
    for one in found:
        if one["word"] and RANK[one["word"]] > RANK[words.get(one["kind"], "")]:
            words[one["kind"]] = one["word"]
    return words
