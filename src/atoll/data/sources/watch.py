"""Shoulder exercises by the sensors of a smartwatch, subject by subject."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.building import SPLIT, check_split
from atoll.data.sources.files import check_whole, given_file, package_file
from atoll.data.sources.unpickle import DAMAGE, damaged, unpickled_npy
from atoll.data.table import TEST, TRAIN, VALIDATION, Table

GET = "pip install --no-deps seglearn==1.2.5"
RATE = 50  # samples per second
WINDOW = 100  # samples
STEP = 50


def read(*, path: str | Path | None = None, parts: Sequence[float] = SPLIT) -> Table:
    """Windows of 2 s, every second, of 140 recordings: 30 features, 7 exercises, 10 subjects.

    Features: mean, deviation, least, most and mean change from sample to sample of each of 6 channels (acceleration and turning). parts: shares of
    every recording, in the order of time, for training, validation and tests; a window that reaches over a border is left out, since its samples would be
    on both sides. path: watch_dataset.npy, else that of the package seglearn.
    """
    check_split(parts)
    file = given_file(path, "watch") if path is not None else package_file("seglearn", "data/watch_dataset.npy")
    if file is None:
        raise AtollError(f"Source watch needs the package seglearn: {GET}. Or give path=FILE, its watch_dataset.npy.")
    try:
        with file.open("rb") as stream:
            content = unpickled_npy(stream)
        recordings = [np.asarray(one, np.float64) for one in content["X"]]
        y, subject = (np.asarray(content[key]).astype(int) for key in ("y", "subject"))
        labels = tuple(str(name) for name in content["y_labels"])
    except DAMAGE as error:
        raise damaged(file, "seglearn's watch_dataset.npy", error) from None
    if path is None:
        check_whole(file, len(recordings), 140, "recordings", GET)
    if not recordings or any(one.ndim != 2 or one.shape[1] != 6 or len(one) < WINDOW for one in recordings):
        raise AtollError(f"{file} is not seglearn's watch_dataset.npy: recordings of 6 channels and at least {WINDOW} samples are needed.")
    if not len(recordings) == len(y) == len(subject) or y.min() < 0 or y.max() >= len(labels):
        raise AtollError(f"{file} is not seglearn's watch_dataset.npy: recordings, exercises and subjects don't fit together.")
    windows = [_windows(one, parts) for one in recordings]
    n = [len(part) for _, part, _ in windows]
    subjects = np.unique(subject)
    x, part, time = (np.concatenate(arrays) for arrays in zip(*windows, strict=True))
    shares = "/".join(f"{100 * share:.4g}" for share in parts)
    return Table(
        name="watch",
        x=x,
        y=np.repeat(y, n).astype(np.int32),
        labels=labels,
        owner=np.repeat(np.searchsorted(subjects, subject), n),
        names=tuple(f"subject {s}" for s in subjects),
        by="subject",
        standardise=np.ones(x.shape[1], bool),
        part=part,
        time=time,
        fixed="windows of a recording overlap, and would share samples with those of other clients",
        history=(f"seglearn's watch: {len(x):,} windows of {len(recordings)} recordings, {shares} % of each, in order, to train, validate and test",),
    )


def _windows(recording: np.ndarray, parts: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of one recording [samples, 6]: features float32 [windows, 30], part int8 [windows], and when a window begins in seconds of the recording."""
    first = np.arange(0, len(recording) - WINDOW + 1, STEP)
    borders = np.rint(np.cumsum(parts)[:2] * len(recording))
    begins, ends = (np.searchsorted(borders, samples, side="right") for samples in (first, first + WINDOW - 1))
    first, part = first[begins == ends], begins[begins == ends]
    seen = np.lib.stride_tricks.sliding_window_view(recording, WINDOW, axis=0)[first]  # [windows, 6, samples]
    change = np.abs(np.diff(seen, axis=2)).mean(axis=2)
    x = np.concatenate([seen.mean(axis=2), seen.std(axis=2), seen.min(axis=2), seen.max(axis=2), change], axis=1)
    return x.astype(np.float32), np.array([TRAIN, VALIDATION, TEST], np.int8)[part], first / RATE
