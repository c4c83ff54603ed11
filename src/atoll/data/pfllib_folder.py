"""Writes a federation as PFLlib keeps its datasets: a folder per split with one .npz per client, and config.json."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.federation import SPLITS, Federation
from atoll.data.sheet import split_hash


def write_pfllib(fed: Federation, folder: Path) -> Path:
    """Writes train/0.npz, ..., test/0.npz, ... and config.json into `folder` and returns it.

    x is what models see here, float32 (x - shift) * scale, images [channels, height, width]; tokens are int64; y int64 [rows]. PFLlib has no validation
    rows: they follow a client's train rows. Unseen clients are the last ones, which is where PFLlib expects new clients (its option -nnc). AtollError for
    regression and sequences, which PFLlib has no place for, for data that change over the rounds, and where the folder holds a dataset already.
    """
    if not fed.labels or fed.y.ndim > 1:
        raise AtollError(f"{fed.name} can't be written for PFLlib, which knows one label per row only. Use --format npz.")
    if fed.drift is not None:
        raise AtollError(f"{fed.name} can't be written for PFLlib, whose datasets don't change over the rounds. Use --format npz.")
    there = next((name for name in ("train", "test", "config.json") if (folder / name).exists()), None)
    if there:
        raise AtollError(f"{folder}/{there} is there already. Choose another folder.")
    statistic = []
    for client in range(len(fed.names)):
        slices = [slice(int(fed.start[s][client]), int(fed.start[s][client] + fed.count[s][client])) for s in SPLITS]
        rows = [np.r_[slices[0], slices[1]], np.r_[slices[2]]]
        for split, which in zip(("train", "test"), rows, strict=True):
            (folder / split).mkdir(parents=True, exist_ok=True)
            content = {"x": _seen_by_models(fed, which), "y": fed.y[which].astype(np.int64)}
            np.savez_compressed(folder / split / f"{client}.npz", data=np.array(content, object))
        labels, counts = np.unique(fed.y[np.concatenate(rows)], return_counts=True)
        statistic.append([[int(label), int(n)] for label, n in zip(labels, counts, strict=True)])
    config = {
        "num_clients": len(fed.names),
        "num_classes": len(fed.labels),
        "partition": fed.name,
        "Size of samples for labels in clients": statistic,
        "num_new_clients": len(fed.names) - fed.seen,
        "atoll": {"names": list(fed.names), "labels": list(fed.labels), "sha256": split_hash(fed), "history": list(fed.history)},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return folder


def _seen_by_models(fed: Federation, rows: np.ndarray) -> np.ndarray:
    x = fed.x[rows]
    if x.dtype == np.int32:
        return x.astype(np.int64)
    x = ((x.astype(np.float32) - np.float32(fed.shift)) * np.float32(fed.scale)).astype(np.float32)
    if x.ndim == 3:
        return x[:, None]
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim == 4 else x
