"""How clients differ, kind by kind in a word: what candidates are chosen by."""

from __future__ import annotations

from typing import Any, NamedTuple

from atoll.data.federation import Federation
from atoll.metrics.heterogeneity import heterogeneity
from atoll.metrics.heterogeneity.measure import word_of

RANK = {"": 0, "none": 1, "weak": 2, "strong": 3}
KINDS = {"gini": "quantity", "label_tv": "labels", "label_js": "labels", "feature_wasserstein": "features"}  # of private estimates


class Differences(NamedTuple):
    """What was measured."""

    words: dict[str, str]  # kind -> none, weak or strong, the strongest of its measures; kinds that could not be measured are missing
    measures: tuple[dict[str, Any], ...]  # kind, key, name, value, chance, word; of private ones also exact, the value from rows
    note: str  # what has to be said about them; "" where nothing has


def differences(fed: Federation, private: float | None, seed: int) -> Differences:
    """From the rows or, where `private` is an epsilon, from noised counts alone."""
    if private is None:
        found = [one.as_dict() for one in heterogeneity(fed, seed) if one.value is not None]
        return Differences(_words(found), tuple(found), "")
    from atoll.study.private import private_heterogeneity

    said = []
    for one in private_heterogeneity(fed, private, seed=seed).estimates:
        word = word_of(one.key, one.value - one.noise)
        said.append({"kind": KINDS[one.key], "key": one.key, "name": one.name, "value": one.value, "chance": one.noise, "word": word, "exact": one.exact})
    note = f"How clients differ was measured from noised counts alone, with epsilon {private:g} per row in all; whether they call like inputs by different "
    return Differences(
        _words(said), tuple(said), note + "labels can't be told so. In the pilot clients reported their scores without noise."
    )


def _words(found: list[dict[str, Any]]) -> dict[str, str]:
    words: dict[str, str] = {}
    for one in found:
        if one["word"] and RANK[one["word"]] > RANK[words.get(one["kind"], "")]:
            words[one["kind"]] = one["word"]
    return words
