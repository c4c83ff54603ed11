"""MNIST and sets of the same form: four idx files, plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from atoll.core.cache import cache_folder
from atoll.core.errors import AtollError
from atoll.data.sources.download import fetch
from atoll.data.sources.files import given_folder
from atoll.data.table import Table

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

# Checksums of the files as their authors publish them (md5, because that is what they publish).
FASHION_URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
FASHION_FILES = {
    "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
}
FASHION_LABELS = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist"
MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
}
MNIST_LABELS = tuple(str(c) for c in range(10))


def fashion_mnist(*, path: str | Path | None = None, mirror: str = FASHION_URL) -> Table:
    """70,000 images [28, 28] of 0 to 255. path: a folder with the four files, else Debian's, else the download's. mirror: where to download."""
    how = "Get the four files another way (Debian: apt install dataset-fashion-mnist), put them into one folder and give path=FOLDER."
    found = path if path is not None or not FASHION_FOLDER.is_dir() else FASHION_FOLDER
    return _table("fashion-mnist", found, mirror, FASHION_FILES, FASHION_LABELS, how)


def mnist(*, path: str | Path | None = None, mirror: str = MNIST_URL) -> Table:
    """70,000 images [28, 28] of 0 to 255. path: a folder with the four files, else they are downloaded. mirror: where to download."""
    return _table("mnist", path, mirror, MNIST_FILES, MNIST_LABELS, "Get the four files another way, put them into one folder and give path=FOLDER.")


def _table(source: str, path: str | Path | None, mirror: str, files: dict[str, str], labels: tuple[str, ...], otherwise: str) -> Table:
    if path is None:
        folder = cache_folder() / source
        fetch(mirror, files, folder, otherwise)
    else:
        folder = given_folder(path, source)
    xs, ys = [], []
    for images, names in (NAMES[:2], NAMES[2:]):
        x, y = read_idx(_find(folder, images, otherwise)), read_idx(_find(folder, names, otherwise))
        if x.ndim != 3 or y.ndim != 1 or len(x) != len(y):
            raise AtollError(f"{folder}: {images} has shape {list(x.shape)} and {names} {list(y.shape)}; they must be [rows, height, width] and [rows].")
        if len(y) and y.max() >= len(labels):
            row = int(np.argmax(y >= len(labels)))
            raise AtollError(f"{folder}/{names}: label {y[row]} in row {row} is out of range: {source} has {len(labels)} labels, 0 to {len(labels) - 1}.")
        xs.append(x)
        ys.append(y)
    if xs[0].shape[1:] != xs[1].shape[1:]:
        raise AtollError(f"{folder}: train images are {list(xs[0].shape[1:])} and test images {list(xs[1].shape[1:])}. They must be of one size.")
    x, y = np.concatenate(xs), np.concatenate(ys).astype(np.int32)
    if not len(x):
        raise AtollError(f"{folder}: the files of {source} have no rows.")
    # Pooled, because a client's test rows must come from the client's own distribution.
    line = f"{source} from {folder}: {len(xs[0]):,} + {len(xs[1]):,} images of {x.shape[1]}x{x.shape[2]}, its train and test file pooled"
    return Table(name=source, x=x, y=y, labels=labels, scale=1 / 255, history=(line,))


def read_idx(file: Path) -> np.ndarray:
    """An array of bytes from an idx file, gzipped where the name ends in .gz. AtollError for anything else, or for a file that breaks off."""
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise AtollError(f"{file} is damaged or not gzipped: {error}. Get it again.") from None
    except OSError as error:
        raise AtollError(f"{file} can't be read: {error.strerror}.") from None
    # 0, 0, type of the values (8: unsigned bytes), number of dimensions, then each dimension as four bytes, high one first.
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise AtollError(f"{file} is no idx file of bytes: it starts with {content[:4].hex() or 'nothing'}, not 000008.. Get it again.")
    dimensions = content[3]
    body = 4 + 4 * dimensions
    shape = tuple(np.frombuffer(content[4:body], ">u4").tolist()) if len(content) >= body else ()
    expected = body + int(np.prod(shape, dtype=np.int64))
    if len(shape) != dimensions or len(content) != expected:
        raise AtollError(f"{file} is cut short or too long: {len(content):,} bytes for an array of {list(shape)}, which takes {expected:,}. Get it again.")
    return np.frombuffer(content, np.uint8, offset=body).reshape(shape)


def _find(folder: Path, name: str, otherwise: str) -> Path:
    for candidate in (f"{name}.gz", name, f"{name}.gz".replace("-idx", ".idx"), name.replace("-idx", ".idx")):
        if (folder / candidate).is_file():
            return folder / candidate
    raise AtollError(f"{folder} has no {name} (nor {name}.gz). {otherwise}")
