"""CIFAR-10 and CIFAR-100 from small folders and archives of the real forms."""

from __future__ import annotations

import pickle
import tarfile

import numpy as np
import pytest

from atoll.data import load
from atoll.data.sources import read
from atoll.data.sources.cifar import BATCHES
from tests.data.python2 import python2_pickle
from tests.data.support import refuses


def pixels(first: int, n: int) -> np.ndarray:
    """uint8 [n, 3072]: reds are the image's number, greens the row, blues the column."""
    i, row, column = np.arange(first, first + n)[:, None, None], np.arange(32)[:, None], np.arange(32)
    planes = [np.broadcast_to(plane, (n, 32, 32)) for plane in (i, row[None], column[None, None])]
    return np.stack(planes, axis=1).reshape(n, -1).astype(np.uint8)


def ten(folder, binary: bool):
    folder.mkdir()
    for b, name in enumerate(BATCHES):
        x, y = pixels(4 * b, 4), [(4 * b + i) % 10 for i in range(4)]
        if binary:
            (folder / f"{name}.bin").write_bytes(b"".join(bytes([label]) + row.tobytes() for row, label in zip(x, y, strict=True)))
        else:
            content = {"batch_label": f"batch {b}", "labels": y, "data": x, "filenames": [f"{i}.png" for i in range(4)]}
            (folder / name).write_bytes(python2_pickle(content))
    return folder


def hundred(folder, binary: bool):
    folder.mkdir()
    names = {"fine": [f"fine {i}".replace(" ", "_") for i in range(100)], "coarse": [f"coarse_{i}" for i in range(20)]}
    for first, name in ((0, "train"), (30, "test")):
        x, fine = pixels(first, 30), [(first + i) * 7 % 100 for i in range(30)]
        coarse = [label // 5 for label in fine]
        if binary:
            (folder / f"{name}.bin").write_bytes(b"".join(bytes([c, f]) + row.tobytes() for row, f, c in zip(x, fine, coarse, strict=True)))
        else:
            (folder / name).write_bytes(python2_pickle({"fine_labels": fine, "coarse_labels": coarse, "data": x, "filenames": ["a.png"] * 30}))
    for kind, texts in names.items():
        if binary:
            (folder / f"{kind}_label_names.txt").write_text("\n".join(texts) + "\n")
    if not binary:
        (folder / "meta").write_bytes(python2_pickle({f"{kind}_label_names": texts for kind, texts in names.items()}))
    return folder


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("archived", [False, True])
def test_ten_classes(tmp_path, binary, archived):
    folder = ten(tmp_path / f"cifar-10-batches-{'bin' if binary else 'py'}", binary)
    if archived:
        with tarfile.open(tmp_path / "cifar.tar.gz", "w:gz") as tar:
            tar.add(folder, folder.name)
    table = read("cifar10", None, 0, {"path": tmp_path / "cifar.tar.gz" if archived else folder})
    assert table.x.shape == (24, 32, 32, 3)
    assert (table.x[..., 0] == np.arange(24)[:, None, None]).all()
    assert (table.x[..., 1] == np.arange(32)[:, None]).all()
    assert (table.x[..., 2] == np.arange(32)).all()
    assert table.y.tolist() == [i % 10 for i in range(24)]
    assert table.labels[3] == "cat"
    assert len(load("cifar10", path=folder, skew="iid", clients=3).names) == 3


@pytest.mark.parametrize("binary", [False, True])
def test_a_hundred_classes(tmp_path, binary):
    folder = hundred(tmp_path / "cifar-100", binary)
    fine, coarse = (read("cifar100", None, 0, {"path": folder, "labels": labels}) for labels in ("fine", "coarse"))
    assert fine.y.tolist() == [i * 7 % 100 for i in range(60)]
    assert coarse.y.tolist() == [i * 7 % 100 // 5 for i in range(60)]
    assert fine.labels[12] == "fine_12"
    assert len(coarse.labels) == 20
    with refuses("Unknown labels of cifar100", "fine"):
        load("cifar100", path=folder, labels="fines")


class Call:
    def __reduce__(self):
        return eval, ("1/0",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps(Call(), protocol=2), ["__builtin__.eval", "Don't trust"]),
        (pickle.dumps({"data": 1}), ["'labels'"]),
        (pickle.dumps({"data": np.zeros((2, 5), np.uint8), "labels": [0, 1]}), ["must be uint8 [rows, 3072]"]),
        (pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]}), ["label 10 is out of range"]),
        (b"", ["can't be read"]),
    ],
)
def test_batches_that_are_none(tmp_path, content, words):
    folder = ten(tmp_path / "cifar-10-batches-py", False)
    (folder / "test_batch").write_bytes(content)
    with refuses("cifar-10-batches-py", *words):
        load("cifar10", path=folder)


def test_folders_that_are_not_cifar(tmp_path):
    with refuses("give path=FOLDER", "www.cs.toronto.edu"):
        load("cifar10")
    with refuses("There is no"):
        load("cifar10", path=tmp_path / "none")
    with refuses("neither data_batch_1 nor data_batch_1.bin"):
        load("cifar10", path=tmp_path)
    (tmp_path / "data_batch_1.bin").write_bytes(b"x" * 100)
    with refuses("data_batch_1.bin has 100 bytes"):
        load("cifar10", path=tmp_path)
    with refuses("neither a folder nor an archive"):
        load("cifar10", path=tmp_path / "data_batch_1.bin")
    folder = hundred(tmp_path / "cifar-100", True)
    (folder / "fine_label_names.txt").unlink()
    with refuses("neither fine_label_names.txt nor meta"):
        load("cifar100", path=folder)
