"""Datasets as PFLlib writes them: a folder per split with one .npz per client, each holding a pickled dict of NumPy arrays."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.sources.files import given_folder
from atoll.data.sources.unpickle import DAMAGE, damaged, unpickled_npy
from atoll.data.table import FREE, TEST, Table


def read(*, path: str | Path | None = None) -> Table:
    """The dataset in folder `path` (train/0.npz, test/0.npz, ...). Its clients and its test rows stay what they are.

    PFLlib has no validation rows: `load` takes them out of each client's train rows, in the ratio of `split`. Single images [channels, h, w]
    become [h, w, channels], or [h, w] for one channel.
    """
    folder = given_folder(path, "pfllib")
    numbers = _clients(folder)
    xs, ys, owners, parts = [], [], [], []
    for client, number in enumerate(numbers):
        for split, part in (("train", FREE), ("test", TEST)):
            x, y = _arrays(folder / split / f"{number}.npz")
            if xs and (x.shape[1:] != xs[0].shape[1:] or x.dtype != xs[0].dtype):
                raise AtollError(f"{folder}/{split}/{number}.npz: rows are {x.dtype}{list(x.shape[1:])}, those before {xs[0].dtype}{list(xs[0].shape[1:])}.")
            xs.append(x)
            ys.append(y)
            owners.append(np.full(len(y), client))
            parts.append(np.full(len(y), part, np.int8))
    x, y = _channels_last(np.concatenate(xs)), np.concatenate(ys)
    classes = max(int(y.max()) + 1 if len(y) else 0, _said_classes(folder))
    return Table(
        name=f"pfllib {folder.name}",
        x=x,
        y=y,
        labels=tuple(str(c) for c in range(classes)),
        owner=np.concatenate(owners),
        names=tuple(f"client {number}" for number in numbers),
        part=np.concatenate(parts),
        fixed="PFLlib has dealt its rows out and set test rows apart already",
        history=(f"PFLlib dataset {folder}: {len(y):,} rows, {len(numbers)} clients, its own train and test rows",),
    )


def _said_classes(folder: Path) -> int:
    """The number of classes in config.json, which may have some that no client has; 0 without the file."""
    try:
        said = json.loads((folder / "config.json").read_text())["num_classes"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return said if isinstance(said, int) and 0 <= said < 1_000_000 else 0


def _clients(folder: Path) -> list[int]:
    found = {}
    for split in ("train", "test"):
        if not (folder / split).is_dir():
            raise AtollError(f"{folder} has no folder {split!r}. A PFLlib dataset has train/0.npz, train/1.npz, ... and test/0.npz, ...")
        matches = [re.fullmatch(r"(\d+)\.npz", file.name) for file in (folder / split).iterdir()]
        found[split] = {int(match[1]) for match in matches if match}
    if not found["train"]:
        raise AtollError(f"{folder}/train has no files 0.npz, 1.npz, ...")
    alone = sorted(found["train"] ^ found["test"])
    if alone:
        here, there = ("train", "test") if alone[0] in found["train"] else ("test", "train")
        raise AtollError(f"{folder}: client {alone[0]} has a file in {here}, but none in {there}.")
    return sorted(found["train"])


def _arrays(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """x (uint8, float32 or int32) and y (int32) of one file."""
    try:
        with zipfile.ZipFile(file) as archive, archive.open("data.npy") as member:
            content = unpickled_npy(member)
    except (zipfile.BadZipFile, zlib.error, *DAMAGE) as error:
        raise damaged(file, "a PFLlib file", error) from None
    if not isinstance(content, dict) or not all(isinstance(content.get(key), np.ndarray) for key in ("x", "y")):
        raise AtollError(f"{file} is no PFLlib file: it must hold a dict with the arrays 'x' and 'y'.")
    x, y = content["x"], content["y"]
    if len(x) != len(y) or y.ndim != 1 or x.ndim < 2:
        raise AtollError(f"{file}: x {list(x.shape)} and y {list(y.shape)} must be [rows, ...] and [rows].")
    if x.dtype.kind not in "fiub" or y.dtype.kind not in "fiub":
        raise AtollError(f"{file}: x is {x.dtype} and y {y.dtype}; rows of numbers are needed, all of one shape (texts of different lengths are not).")
    if len(y) and not (np.isfinite(y).all() and (y == np.floor(y)).all() and y.min() >= 0):
        raise AtollError(f"{file}: labels must be whole numbers from 0 on.")
    if x.dtype != np.uint8:
        x = x.astype(np.int32 if x.dtype.kind in "iu" else np.float32)
    return x, y.astype(np.int32)


def _channels_last(x: np.ndarray) -> np.ndarray:
    if x.ndim != 4 or x.shape[1] not in (1, 3) or x.shape[2] == 1:
        return x
    return np.ascontiguousarray(x[:, 0] if x.shape[1] == 1 else np.moveaxis(x, 1, -1))
