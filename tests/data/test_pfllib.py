"""Datasets that PFLlib has written."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atoll.data import load
from tests.data.support import numbered, owners, refuses

# np.savez_compressed(file, data={"x": np.arange(12, dtype=np.float32).reshape(3, 4), "y": np.array([0, 1, 2])}) under NumPy 1.26.4.
BY_NUMPY_1 = b64decode(
    "UEsDBC0AAAAIAAAAIQBzo57j//////////8IABQAZGF0YS5ucHkBABAAFAIAAAAAAABWAQAAAAAAAKWOy0rDQBSGJ029xVu913u8kRRK6cJFEaGWgguDqQSEupCSW0mhTXomUzHYQje1du0L+Cg+"
    "im+iJ2m6EJf+zH+GOXP4z/eu3t/ePXDkibxIlu2bVLoQpW5FyopS3aOM6m7No5Ydtq/1pm9j33f0to1vOZMVe+L/JPR50+202kHO9Kida3WarKFTqgdCjdqm5/qMdkwmABlPCa41/gVOIQNIlDkD+CEk"
    "NZiSFS4TD1ksaNsCTFcThJBKAWZGb0OY1WBOVvgqh70uCKqq3nyjoqIUGcwbo0dY6MGiHI08w5JDnGjLsoMrUhqs4AqFV5KvsOqMs+vnsBZmr2uwMcm+hM3f2YTBljEq50mkfhHLFR50H/2B/kR/oUmJ"
    "kBRaROdLkGawbUSZAexMYHZDmD0N9iOYARzEKI0CHIYoogZHiOL8hThGiDSJxcV3Ir7hhMGp0dEZnBm5H1BLAQItAy0AAAAIAAAAIQBzo57jVgEAABQCAAAIAAAAAAAAAAAAAACAAQAAAABkYXRhLm5w"
    "eVBLBQYAAAAAAQABADYAAACQAQAAAAA="
)


def write(folder: Path, *clients: tuple[int, int], x: Any = None) -> Path:
    """A dataset with (train, test) rows per client; x is the number of the row, y every third number."""
    at = 0
    for i, sizes in enumerate(clients):
        for split, n in zip(("train", "test"), sizes, strict=True):
            (folder / split).mkdir(parents=True, exist_ok=True)
            rows = numbered(at + n, 3)[at:] if x is None else x[at : at + n]
            np.savez_compressed(folder / split / f"{i}.npz", data={"x": rows, "y": np.arange(at, at + n) % 3})  # type: ignore[arg-type]
            at += n
    return folder


def test_clients_and_test_rows_stay_and_validation_comes_out_of_train_rows(tmp_path):
    fed = load("pfllib", path=write(tmp_path, (12, 5), (8, 3), (4, 1)))
    assert fed.names == ("client 0", "client 1", "client 2")
    assert [fed.count[split].tolist() for split in ("train", "validation", "test")] == [[9, 6, 3], [3, 2, 1], [5, 3, 1]]
    rows = fed.x[:, 0].astype(int)
    assert sorted(rows) == list(range(33))
    np.testing.assert_array_equal(fed.y, rows % 3)
    ends = np.array([17, 28, 33])
    np.testing.assert_array_equal(owners(fed), np.searchsorted(ends, rows, side="right"))
    test = rows[fed.start["test"][0] :]
    assert sorted(test) == [12, 13, 14, 15, 16, 25, 26, 27, 32]
    assert "25 % of each client's other rows" in fed.history[-1]


def test_limit_and_public_leave_what_is_needed(tmp_path):
    folder = write(tmp_path, (40, 10), (20, 10))
    fed = load("pfllib", path=folder, limit=30, public=6)
    assert fed.public is not None
    public = fed.public[0][:, 0].astype(int)
    assert not set(public) & {*range(40, 50), *range(70, 80)}
    assert len(fed.y) == 24
    assert sum(load("pfllib", path=folder, limit=4).count.values()).tolist() == [2, 2]


def test_client_ten_comes_after_client_nine(tmp_path):
    fed = load("pfllib", path=write(tmp_path, *[(3, 1)] * 11))
    assert fed.names[-1] == "client 10"
    assert fed.x[fed.start["test"][10], 0] == 43


def test_images_get_their_channels_last(tmp_path):
    x = np.arange(6 * 3 * 4 * 4, dtype=np.float64).reshape(6, 3, 4, 4)
    fed = load("pfllib", path=write(tmp_path / "colour", (4, 2), x=x))
    assert fed.x.shape == (6, 4, 4, 3)
    assert fed.x.dtype == np.float32
    np.testing.assert_array_equal(sorted(fed.x[:, 0, 1, 2]), x[:, 2, 0, 1])
    assert load("pfllib", path=write(tmp_path / "grey", (4, 2), x=x[:, :1])).x.shape == (6, 4, 4)
    assert load("pfllib", path=write(tmp_path / "sensor", (4, 2), x=x[:, :, :1])).x.shape == (6, 3, 1, 4)


def test_tokens_stay_whole_numbers(tmp_path):
    assert load("pfllib", path=write(tmp_path, (4, 2), x=np.arange(30).reshape(6, 5))).x.dtype == np.int32


def test_files_by_numpy_1(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "0.npz").write_bytes(BY_NUMPY_1)
    fed = load("pfllib", path=tmp_path)
    np.testing.assert_array_equal(fed.x[fed.start["test"][0] :], np.arange(12, dtype=np.float32).reshape(3, 4))
    assert fed.y[-3:].tolist() == [0, 1, 2]


class Evil:
    """Unpickling it makes a folder."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("inside", ["dict", "array", "alone"])
