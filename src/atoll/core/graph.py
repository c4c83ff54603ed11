"""Graphs of clients that talk to their neighbours only, and the weights with which they agree on a mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from atoll.core.errors import AtollError
from atoll.core.keys import host_generator

FORMS = "ring, grid, complete, random:P (every edge with probability P), or a file with two client numbers per line"
DRAWS = 100  # of a random graph, until one is connected


def graph(form: str, n: int, seed: int) -> np.ndarray:
    """Who is whose neighbour: bool [n, n], symmetric, False on the diagonal. `form` as in FORMS.

    AtollError for other forms, and where the graph is not connected.
    """
    kind, _, share = form.partition(":")
    if kind == "random":
        return _random(form, share, n, seed)
    i = np.arange(n)
    if form == "ring":
        edges = np.stack([i, (i + 1) % n], axis=1)
    elif form == "grid":  # row by row, as square as can be; the last row may be short
        width = max(1, int(np.ceil(np.sqrt(n))))
        right = np.stack([i, i + 1], axis=1)[(i + 1) % width > 0]
        edges = np.concatenate([right, np.stack([i, i + width], axis=1)])
        edges = edges[edges[:, 1] < n]
    elif form == "complete":
        edges = np.argwhere(np.ones((n, n), bool))
    else:
        edges = _read(form, n)
    near = _symmetric(edges, n)
    parts = components(near)
    if len(parts) > 1:
        shown = "; ".join(_some(part) for part in parts[:3])
        raise AtollError(f"The graph {form!r} is not connected: it has {len(parts)} parts ({shown}). What one learns would not reach the others. Add edges.")
    return near


def metropolis(near: np.ndarray) -> np.ndarray:
    """Weights [n, n] of the edges of a graph: W_ij = 1 / (1 + the larger of both degrees), W_ii what is missing to 1. Rows and columns sum to 1."""
    degree = near.sum(axis=1)
    weights = near / (1 + np.maximum(degree[:, None], degree))
    return weights + np.diag(1 - weights.sum(axis=1))


def components(near: np.ndarray) -> list[np.ndarray]:
    """The connected parts of a graph, each the sorted numbers of its clients."""
    left, parts = set(range(len(near))), []
    while left:
        new = part = {min(left)}
        while new:
            new = set(np.flatnonzero(near[sorted(new)].any(axis=0)).tolist()) - part
            part = part | new
        parts.append(np.array(sorted(part)))
        left -= part
    return parts


def _random(form: str, share: str, n: int, seed: int) -> np.ndarray:
    try:
        p = float(share)
    except ValueError:
        p = -1
    if not 0 < p <= 1:
        raise AtollError(f"Graph {form!r}: the probability of an edge is a number above 0 and at most 1, as in random:0.3.")
    random = host_generator(seed, "graph", 0)
    for _ in range(DRAWS):
        near = np.triu(random.random((n, n)) < p, 1)
        near = near | near.T
        if len(components(near)) == 1:
            return near
    raise AtollError(f"Graph {form!r}: of {DRAWS} drawn for {n} clients none was connected. Take a larger probability.")


def _read(form: str, n: int) -> np.ndarray:
    path = Path(form)
    if not path.is_file():
        raise AtollError(f"There is no graph {form!r}, nor a file of that name. A graph is {FORMS}.")
    edges = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.split("#")[0].replace(",", " ").split()
        if not text:
            continue
        if len(text) != 2 or not all(word.isdecimal() for word in text):
            raise AtollError(f"{form}, line {number}: an edge is two client numbers, as in 0,1, not {line.strip()!r}.")
        i, j = map(int, text)
        if max(i, j) >= n or i == j:
            raise AtollError(f"{form}, line {number}: no edge can join {i} and {j}. There are {n} clients, 0 to {n - 1}, and an edge joins two of them.")
        edges.append((i, j))
    return np.array(edges, int).reshape(-1, 2)


def _symmetric(edges: np.ndarray, n: int) -> np.ndarray:
    near = np.zeros((n, n), bool)
    near[edges[:, 0], edges[:, 1]] = True
    return (near | near.T) & ~np.eye(n, dtype=bool)


def _some(part: np.ndarray) -> str:
    more = f" and {len(part) - 5} more" if len(part) > 5 else ""
    return f"client{'s' if len(part) > 1 else ''} {', '.join(map(str, part[:5]))}{more}"
