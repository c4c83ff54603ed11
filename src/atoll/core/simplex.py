"""Small quadratic programs over the simplex {a >= 0, sum a = 1}, at the server."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls


def project(v: np.ndarray) -> np.ndarray:
    """The point of the simplex that is nearest to each row of v [..., m]: max(v - t, 0) with the t at which it sums to 1 (Held, Wolfe, Crowder, 1974)."""
    down = -np.sort(-v, axis=-1)
    t = (np.cumsum(down, axis=-1) - 1) / np.arange(1, v.shape[-1] + 1)
    last = np.sum(down > t, axis=-1, keepdims=True) - 1
    return np.maximum(v - np.take_along_axis(t, last, axis=-1), 0)


def least(Q: np.ndarray) -> np.ndarray:  # noqa: N803
    """argmin a' Q a over the simplex, for a symmetric Q [m, m] without negative eigenvalues; exact, by an active set.

    The y >= 0 that minimises y' Q y / 2 - sum y is a multiple of it, and with Q = R' R that is the non-negative least squares problem R y ~ R'^-1 1.
    Where Q is singular, a millionth of a millionth of its trace on the diagonal chooses among its minimisers.
    """
    m = len(Q)
    R = np.linalg.cholesky((Q + Q.T) / 2 + (1e-12 * np.trace(Q) + np.finfo(float).tiny) * np.eye(m)).T  # noqa: N806
    y, _ = nnls(R, np.linalg.solve(R.T, np.ones(m)))
    return y / y.sum()
