"""A table's columns stay together."""

from __future__ import annotations

import numpy as np

from atoll.data.table import FREE, TEST, Table
from tests.data.support import numbered


def test_every_column_of_rows_is_taken():
    table = Table(
        name="rows",
        x=numbered(4),
        y=np.arange(4, dtype=np.int32),
        labels=tuple("abcd"),
        owner=np.array([0, 0, 1, 1]),
        names=("p", "q"),
        part=np.array([FREE, TEST, FREE, TEST], np.int8),
        unit=np.array([5, 6, 7, 8]),
        time=np.array([0.5, 1.5, 2.5, 3.5]),
    )
    for rows in (np.array([3, 0]), np.array([True, False, False, True])):
        taken = table.take(rows)
        kept = np.array([3, 0]) if rows.dtype != bool else np.array([0, 3])
        for column in ("x", "y", "owner", "part", "unit", "time"):
            np.testing.assert_array_equal(getattr(taken, column), getattr(table, column)[kept])
    assert Table("rows", numbered(2), np.zeros(2, np.int32), ("a",)).take(np.array([1])).time is None
