"""A federation without its test rows, for choices that test rows may have no part in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from atoll.data.federation import Federation, starts


def without_test_rows(fed: Federation) -> Federation:
    """The same clients with the same train and validation rows; in place of its test rows each has its first train row once, since it must have one.

    In all phases. Nothing of the test rows is left, so nothing can be chosen by them; scores on them mean nothing.
    """
    first = np.asarray(fed.start["train"])
    keep = np.concatenate([np.arange(int(np.asarray(fed.start["test"])[0])), first])
    count = {**fed.count, "test": np.ones(len(fed.names), np.int64)}
    rows = {"x": fed.x[keep], "y": fed.y[keep], "origin": None if fed.origin is None else fed.origin[keep]}
    drift = None if fed.drift is None else replace(fed.drift, later=tuple(without_test_rows(phase) for phase in fed.drift.later))
    return replace(fed, **rows, count=count, start=starts(count), drift=drift)
