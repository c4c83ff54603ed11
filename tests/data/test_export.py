"""Exports: index maps give the same federation again, and PFLlib's folder form reads back."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from atoll.data import load, rebuilt
from atoll.data.federation import SPLITS
from atoll.data.index_map import write_map
from atoll.data.pfllib_folder import write_pfllib
from atoll.data.sheet import split_hash
from atoll.data.sources.digits import read as digits
from tests.data.support import refuses

HOW = {"data": "digits", "skew": ["dirichlet:0.3"], "clients": 6, "seed": 3, "unseen": 0.2, "limit": 400, "public": 50}


@pytest.mark.parametrize("how", [HOW, {"data": "digits", "skew": ["swap:3"]}, {"data": "digits", "skew": ["window:3,every=2"]}])
def test_a_map_gives_the_same_federation_again(tmp_path, how):
    fed = load(**how)
    file = write_map(fed, tmp_path, how)
    assert split_hash(rebuilt(file)) == split_hash(fed)


def test_a_map_says_which_rows_of_the_source_are_whose(tmp_path):
    fed = load(**HOW)
    source = digits()
    with np.load(write_map(fed, tmp_path, HOW), allow_pickle=False) as content:
        assert content["names"].tolist() == list(fed.names)
        facts = json.loads(str(content["facts"]))
        taken = []
        for split in SPLITS:
            rows = np.split(content[f"{split}_rows"], np.cumsum(content[f"{split}_count"])[:-1])
            for i, of_client in enumerate(rows):
                first, n = fed.start[split][i], fed.count[split][i]
                np.testing.assert_array_equal(source.x[of_client], fed.x[first : first + n])
                np.testing.assert_array_equal(source.y[of_client], fed.y[first : first + n])
                taken += of_client.tolist()
    assert len(set(taken)) == len(taken) == 350
    assert facts["arguments"] == HOW
    assert facts["seen"] == 5
    assert facts["sha256"] == split_hash(fed)


def test_another_source_is_found_out(tmp_path):
    """A value, a label or a row that differs; none of them is in the map's own arrays but the last."""
    text = "client,a,label\n" + "".join(f"{i % 3},{i},{i % 2}\n" for i in range(30))
    table = tmp_path / "rows.csv"
    how = {"data": str(table), "client": "client", "label": "label"}
    table.write_text(text)
    file = write_map(load(**how), tmp_path / "map", how)
    for old, new, words in (("0,3,1", "0,33,1", ["sha256"]), ("0,3,1", "0,3,0", ["sha256"]), ("0,3,1\n", "", ["is not what rows by client gives"])):
        assert old in text
        table.write_text(text.replace(old, new, 1))
        with refuses("map.npz", *words):
            rebuilt(file)
    table.write_text(text)
    assert len(rebuilt(file).y) == 30


def test_what_can_not_be_mapped_is_refused(tmp_path):
    fed = load("digits", clients=2)
    with refuses("resample"):
        write_map(load("digits", skew="dirichlet:1", clients=3, resample="smote"), tmp_path, {})
    with refuses("JSON"):
        write_map(fed, tmp_path, {"data": "digits", "odd": {1, 2}})
    write_map(fed, tmp_path, {"data": "digits", "clients": 2})
    with refuses("is there already"):
        write_map(fed, tmp_path, {})
    with refuses("There is no index map"):
        rebuilt(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with refuses("text.npz is no index map"):
        rebuilt(tmp_path / "text.npz")
    np.savez(tmp_path / "later.npz", facts=np.array(json.dumps({"format": "atoll index map 9"})))
    with refuses("atoll index map 9"):
        rebuilt(tmp_path / "later.npz")


def seen_by_models(fed, split: str, client: int) -> np.ndarray:
    first, n = fed.start[split][client], fed.count[split][client]
    x = fed.x[first : first + n]
    return x if x.dtype == np.int32 else (x.astype(np.float32) - fed.shift) * fed.scale


@pytest.mark.parametrize(
    "how",
    [
        {"data": "digits", "clients": 3, "limit": 200},
        {"data": "digits", "clients": 5, "unseen": 0.4, "split": (0.7, 0, 0.3), "skew": "swap:2"},
        {"data": "synthetic", "clients": 3, "seed": 2},
    ],
)
def test_pfllibs_folder_reads_back(tmp_path, how):
    """The same values, labels, clients and test rows; the train rows are this one's train and validation rows."""
    fed = load(**how)
    back = load("pfllib", path=write_pfllib(fed, tmp_path / "out"), split=(0.8, 0, 0.2))
    assert len(back.labels) == len(fed.labels)
    assert len(back.names) == len(fed.names)
    for i in range(len(fed.names)):
        for split, ours in (("train", ("train", "validation")), ("test", ("test",))):
            x = np.concatenate([seen_by_models(fed, one, i) for one in ours])
            y = np.concatenate([fed.y[fed.start[one][i] :][: fed.count[one][i]] for one in ours])
            first, n = back.start[split][i], back.count[split][i]
            assert n == len(y)
            there = back.x[first : first + n].reshape(n, -1)
            order, other = np.lexsort(x.reshape(n, -1).T), np.lexsort(there.T)
            np.testing.assert_allclose(there[other], x.reshape(n, -1)[order], rtol=1e-6, atol=1e-6)
            np.testing.assert_array_equal(np.sort(back.y[first : first + n]), np.sort(y))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["num_clients"] == len(fed.names)
    assert config["num_classes"] == len(fed.labels)
    assert config["num_new_clients"] == len(fed.names) - fed.seen
    assert sum(n for client in config["Size of samples for labels in clients"] for _, n in client) == len(fed.y)


def test_pfllibs_files_are_as_it_writes_them(tmp_path):
    """One member, data.npy: an object array that holds the dict; images have their channel first, as PyTorch wants them."""
    fed = load("digits", clients=2)
    folder = write_pfllib(fed, tmp_path / "out")
    with zipfile.ZipFile(folder / "test" / "1.npz") as archive:
        assert archive.namelist() == ["data.npy"]
    with np.load(folder / "test" / "1.npz", allow_pickle=True) as content:
        data = content["data"].tolist()
    assert data["x"].shape == (fed.count["test"][1], 1, 8, 8)
    assert (data["x"].dtype, data["y"].dtype) == (np.float32, np.int64)
    assert data["x"].max() == 1
    colour = replace(fed, x=np.stack([fed.x] * 3, axis=-1))
    with np.load(write_pfllib(colour, tmp_path / "colour") / "train" / "0.npz", allow_pickle=True) as content:
        assert content["data"].tolist()["x"].shape[1:] == (3, 8, 8)


def test_a_class_that_nobody_has_is_kept(tmp_path):
    fed = load("digits", clients=2)
    fed = replace(fed, labels=(*fed.labels, "none"))
    assert len(load("pfllib", path=write_pfllib(fed, tmp_path / "out")).labels) == 11


def test_what_pfllib_can_not_hold_is_refused(tmp_path):
    with refuses("one label per row", "--format npz"):
        write_pfllib(load("linear", clients=2), tmp_path)
    with refuses("don't change over the rounds"):
        write_pfllib(load("digits", skew="window:3,every=2"), tmp_path)
    (tmp_path / "train").mkdir()
    with refuses("train is there already"):
        write_pfllib(load("digits", clients=2), tmp_path)
