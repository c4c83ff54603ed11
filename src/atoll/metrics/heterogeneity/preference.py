"""Whether clients call the same thing by different labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from atoll.metrics.heterogeneity.sample import Sample

NEAR = 15  # rows that count as looking like a row
LEAST = 30  # rows that must have their like both at their own client and at others


class Disagreement(NamedTuple):
    """Labels of rows that look the same. Labels: 0 to 1; for numbers to predict half the squared difference, in variances over all rows."""

    others: float  # how often a row's label differs from that of a row like it at another client
    own: float  # how often it differs from that of a row like it at its own client
    matched: float  # share of rows that have their like at both

    @property
    def excess(self) -> float:
        """How much more clients differ from each other than from themselves."""
        return self.others - self.own


def alike(x: np.ndarray) -> np.ndarray:
    """int [rows, NEAR], the rows nearest to each row of x [rows, values], itself excluded."""
    from sklearn.neighbors import NearestNeighbors

    near = min(NEAR, len(x) - 1)
    return NearestNeighbors(n_neighbors=near, algorithm="brute").fit(x).kneighbors(return_distance=False)


def disagreement(like: np.ndarray, y: np.ndarray, owner: np.ndarray) -> Disagreement | None:
    """Compares labels of rows that look the same, across clients and within them; None where hardly any rows look the same.

    like: [rows, NEAR] from `alike`. Among the rows like a row, those of its own client are set against those of others, in the same neighbourhood and so at the
    same x as far as the data can tell (rows weigh as in the estimator of Mantel and Haenszel: own times others); a client whose inputs are all its own says
    nothing. others - own estimates P(y differs | same x, another client) - P(y differs | same x, same client): 1 - 1/k where k equal groups agree on no label
    and neighbours are of one kind; 0 in expectation where y and the client are independent given the neighbourhood, whatever clients' inputs are.
    """
    same = owner[like] == owner[:, None]
    differ = (y[like] != y[:, None]).astype(float) if y.dtype.kind in "iu" else np.square(y[like] - y[:, None]) / (2 * max(float(y.var()), 1e-30))
    own, others = same.sum(axis=1), (~same).sum(axis=1)
    matched = (own > 0) & (others > 0)
    if matched.sum() < LEAST:
        return None
    weight = np.where(matched, own * others / like.shape[1], 0)
    return Disagreement(
        float(weight @ ((differ * ~same).sum(axis=1) / np.maximum(others, 1)) / weight.sum()),
        float(weight @ ((differ * same).sum(axis=1) / np.maximum(own, 1)) / weight.sum()),
        float(matched.mean()),
    )


def comparable(sample: Sample) -> bool:
    """Whether labels at the same x can be compared: one label or number per row, and rows that are numbers."""
    return sample.y is not None and not sample.text and len(sample.owner) > LEAST
