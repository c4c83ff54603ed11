"""Evens out the labels of every client's train rows by itself: SMOTE, ADASYN and Tomek links, as imbalanced-learn computes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from atoll.core.errors import AtollError, unknown
from atoll.data.federation import SPLITS, Federation, starts

KINDS = {
    "smote": "new rows between a row and one of its 5 nearest of the same label, until every label is as frequent as the client's most frequent one",
    "adasyn": "as smote, with more new rows where a row's neighbours have the most frequent label",
    "tomek": "drops the row of the more frequent label from every pair of nearest neighbours with different labels",
}
NEIGHBOURS = 5


def resample(fed: Federation, kind: str, seed: int = 0) -> Federation:
    """A federation whose clients' train rows are resampled, each client's from its own rows alone; validation and test rows stay.

    kind: one of KINDS. smote and adasyn leave a label alone that a client has one row of: there is nothing to draw between. A federation of bytes becomes one
    of float32, since new rows lie between old ones. AtollError for regression, tokens and sequences.

    Chawla et al., JAIR 16, 2002 (SMOTE); He, Bai, Garcia, Li, IJCNN 2008 (ADASYN); Tomek, IEEE Trans. SMC, 1976.
    """
    check_kind(kind)
    if not fed.labels or fed.y.ndim > 1 or fed.x.dtype == np.int32:
        raise AtollError(f"{fed.name}: {kind} evens out labels between rows of numbers; it makes no sense for regression, tokens and sequences.")
    made = [_client(fed, i, kind, seed) for i in range(len(fed.names))]
    x, y = ([part[n] for part in made] for n in (0, 1))
    for split in SPLITS[1:]:
        for i in range(len(fed.names)):
            rows = _rows(fed, split, i)
            x.append(fed.x[rows].astype(np.float32))
            y.append(fed.y[rows])
    before = int(fed.count["train"].sum())
    count = {**fed.count, "train": np.array([len(part[1]) for part in made], np.int64)}
    history = (*fed.history, f"{kind}: train rows of each client evened out by label, {before:,} rows before and {int(count['train'].sum()):,} after")
    public = None if fed.public is None else (fed.public[0].astype(np.float32), fed.public[1])
    rows = {"x": np.concatenate(x), "y": np.concatenate(y), "start": starts(count), "count": count, "origin": None}
    return replace(fed, name=f"{fed.name}, {kind}", public=public, history=history, **rows)


def check_kind(kind: str) -> None:
    """AtollError for an unknown resampler."""
    if kind not in KINDS:
        raise unknown("resampler", kind, KINDS)


def _rows(fed: Federation, split: str, client: int) -> slice:
    first = int(fed.start[split][client])
    return slice(first, first + int(fed.count[split][client]))


def _client(fed: Federation, client: int, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rows = _rows(fed, "train", client)
    x, y = fed.x[rows].astype(np.float32).reshape(-1, int(np.prod(fed.x.shape[1:]))), fed.y[rows]
    if kind == "tomek":
        keep = _tomek(x, y)
        x, y = x[keep], y[keep]
    else:
        x, y = _evened(x, y, kind, seed + client)
    return x.reshape(len(y), *fed.x.shape[1:]), y


def _evened(x: np.ndarray, y: np.ndarray, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows, and behind them the new ones, label by label: each label's are drawn between its old rows."""
    from imblearn.over_sampling import ADASYN, SMOTE

    counts = np.bincount(y)
    parts, most = [(x, y)], int(counts.max())
    for label in np.flatnonzero((counts >= 2) & (counts < most)):
        k = min(NEIGHBOURS, int(counts[label]) - 1)
        how: Any = {"sampling_strategy": {int(label): most}, "random_state": seed}  # imbalanced-learn's types know its own names only
        if kind == "smote":
            grown: Any = SMOTE(k_neighbors=k, **how).fit_resample(x, y)  # where pandas is installed its types say that they might be frames
        elif not _near_others(x, y, int(label), k):
            continue  # no neighbour of another label: ADASYN has nowhere to put new rows
        else:
            try:
                grown = ADASYN(n_neighbors=k, **how).fit_resample(x, y)
            except ValueError as error:
                if "No samples will be generated" not in str(error):
                    raise
                continue  # so few rows are wanting that every old row's share of them rounds to none
        parts.append((grown[0][len(x) :].astype(np.float32), grown[1][len(y) :].astype(y.dtype)))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _near_others(x: np.ndarray, y: np.ndarray, label: int, k: int) -> bool:
    """Whether any row of the label has a row of another one among its k nearest."""
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors(x[y == label], return_distance=False)[:, 1:]
    return bool((y[near] != label).any())


def _tomek(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Numbers of the rows to keep."""
    from imblearn.under_sampling import TomekLinks

    if len(np.unique(y)) < 2:
        return np.arange(len(y))
    cleaner = TomekLinks()
    cleaner.fit_resample(x, y)
    return np.sort(cleaner.sample_indices_)
