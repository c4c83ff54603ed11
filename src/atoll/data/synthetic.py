"""Generated federations: synthetic(alpha, beta), clustered linear regression, and quadratic losses for exact tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.randomness import generator
from atoll.data.table import TEST, TRAIN, VALIDATION, Table


def synthetic(
    *,
    clients: int | None = None,
    seed: int = 0,
    alpha: float = 1.0,
    beta: float = 1.0,
    iid: bool = False,
    spread: str = "deviation",
    dimension: int = 60,
    classes: int = 10,
) -> Table:
    """synthetic(alpha, beta) of Li et al. (FedProx, MLSys 2020), also in LEAF: how models differ (alpha) and how inputs differ (beta).

    Client k has int(lognormal(4, 2)) + 50 rows; u_k ~ N(0, alpha), B_k ~ N(0, beta); entries of W_k, b_k ~ N(u_k, 1); entries of v_k ~ N(B_k, 1);
    x ~ N(v_k, S) with S diagonal, S_jj = j^-1.2; y = argmax(softmax(W_k x + b_k)). iid: one W, b ~ N(0, 1) for all, and v_k = 0.

    spread: the paper writes alpha and beta as variances, its code takes them as standard deviations. "deviation" (default) does as the code,
    "variance" as the paper; they differ unless alpha and beta are 0 or 1. The code sets no seed, so its own rows can't be had again.
    """
    clients = 30 if clients is None else clients
    for value, what in ((alpha, "alpha"), (beta, "beta")):
        _check(what, value, 0, 100)
    for value, what, least in ((clients, "clients", 1), (dimension, "dimension", 1), (classes, "classes", 2)):
        _check_whole(what, value, least)
    if spread not in ("deviation", "variance"):
        raise AtollError(f"spread={spread!r} is neither 'deviation' (as in FedProx's code) nor 'variance' (as in its paper).")
    name = "synthetic iid" if iid else f"synthetic({alpha:g}, {beta:g})"
    if spread == "variance":
        alpha, beta = alpha**0.5, beta**0.5
    rng = generator(seed, "synthetic")
    sizes = rng.lognormal(4, 2, clients).astype(int) + 50
    common = rng.normal(0, 1, (dimension + 1, classes))  # W and, as its last row, b
    deviations = np.arange(1, dimension + 1) ** -0.6  # square roots of j^-1.2
    xs, ys = [], []
    for n in sizes:
        u, center = rng.normal(0, alpha), rng.normal(0, beta)
        own, v = rng.normal(u, 1, (dimension + 1, classes)), rng.normal(center, 1, dimension)
        w = common if iid else own
        x = (0 if iid else v) + deviations * rng.standard_normal((n, dimension))
        xs.append(x.astype(np.float32))
        ys.append(np.argmax(x @ w[:-1] + w[-1], axis=1).astype(np.int32))
    return Table(
        name=name,
        x=np.concatenate(xs),
        y=np.concatenate(ys),
        labels=tuple(str(c) for c in range(classes)),
        owner=np.repeat(np.arange(clients), sizes),
        names=_names(clients),
        history=(f"{name}, alpha and beta as {spread}s: {sizes.sum():,} rows of {dimension} features, {classes} classes, {clients} clients, seed {seed}",),
    )


def linear(
    *,
    clients: int | None = None,
    seed: int = 0,
    clusters: int = 4,
    dimension: int = 20,
    rows: int = 50,
    radius: float = 1.0,
    noise: float = 0.1,
) -> Table:
    """Linear regression in clusters of clients, after the synthetic data of IFCA (Ghosh et al., NeurIPS 2020).

    Client i is in cluster i mod clusters; x ~ N(0, I), y = <x, theta> + N(0, noise^2) with the cluster's theta in radius * {0, 1}^dimension,
    entries 1 with probability 1/2 and all thetas different. The paper has dimension 1000, 100 rows and 100 to 400 clients.
    """
    clients = 20 if clients is None else clients
    for value, what, least in ((clients, "clients", 1), (clusters, "clusters", 1), (dimension, "dimension", 1), (rows, "rows", 2)):
        _check_whole(what, value, least)
    _check("noise", noise, 0, 1e6)
    _check("radius", radius, 0, 1e6)
    theta = cluster_models(clusters, dimension, radius, seed)
    rng = generator(seed, "linear")
    group = np.arange(clients) % clusters
    x = rng.standard_normal((clients, rows, dimension))
    y = np.einsum("crd,cd->cr", x, theta[group]) + noise * rng.standard_normal((clients, rows))
    return Table(
        name=f"linear in {clusters} clusters",
        x=x.reshape(-1, dimension).astype(np.float32),
        y=y.reshape(-1).astype(np.float32),
        labels=(),
        owner=np.repeat(np.arange(clients), rows),
        names=_names(clients),
        groups=group,
        history=(f"linear regression: {clients} clients of {rows} rows in {clusters} clusters, {dimension} features, noise {noise:g}, seed {seed}",),
    )


def cluster_models(clusters: int, dimension: int, radius: float, seed: int) -> np.ndarray:
    """The true thetas [clusters, dimension] of `linear`. AtollError for more clusters than there are different ones."""
    rng = generator(seed, "linear models")
    if dimension > 62:  # two of them equal: never
        return radius * rng.integers(0, 2, (clusters, dimension)).astype(float)
    if clusters > 2**dimension:
        raise AtollError(f"There are only {2**dimension} different models of {dimension} features, fewer than clusters={clusters}.")
    numbers: list[int] = []
    # Distinct numbers without listing all: the j-th draw counts among those not yet taken.
    for j in range(clusters):
        number = int(rng.integers(0, 2**dimension - j))
        for taken in sorted(numbers):
            number += number >= taken
        numbers.append(number)
    return radius * ((np.array(numbers)[:, None] >> np.arange(dimension)) & 1).astype(float)


def quadratic(
    *,
    clients: int | None = None,
    seed: int = 0,
    a: Sequence[Any] | np.ndarray | None = None,
    b: Sequence[Any] | np.ndarray | None = None,
    dimension: int = 1,
    spread: float = 1.0,
) -> Table:
    """Clients with losses f_i(w) = 1/2 (w - b_i)' A_i (w - b_i), as least squares: the mean over rows of 1/2 (<w, x> - y)^2.

    a: [clients] numbers or [clients, d, d] symmetric matrices without negative eigenvalues; b: [clients] or [clients, d]. Without them, A_i has
    eigenvalues drawn from [1/2, 2] and b_i ~ N(0, spread^2) in `dimension` dimensions. A client's d rows have X'X / d = A_i and y = X b_i; for d = 1
    it is the row x = sqrt(a), y = sqrt(a) b. Train, validation and test rows are the same. Use a linear model without bias.
    """
    if (a is None) != (b is None):
        raise AtollError("Source quadratic needs both a and b, or neither.")
    matrices, centers = _drawn(10 if clients is None else clients, seed, dimension, spread) if a is None or b is None else _given(a, b, clients)
    n, d = centers.shape
    values, vectors = np.linalg.eigh(matrices)
    if values.min() < -1e-6 * max(1.0, float(np.abs(values).max())):
        raise AtollError(f"Source quadratic: matrix a[{int(np.argmin(values.min(axis=1)))}] has a negative eigenvalue, so its loss has no minimum.")
    x = np.sqrt(d * np.maximum(values, 0))[:, :, None] * np.swapaxes(vectors, 1, 2)  # [clients, d rows, d]
    y = np.einsum("crd,cd->cr", x, centers)
    if d == 1:
        x = np.abs(x)  # an eigenvector's sign is arbitrary
        y = x[:, :, 0] * centers
    parts = np.repeat(np.array([TRAIN, VALIDATION, TEST], np.int8), n * d)
    return Table(
        name="quadratic",
        x=np.tile(x.reshape(n * d, d), (3, 1)).astype(np.float32),
        y=np.tile(y.reshape(-1), 3).astype(np.float32),
        labels=(),
        owner=np.tile(np.repeat(np.arange(n), d), 3),
        names=_names(n),
        part=parts,
        fixed="its rows are the clients' losses",
        exact=True,
        history=(f"quadratic losses of {n} clients, {d}-dimensional, each client's rows the same in all splits" + (f", seed {seed}" if a is None else ""),),
    )


def _drawn(clients: int, seed: int, dimension: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    _check_whole("clients", clients, 1)
    _check_whole("dimension", dimension, 1)
    _check("spread", spread, 0, 1e6)
    rng = generator(seed, "quadratic")
    bases = np.linalg.qr(rng.standard_normal((clients, dimension, dimension)))[0]
    values = rng.uniform(0.5, 2, (clients, dimension))
    return bases @ (values[:, :, None] * np.swapaxes(bases, 1, 2)), spread * rng.standard_normal((clients, dimension))


def _given(a: Sequence[Any] | np.ndarray, b: Sequence[Any] | np.ndarray, clients: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Matrices [clients, d, d] and centers [clients, d]."""
    try:
        first, centers = np.array(a, float), np.array(b, float)
    except (TypeError, ValueError):
        raise AtollError("Source quadratic: a and b must be lists of numbers (or a of matrices and b of vectors), one per client.") from None
    centers = centers[:, None] if centers.ndim == 1 else centers
    d = centers.shape[-1]
    matrices = first[:, None, None] * np.eye(d) if first.ndim == 1 else first
    if centers.ndim != 2 or not centers.size or matrices.shape != (len(centers), d, d) or not (np.isfinite(matrices).all() and np.isfinite(centers).all()):
        raise AtollError(
            f"Source quadratic: a has shape {list(first.shape)} and b {list(np.shape(b))}. They must be finite numbers, "
            "a of shape [clients] or [clients, d, d] and b of shape [clients] or [clients, d]."
        )
    if not np.allclose(matrices, np.swapaxes(matrices, 1, 2)):
        raise AtollError("Source quadratic: the matrices in a must be symmetric.")
    if clients is not None and clients != len(centers):
        raise AtollError(f"Source quadratic: a and b are of {len(centers)} clients, but clients={clients}.")
    return matrices, centers


def _names(clients: int) -> tuple[str, ...]:
    return tuple(f"client {i}" for i in range(clients))


def _check(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise AtollError(f"{name}={value!r} must be a number from {low:g} to {high:g}.")


def _check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise AtollError(f"{name}={value!r} must be a whole number of at least {least}.")
