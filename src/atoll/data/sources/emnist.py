"""EMNIST: letters and digits by hand, from its idx files or, with their writers as clients, from its files for MATLAB."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from atoll.core.errors import AtollError, unknown
from atoll.data.building import encode
from atoll.data.sources.files import given_folder, said
from atoll.data.sources.idx import read_idx
from atoll.data.table import Table

PARTS = ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")


def read(*, path: str | Path | None = None, part: str = "balanced", least: int = 10) -> Table:
    """Images [28, 28] of 0 to 255, upright, train and test files pooled. part: balanced, byclass, bymerge, digits, letters or mnist.

    path: the folder of emnist-PART.mat, whose writers become the clients (those with fewer than `least` images are left out), or of the idx files
    emnist-PART-train-images-idx3-ubyte (.gz or not), ... and emnist-PART-mapping.txt, in which there are no writers. Where both are there, the .mat is read.
    """
    if part not in PARTS:
        raise unknown("part of EMNIST", part, PARTS)
    if isinstance(least, bool) or not isinstance(least, int) or least < 2:
        raise AtollError(f"least={least!r} must be a whole number of at least 2.")
    folder = given_folder(path, "emnist")
    matlab = folder / f"emnist-{part}.mat"
    x, label, writer, codes = _matlab(matlab) if matlab.is_file() else _idx(folder, part)
    known = np.array(sorted(codes))
    y = np.searchsorted(known, label).clip(max=len(known) - 1)
    if len(x) != len(label) or x.shape[1:] != (28, 28) or (known[y] != label).any():
        raise AtollError(f"{folder}: {len(x):,} images {list(x.shape[1:])} and {len(label):,} labels of EMNIST's {part} don't fit together, or to its mapping.")
    kept = np.ones(len(y), bool)
    names, owner = (), None
    if writer is not None:
        everyone, who = encode(writer)
        enough = np.bincount(who) >= least
        if not enough.any():
            raise AtollError(f"{matlab}: no writer has {least} images.")
        kept, number = enough[who], np.cumsum(enough) - 1
        owner, names = number[who[kept]], tuple(f"writer {name}" for name, many in zip(everyone, enough, strict=True) if many)
    by = f", {len(names):,} writers with {least} images or more" if names else ", no writers in idx files"
    return Table(
        name=f"emnist {part}",
        x=np.ascontiguousarray(x[kept].transpose(0, 2, 1)),  # all its files hold images column by column
        y=y[kept].astype(np.int32),
        labels=tuple(codes[number] for number in known.tolist()),
        owner=owner,
        names=names,
        by="writer" if names else "",
        scale=1 / 255,
        history=(f"EMNIST {part} from {folder}: {int(kept.sum()):,} images of 28x28{by}; its train and test files pooled",),
    )


Raw = tuple[np.ndarray, np.ndarray, np.ndarray | None, dict[int, str]]  # images, labels, writers, label -> characters


def _matlab(file: Path) -> Raw:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        data = loadmat(file, squeeze_me=True, struct_as_record=False)["dataset"]
        halves = (data.train, data.test)
        x = np.concatenate([np.asarray(half.images, np.uint8).reshape(-1, 28, 28) for half in halves])
        label, writer = (np.concatenate([np.atleast_1d(getattr(half, name)).astype(np.int64) for half in halves]) for name in ("labels", "writers"))
        codes = {int(row[0]): "".join(chr(int(code)) for code in row[1:2]) for row in np.atleast_2d(data.mapping)}
    except (OSError, ValueError, KeyError, AttributeError, TypeError, IndexError, NotImplementedError, zlib.error, MatReadError) as error:
        raise AtollError(f"{file} can't be read as a part of EMNIST for MATLAB: {said(error)}.") from None
    if len(writer) != len(label):
        raise AtollError(f"{file} has {len(label):,} labels and {len(writer):,} writers. They must agree.")
    return x, label, writer, codes


def _idx(folder: Path, part: str) -> Raw:
    names = [f"emnist-{part}-{half}-{what}" for what in ("images-idx3-ubyte", "labels-idx1-ubyte") for half in ("train", "test")]
    files = [next((file for file in (folder / f"{name}.gz", folder / name) if file.is_file()), None) for name in names]
    missing = next((name for name, file in zip(names, files, strict=True) if file is None), None)
    if missing is not None:
        raise AtollError(f"{folder} has neither emnist-{part}.mat nor {missing} (or {missing}.gz). Give path=FOLDER, with EMNIST's unpacked files.")
    arrays = [read_idx(file) for file in files if file is not None]
    mapping = folder / f"emnist-{part}-mapping.txt"
    try:
        rows = [[int(number) for number in line.split()] for line in mapping.read_text().splitlines() if line.strip()]
        codes = {row[0]: chr(row[1]) for row in rows}
    except (OSError, ValueError, IndexError) as error:
        raise AtollError(f"{mapping} can't be read as EMNIST's mapping, lines of a label and a character's code: {said(error)}.") from None
    return np.concatenate(arrays[:2]), np.concatenate(arrays[2:]).astype(np.int64), None, codes
