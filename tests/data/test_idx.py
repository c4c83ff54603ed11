"""MNIST and sets of its form, from a folder."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from atoll.data import load
from atoll.data.sources.idx import FASHION_FOLDER, NAMES, read_idx
from tests.data.idx_files import idx, write_set
from tests.data.support import refuses

needs_fashion = pytest.mark.skipif(not FASHION_FOLDER.is_dir(), reason="needs Fashion-MNIST: apt install dataset-fashion-mnist")


@pytest.mark.parametrize("source", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("zipped", [True, False])
def test_four_files_in_a_folder(tmp_path, source, zipped):
    x, y = write_set(tmp_path, zipped=zipped)
    fed = load(source, path=tmp_path, skew="iid", clients=4)
    assert fed.x.shape == (80, 5, 5)
    assert fed.x.dtype == np.uint8
    assert fed.scale == 1 / 255
    given = {image.tobytes(): label for image, label in zip(x.astype(np.uint8), y, strict=True)}
    assert [given[image.tobytes()] for image in fed.x] == fed.y.tolist()


def test_names_with_a_dot_as_some_write_them(tmp_path):
    write_set(tmp_path, zipped=False)
    for name in NAMES:
        (tmp_path / name).rename(tmp_path / name.replace("-idx", ".idx"))
    assert len(load("mnist", path=tmp_path, clients=2).names) == 2


def test_files_that_are_not_right(tmp_path):
    write_set(tmp_path)
    images, labels = tmp_path / f"{NAMES[0]}.gz", tmp_path / f"{NAMES[1]}.gz"
    good, good_labels = images.read_bytes(), labels.read_bytes()
    whole = gzip.decompress(good)

    def refused(file, content, *words):
        before = file.read_bytes()
        file.write_bytes(content)
        with refuses(str(file.parent), *words):
            load("mnist", path=tmp_path, skew="iid")
        file.write_bytes(before)

    refused(images, gzip.compress(b"\x00\x00\x0d\x03" + whole[4:]), "no idx file of bytes", "00000d03")
    refused(images, gzip.compress(b""), "starts with nothing")
    refused(images, gzip.compress(whole[:-1]), "cut short", "1,515 bytes", "1,516")
    refused(images, gzip.compress(whole[:9]), "cut short")
    refused(images, good[:-20], "damaged")
    refused(images, b"<html>404</html>", "damaged or not gzipped")
    refused(images, gzip.compress(idx(np.zeros(60))), "[60]", "[rows, height, width]")
    refused(images, gzip.compress(idx(np.zeros((60, 5, 6)))), "[5, 6]", "[5, 5]")
    refused(labels, gzip.compress(idx(np.zeros(59))), "[60, 5, 5]", "[59]")
    refused(labels, gzip.compress(idx(np.array([3] * 59 + [10]))), "label 10 in row 59", "0 to 9")
    images.unlink()
    with refuses("has no train-images-idx3-ubyte", "path=FOLDER"):
        load("mnist", path=tmp_path)
    assert images.exists() is False
    images.write_bytes(good)
    labels.write_bytes(good_labels)
    assert len(read_idx(images)) == 60


def test_no_rows(tmp_path):
    write_set(tmp_path, train=0, test=0)
    with refuses("no rows"):
        load("mnist", path=tmp_path)


def test_a_folder_that_is_not_there(tmp_path):
    with refuses("There is no folder"):
        load("mnist", path=tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with refuses("is a file", "reads a folder"):
        load("mnist", path=tmp_path / "file")


def test_without_natural_clients_the_default_is_dirichlet(tmp_path):
    write_set(tmp_path, train=300)
    fed = load("mnist", path=tmp_path)
    assert len(fed.names) == 20
    assert fed.name == "mnist, dirichlet:0.1"
    with refuses("no natural clients", "dirichlet:0.1"):
        load("mnist", path=tmp_path, skew="natural")


@needs_fashion
def test_fashion_mnist_is_what_its_authors_say():
    fed = load("fashion-mnist", skew="iid", clients=10)
    assert fed.x.shape == (70_000, 28, 28)
    assert np.bincount(fed.y).tolist() == [7_000] * 10
    train = read_idx(FASHION_FOLDER / f"{NAMES[0]}.gz")
    assert np.bincount(read_idx(FASHION_FOLDER / f"{NAMES[1]}.gz")).tolist() == [6_000] * 10
    assert np.bincount(read_idx(FASHION_FOLDER / f"{NAMES[3]}.gz")).tolist() == [1_000] * 10
    assert train.mean() == pytest.approx(72.94, abs=0.01)


@needs_fashion
def test_fashion_mnist_dealt_out_by_classes():
    fed = load("fashion-mnist", skew=["classes:2", "rotate:4"], clients=100, limit=20_000)
    assert sum(int(c.sum()) for c in fed.count.values()) == 20_000
    assert fed.groups is not None
    assert np.bincount(fed.groups).tolist() == [25] * 4
