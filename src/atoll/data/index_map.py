"""Index maps: which rows of a source every client has in which split, as a file from which others have exactly the same federation."""

from __future__ import annotations

import json
import zipfile
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.federation import SPLITS, Federation
from atoll.data.loading import load
from atoll.data.sheet import split_hash

FORMAT = "atoll index map 1"
FILE = "map.npz"


def write_map(fed: Federation, folder: Path, arguments: dict[str, Any]) -> Path:
    """Writes map.npz into `folder` and returns its path. arguments: those of `load` that made the federation, with `data` for the source.

    Arrays, with a prefix phase1_, phase2_, ... for later phases of data that change: train_rows int64 (numbers of rows in the order in which the
    source gives them, client after client), train_count int64 [clients]; likewise validation_ and test_. names: of the clients, seen ones first. facts: JSON
    with the arguments, the sha256 of the split (over the rows themselves), numbers of seen clients, labels and history. NumPy reads all of it without pickle.
    AtollError where rows are not the source's (resampled ones), for arguments that JSON can't hold, and where the file is there already.
    """
    if any(phase.origin is None for phase in fed.phases):
        raise AtollError(f"{fed.name} has rows that its source has not, so no index map can tell them. Export it without resample.")
    file = folder / FILE
    if file.exists():
        raise AtollError(f"{file} is there already. Choose another folder.")
    facts = {
        "format": FORMAT,
        "atoll": version("atoll"),
        "name": fed.name,
        "arguments": arguments,
        "sha256": split_hash(fed),
        "seen": fed.seen,
        "labels": list(fed.labels),
        "row": f"{fed.x.dtype.name} {list(fed.x.shape[1:])}",
        "history": list(fed.history),
    }
    try:
        text = json.dumps(facts)
    except TypeError:
        raise AtollError("An index map keeps the arguments of the data as JSON, and one of them is neither a text, a number nor a list of such.") from None
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"facts": np.array(text), "names": np.array(fed.names), **_arrays(fed)}
    np.savez_compressed(file, **arrays)
    return file


def read_map(file: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Facts and arrays of an index map. AtollError for a file that is none."""
    if file.is_dir():
        file = file / FILE  # what `atoll data export` writes there
    try:
        with np.load(file, allow_pickle=False) as content:
            arrays = {key: content[key] for key in content.files}
        facts = json.loads(str(arrays.pop("facts")))
        known = facts["format"] == FORMAT
    except FileNotFoundError:
        raise AtollError(f"There is no index map {file}. `atoll data export` writes one.") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        why = "it is no NumPy archive" if "pickle" in str(error) else " ".join(str(error).split()).rstrip(".")
        raise AtollError(f"{file} is no index map: {why}.") from None
    if not known:
        raise AtollError(f"{file} is an index map of the format {facts['format']!r}, and this version reads {FORMAT!r}.")
    return facts, arrays


def rebuilt(file: Path) -> Federation:
    """The federation of an index map, made again from its source. AtollError where its rows, clients or splits are not those of the map."""
    facts, arrays = read_map(file)
    arguments = dict(facts["arguments"])
    fed = load(arguments.pop("data"), **arguments)
    made = {"names": np.array(fed.names), **_arrays(fed)}
    odd = next((key for key in arrays if key not in made or not np.array_equal(arrays[key], made[key])), None)
    if odd is not None:
        why = f"The source has other rows, or Atoll {facts['atoll']} dealt them out otherwise."
        raise AtollError(f"{file}: `{odd}` is not what {facts['name']} gives here. {why}")
    if split_hash(fed) != facts["sha256"]:
        raise AtollError(f"{file}: the rows of {facts['name']} have another sha256 here: {split_hash(fed)}, not {facts['sha256']}. The source's values differ.")
    return fed


def _arrays(fed: Federation) -> dict[str, np.ndarray]:
    arrays = {}
    for n, phase in enumerate(fed.phases):
        prefix = f"phase{n}_" if n else ""
        assert phase.origin is not None
        for split in SPLITS:
            first, rows = int(phase.start[split][0]), int(phase.count[split].sum())
            arrays[f"{prefix}{split}_rows"] = phase.origin[first : first + rows].astype(np.int64)
            arrays[f"{prefix}{split}_count"] = phase.count[split].astype(np.int64)
    return arrays