def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path, inside):
    folder, mark = write(tmp_path / "set", (4, 2)), tmp_path / "executed"
    evil = Evil(mark)
    objects = np.empty(4, object)
    objects[:] = [evil] * 4
    content: Any = {"dict": {"x": numbered(4), "y": np.arange(4), "z": evil}, "array": {"x": objects, "y": np.arange(4)}, "alone": evil}[inside]
    np.savez_compressed(folder / "train" / "0.npz", data=np.array(content, object))
    with refuses("0.npz", "mkdir", "only NumPy arrays", "Don't trust"):
        load("pfllib", path=folder)
    assert not mark.exists()
    if inside == "dict":  # the file is indeed dangerous
        np.load(folder / "train" / "0.npz", allow_pickle=True)["data"]
        assert mark.exists()


@pytest.mark.parametrize(
    "call",
    [b"cnumpy\nload\n", b"cbuiltins\neval\n", b"cnumpy\nfromfile\n", b"cnumpy.core.multiarray\nscalar\n", b"cnumpy\ndtype.__class__\n", b"cos\nsystem\n"],
)
def test_no_other_name_is_let_in(tmp_path, call):
    folder = write(tmp_path, (4, 2))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    with zipfile.ZipFile(folder / "train" / "0.npz", "w") as archive:
        archive.writestr("data.npy", header.getvalue() + call + b"(S'x'\ntR.")
    with refuses("only NumPy arrays are let in"):
        load("pfllib", path=folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"x": numbered(4)}, ["dict with the arrays 'x' and 'y'"]),
        ([1, 2], ["dict with the arrays"]),
        ({"x": numbered(4), "y": np.arange(3)}, ["[4, 1]", "[3]"]),
        ({"x": numbered(4), "y": np.array([0, 1, 1, -1])}, ["labels must be whole numbers from 0 on"]),
        ({"x": numbered(4), "y": np.array([0, 1, 1, 0.5])}, ["labels must be whole"]),
        ({"x": np.array([[1], [2, 3]], object)[:, None], "y": np.arange(2)}, ["x is object", "texts of different lengths"]),
        ({"x": numbered(4, 2), "y": np.arange(4)}, ["float32[3]", "float32[2]"]),
    ],
)
def test_files_that_are_not_right(tmp_path, content, words):
    folder = write(tmp_path, (4, 2), (4, 2))
    wrapped = np.empty((), object)
    wrapped[()] = content
    np.savez_compressed(folder / "train" / "1.npz", data=wrapped)
    with refuses("train/1.npz", *words):
        load("pfllib", path=folder)


def test_missing_values_are_found(tmp_path):
    x = numbered(6, 2)
    x[1, 1] = np.nan
    with refuses("not a finite number", "client 'client 0'", "value 1"):
        load("pfllib", path=write(tmp_path, (4, 2), x=x))


def test_damaged_and_foreign_files(tmp_path):
    folder = write(tmp_path, (4, 2), (4, 2))
    file = folder / "test" / "1.npz"
    whole = file.read_bytes()
    for content in (b"", b"no zip", whole[:100], whole[: len(whole) // 2]):
        file.write_bytes(content)
        with refuses("test/1.npz", "can't be read as a PFLlib file"):
            load("pfllib", path=folder)
    np.savez_compressed(file, data=np.arange(3))
    with refuses("test/1.npz", "'data' is an array int64[3], not a dict"):
        load("pfllib", path=folder)
    np.savez_compressed(file, other=np.arange(3))
    with refuses("test/1.npz", "data.npy"):
        load("pfllib", path=folder)
    file.unlink()
    with refuses("client 1 has a file in train, but none in test"):
        load("pfllib", path=folder)


def test_folders_that_are_not_right(tmp_path):
    with refuses("needs a folder", "--path"):
        load("pfllib")
    with refuses("no folder 'train'"):
        load("pfllib", path=tmp_path)
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
    with refuses("no files 0.npz"):
        load("pfllib", path=tmp_path)


def test_its_rows_can_not_be_dealt_out_anew(tmp_path):
    folder = write(tmp_path, (6, 2), (6, 2))
    with refuses("iid", "PFLlib has dealt its rows out"):
        load("pfllib", path=folder, skew="iid")
    assert load("pfllib", path=folder, skew=["natural", "swap:2"]).groups is not None


def test_the_pickles_numpy_writes_name_nothing_else():
    """What is let in is what NumPy's own pickles of arrays name, in the protocols that savez uses."""
    import pickletools

    for protocol in (3, 4):
        written = pickle.dumps(np.array({"x": numbered(3)}, object), protocol=protocol)
        named = [op for op, _, _ in pickletools.genops(written) if op.name in ("GLOBAL", "STACK_GLOBAL")]
        assert 1 <= len(named) <= 3
