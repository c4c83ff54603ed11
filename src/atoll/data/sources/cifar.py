"""CIFAR-10 and CIFAR-100: the folders that their archives unpack to, in the version for Python or the binary one, or the archives themselves."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np

from atoll.core.errors import AtollError, unknown
from atoll.data.sources.files import said
from atoll.data.sources.unpickle import DAMAGE, damaged, unpickled
from atoll.data.table import Table

PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
PIXELS = 3 * 32 * 32
TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


def cifar10(*, path: str | Path | None = None) -> Table:
    """60,000 images [32, 32, 3] of 0 to 255, 10 classes. path: cifar-10-batches-py, cifar-10-batches-bin, or their archive .tar.gz."""
    where, content = _opened("cifar10", path, "cifar-10-batches")
    return _table("cifar10", where, [_batch(where, content, name, "labels", 1, 0) for name in BATCHES], lambda _: TEN, 10)


def cifar100(*, path: str | Path | None = None, labels: str = "fine") -> Table:
    """60,000 images [32, 32, 3] of 0 to 255, 100 classes, or the 20 kinds that they belong to (labels="coarse").

    path: cifar-100-python, cifar-100-binary, or their archive .tar.gz.
    """
    if labels not in ("fine", "coarse"):
        raise unknown("labels of cifar100", labels, ("fine", "coarse"))
    where, content = _opened("cifar100", path, "cifar-100")
    batches = [_batch(where, content, name, f"{labels}_labels", 2, int(labels == "fine")) for name in ("train", "test")]
    return _table("cifar100", where, batches, lambda classes: _names(where, content, labels, classes), 100 if labels == "fine" else 20)


def _table(source: str, where: Path, batches: list[tuple[np.ndarray, np.ndarray]], names: Callable[[int], tuple[str, ...]], classes: int) -> Table:
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    if y.min() < 0 or y.max() >= classes:
        raise AtollError(f"{where}: label {y.max()} is out of range: there are {classes}, 0 to {classes - 1}.")
    pictures = np.ascontiguousarray(x.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))  # stored as all reds, all greens, all blues
    line = f"{source} from {where}: {len(y):,} images of 32x32 in colour, its train and test files pooled"
    return Table(name=source, x=pictures, y=y.astype(np.int32), labels=names(classes), scale=1 / 255, history=(line,))


Content = Callable[[str], bytes | None]  # name of a file -> what it holds, None where it isn't there


def _opened(source: str, path: str | Path | None, inside: str) -> tuple[Path, Content]:
    """Where the files are, and what reads one by its name."""
    if path is None:
        raise AtollError(f"Source {source} needs a folder: give path=FOLDER (--path FOLDER), an unpacked archive of {PAGE}, or the archive.")
    where = Path(path).expanduser()
    if where.is_dir():
        return where, lambda name: (where / name).read_bytes() if (where / name).is_file() else None
    try:
        with tarfile.open(where) as tar:
            files = {Path(m.name).name: file.read() for m in tar if m.isfile() and inside in m.name and (file := tar.extractfile(m))}
    except FileNotFoundError:
        raise AtollError(f"There is no {where}.") from None
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise AtollError(f"{where} is neither a folder nor an archive of {source}: {said(error)}.") from None
    return where, files.get


def _batch(where: Path, content: Content, name: str, key: str, bytes_before: int, label_at: int) -> tuple[np.ndarray, np.ndarray]:
    """x uint8 [rows, 3072] and y [rows] of one file, `name` (a pickle) or `name`.bin (labels before every image)."""
    pickled, binary = content(name), content(f"{name}.bin")
    if pickled is not None:
        try:
            batch = unpickled(BytesIO(pickled), encoding="latin1")
            x, y = np.asarray(batch["data"]), np.asarray(batch[key])
        except DAMAGE as error:
            raise damaged(where / name, f"a batch of images with {key}", error) from None
        if x.dtype != np.uint8 or x.ndim != 2 or x.shape[1] != PIXELS or y.shape != (len(x),) or y.dtype.kind not in "iu":
            raise AtollError(f"{where / name}: data {x.dtype}{list(x.shape)} and {key} {y.dtype}{list(y.shape)} must be uint8 [rows, {PIXELS}] and [rows].")
        return x, y
    if binary is None:
        raise AtollError(f"{where} has neither {name} nor {name}.bin. Get the archive of {PAGE} again.")
    if not binary or len(binary) % (bytes_before + PIXELS):
        raise AtollError(f"{where / name}.bin has {len(binary):,} bytes, no multiple of {bytes_before + PIXELS:,}. It is cut short; get it again.")
    rows = np.frombuffer(binary, np.uint8).reshape(-1, bytes_before + PIXELS)
    return rows[:, bytes_before:], rows[:, label_at].astype(np.int64)


def _names(where: Path, content: Content, labels: str, classes: int) -> tuple[str, ...]:
    """The classes of CIFAR-100 by name."""
    text, meta = content(f"{labels}_label_names.txt"), content("meta")
    if text is not None:
        names = text.decode("latin1").split()
    elif meta is not None:
        try:
            names = [str(name) for name in unpickled(BytesIO(meta), encoding="latin1")[f"{labels}_label_names"]]
        except DAMAGE as error:
            raise damaged(where / "meta", "names of classes", error) from None
    else:
        raise AtollError(f"{where} has neither {labels}_label_names.txt nor meta, which name the classes. Get the archive of {PAGE} again.")
    if len(set(names)) != classes:
        raise AtollError(f"{where} names {len(set(names))} classes, not {classes}.")
    return tuple(names)
