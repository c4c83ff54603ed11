"""How far clients' inputs are apart: 1-Wasserstein distances of single values, and how well a classifier can tell whose a row is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from atoll.metrics.heterogeneity.sample import Sample

WIDE = 32  # values of a row that are looked at one by one, at most
FOLDS, TREES, TRIED = 3, 40, 16


def wasserstein(x: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """float64 [clients, values]: 1-Wasserstein distance between a client's and all rows' law of each value, in deviations over all rows.

    x: [rows, values]; owner: int [rows], every client with a row. NaN for a value that is the same in all rows.
    """
    clients, (rows, values) = int(owner.max()) + 1, x.shape
    size = np.bincount(owner, minlength=clients)
    out = np.full((clients, values), np.nan)
    place, step = np.arange(rows), 1 / size[owner]
    for j in range(values):
        order = np.argsort(x[:, j], kind="stable")
        ordered = x[order, j]
        deviation = ordered.std()
        if ordered[0] == ordered[-1] or not deviation > 0:
            continue
        below = np.zeros((rows, clients))
        below[place, owner[order]] = step[order]
        gap = np.cumsum(below, axis=0)[:-1] - ((place + 1) / rows)[:-1, None]
        out[:, j] = np.diff(ordered) @ np.abs(gap) / deviation
    return out


def mean_wasserstein(sample: Sample, owner: np.ndarray) -> float:
    """Mean over clients and values (WIDE of those that vary, evenly spaced). NaN where nothing varies."""
    vary = np.flatnonzero(sample.x.min(axis=0) < sample.x.max(axis=0))
    if not len(vary):
        return float("nan")
    some = vary[np.unique(np.linspace(0, len(vary) - 1, min(WIDE, len(vary))).astype(int))]
    return float(wasserstein(sample.x[:, some], owner).mean())


def owner_scores(sample: Sample, seed: int = 0) -> tuple[Sample, np.ndarray]:
    """Out-of-fold scores [rows, clients] of a classifier (extremely randomised trees) of a row's owner, and the rows it could be tried on.

    Clients with fewer rows than FOLDS are left out; equal rows are in one fold, or the trees would learn by heart whose they are not. Geurts, Ernst, Wehenkel,
    Machine Learning 63, 2006.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    enough = np.bincount(sample.owner) >= FOLDS
    kept = enough[sample.owner]
    if enough.sum() < 2:
        return sample, np.zeros((len(kept), 0))
    numbers: dict[bytes, int] = {}
    same = np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in sample.x[kept]])
    if len(numbers) < FOLDS:
        return sample, np.zeros((len(kept), 0))
    owner = np.unique(sample.owner[kept], return_inverse=True)[1]
    rows = sample._replace(x=sample.x[kept], y=None if sample.y is None else sample.y[kept], owner=owner)
    scores = np.zeros((len(owner), rows.clients))
    for train, test in _folds(same, owner, seed):
        trees = ExtraTreesClassifier(TREES, max_features=min(TRIED, rows.x.shape[1]), min_samples_leaf=2, random_state=seed).fit(rows.x[train], owner[train])
        scores[np.ix_(test, trees.classes_)] = trees.predict_proba(rows.x[test])  # a client that is not in the train folds scores 0
    return rows, scores


def _folds(same: np.ndarray, owner: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Train and test rows. same: int [rows], equal for rows that are."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if same.max() + 1 == len(same):
        return StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(owner, owner)
    return StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(owner, owner, same)


def ranks(scores: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Ranks of scores [rows, clients] among rows of the same stratum (int [rows]), equal ones sharing theirs."""
    from scipy.stats import rankdata

    out = np.empty_like(scores, np.float64)
    for stratum in np.unique(strata):
        out[strata == stratum] = rankdata(scores[strata == stratum], axis=0)
    return out


def area(ranked: np.ndarray, owner: np.ndarray, strata: np.ndarray) -> float:
    """Area under the ROC curve of one client against the rest, mean over clients, from `ranks` of the scores in the same strata.

    It is over pairs (a row of the client, a row of another one) in one stratum: the share in which the client's own row scores higher, a tie counting half.
    With labels as strata, clients that differ only in how often they have a label are at 0.5. NaN where there is no pair.
    """
    clients, layers = ranked.shape[1], int(strata.max(initial=0)) + 1
    cell = strata * clients + owner
    size = np.bincount(cell, minlength=layers * clients).reshape(layers, clients).astype(np.float64)
    own = np.bincount(cell, ranked[np.arange(len(owner)), owner], minlength=layers * clients).reshape(layers, clients)
    won = (own - size * (size + 1) / 2).sum(axis=0)
    pairs = (size * (size.sum(axis=1, keepdims=True) - size)).sum(axis=0)
    return float((won[pairs > 0] / pairs[pairs > 0]).mean()) if (pairs > 0).any() else float("nan")
