"""EMNIST from small files of its two forms."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from scipy.io import savemat

from atoll.data import load
from atoll.data.sources import read
from tests.data.idx_files import idx
from tests.data.support import owners, refuses


def images(first: int, n: int) -> np.ndarray:
    """uint8 [n, 28, 28], upright: the number of the image in the upper right corner, 7 below it."""
    x = np.zeros((n, 28, 28), np.uint8)
    x[:, 0, 27] = np.arange(first, first + n)
    x[:, 1, 27] = 7
    return x


def idx_folder(tmp_path, zipped: bool = True):
    for half, first, n in (("train", 0, 30), ("test", 30, 10)):
        for what, array in (("images-idx3", images(first, n).transpose(0, 2, 1)), ("labels-idx1", 1 + np.arange(first, first + n) % 26)):
            content = idx(array)
            name = f"emnist-letters-{half}-{what}-ubyte"
            (tmp_path / (f"{name}.gz" if zipped else name)).write_bytes(gzip.compress(content) if zipped else content)
    (tmp_path / "emnist-letters-mapping.txt").write_text("".join(f"{i + 1} {65 + i} {97 + i}\n" for i in range(26)))
    return tmp_path


@pytest.mark.parametrize("zipped", [True, False])
def test_letters_of_idx_files(tmp_path, zipped):
    table = read("emnist", None, 0, {"path": idx_folder(tmp_path, zipped), "part": "letters"})
    np.testing.assert_array_equal(table.x, images(0, 40))
    assert table.labels == tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert table.y.tolist() == [i % 26 for i in range(40)]
    assert table.owner is None
    assert len(load("emnist", path=tmp_path, part="letters", skew="iid", clients=4).names) == 4


def matlab(tmp_path, **changes):
    """Writers 5, 9 and 2200; 2200 has one image."""
    writer = np.array([5, 9, 2200] + [5, 9] * 9)

    def half(first, n):
        flat = images(first, n).transpose(0, 2, 1).reshape(n, 784)
        return {"images": flat, "labels": np.arange(first, first + n)[:, None] % 3, "writers": writer[first : first + n, None]}

    content = {"train": half(0, 15), "test": half(15, 6), "mapping": np.array([[0, 48], [1, 65], [2, 97]]), **changes}
    savemat(tmp_path / "emnist-byclass.mat", {"dataset": content})
    return writer


def test_writers_of_the_matlab_file(tmp_path):
    writer = matlab(tmp_path)
    table = read("emnist", None, 0, {"path": tmp_path, "part": "byclass", "least": 3})
    assert table.names == ("writer 5", "writer 9")
    kept = np.flatnonzero(writer != 2200)
    np.testing.assert_array_equal(table.x, images(0, 21)[kept])
    np.testing.assert_array_equal(table.y, kept % 3)
    np.testing.assert_array_equal(table.owner, writer[kept] == 9)
    assert table.labels == ("0", "A", "a")
    fed = load("emnist", path=tmp_path, part="byclass", least=3)
    assert fed.name == "emnist byclass by writer"
    assert np.bincount(owners(fed)).tolist() == [10, 10]


def test_files_that_are_not_emnist(tmp_path):
    with refuses("Did you mean letters?"):
        load("emnist", path=tmp_path, part="letter")
    with refuses("neither emnist-letters.mat nor emnist-letters-train-images-idx3-ubyte"):
        load("emnist", path=tmp_path, part="letters")
    idx_folder(tmp_path)
    (tmp_path / "emnist-letters-mapping.txt").write_text("1 65\n2 66\n")
    with refuses("don't fit together"):
        load("emnist", path=tmp_path, part="letters")
    (tmp_path / "emnist-letters-mapping.txt").write_text("one A\n")
    with refuses("emnist-letters-mapping.txt can't be read"):
        load("emnist", path=tmp_path, part="letters")
    (tmp_path / "emnist-byclass.mat").write_bytes(b"nothing")
    with refuses("emnist-byclass.mat can't be read"):
        load("emnist", path=tmp_path, part="byclass")
    matlab(tmp_path)
    with refuses("no writer has 30 images"):
        load("emnist", path=tmp_path, part="byclass", least=30)
    savemat(tmp_path / "emnist-byclass.mat", {"other": 1})
    with refuses("emnist-byclass.mat can't be read"):
        load("emnist", path=tmp_path, part="byclass")
