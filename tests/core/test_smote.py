"""SMOTE in a client program: where new rows lie, and how many there are of each label."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from atoll.core.balance import label_counts
from atoll.core.method import method
from atoll.core.smote import encoded, smote
from tests.harness import federation, train

random = np.random.default_rng(0)
COUNTS = ((20, 8, 3, 1), (0, 9, 0, 0), (2, 30, 2, 0))  # a label with one row; one label alone; labels with a single neighbour


class Seen(NamedTuple):
    counts: object
    x: object
    y: object


@method
class Evens:
    """Codes (x, x squared) of rows, evened out."""

    neighbours: int = 5

    def init(self, fed):
        return None

    def round(self, s, fed):
        return fed.ask(fed.everyone(), self.look, None).reply

    def look(self, k, _):
        even = smote(encoded(k, lambda rows: jnp.concatenate([rows.x, rows.x**2], axis=1)), k.key, self.neighbours)
        return Seen(label_counts(even), *even.map(lambda rows: (rows.x, rows.y)))

    def global_model(self, k, s):
        return None


def rows():
    """Clients' rows of two values, the third of client 0 twice."""
    y = np.concatenate([np.repeat(np.arange(4), c) for c in COUNTS]).astype(np.int32)
    x = random.normal(size=(len(y), 2)).astype(np.float32)
    x[3] = x[2]
    return x, y


def seen(fed, **how):
    return train(Evens(**how), fed, 1, models=("softmax",), engine="wire").server


def dealt(x, y):
    padding = np.zeros((6, 2), np.float32), np.arange(6, dtype=np.int32) % 4
    return federation(np.concatenate([x, padding[0]]), np.concatenate([y, padding[1]]), [(sum(c), 1, 1) for c in COUNTS])


@pytest.fixture(scope="module")
def made():
    x, y = rows()
    return x, y, seen(dealt(x, y))


def test_labels_are_even_but_those_of_a_single_row(made):
    _, _, s = made
    np.testing.assert_array_equal(s.counts, [[20, 20, 20, 1], [0, 9, 0, 0], [30, 30, 30, 0]])


def between(x, y, i, neighbours):
    """Segments (from [m, d], to [m, d]) between row i and its nearest of the same label."""
    same = np.flatnonzero((y == y[i]) & (np.arange(len(y)) != i))
    near = same[np.argsort(((x[same] - x[i]) ** 2).sum(1), kind="stable")[:neighbours]]
    return np.repeat(x[i][None], len(near), 0), x[near]


@pytest.mark.parametrize("neighbours", [5, 1])
def test_new_rows_lie_between_a_row_and_a_near_one_of_its_label(made, neighbours):
    x, y, s = made if neighbours == 5 else (*made[:2], seen(dealt(*made[:2]), neighbours=1))
    x, first = np.concatenate([x, x**2], axis=1), 0
    for client, counts in enumerate(COUNTS):
        n = sum(counts)
        own, labels = x[first : first + n], y[first : first + n]
        np.testing.assert_allclose(s.x[client][:n], own, rtol=1e-6)  # first the client's own
        total, used = int(s.counts[client].sum()), set[int]()
        for row, label in zip(s.x[client][n:total], s.y[client][n:total], strict=True):
            segments = [between(own, labels, i, neighbours) for i in np.flatnonzero(labels == label)]
            a, b = (np.concatenate(ends) for ends in zip(*segments, strict=True))
            length = ((b - a) ** 2).sum(1)
            u = np.clip(((row - a) * (b - a)).sum(1) / np.where(length > 0, length, 1), 0, 1)
            apart = np.abs(a + u[:, None] * (b - a) - row).max(1)
            assert apart.min() < 1e-5
            used.add(int(apart.argmin()))
        assert client or len(used) > 5  # many segments, not one
        first += n
