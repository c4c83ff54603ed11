"""Datasets in the form of the Hugging Face Hub, written here by its own library."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import pytest

from atoll.data import load
from atoll.data.sources import read
from tests.data.support import refuses

needs_datasets = pytest.mark.skipif(find_spec("datasets") is None or find_spec("PIL") is None, reason="needs the library datasets: pip install 'atoll[hub]'")


def hub(path, **options):
    return read("hub", None, 0, {"path": path, **options})


@pytest.fixture
def quiet(tmp_path, monkeypatch):
    """The library keeps what it prepares in a folder of its own; here in the test's."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    return datasets


def pictures(n: int, colour: bool = False, side: int = 6) -> list:
    from PIL import Image

    return [Image.fromarray(np.full((side, side, 3) if colour else (side, side), i, np.uint8)) for i in range(n)]


def characters(datasets, n: int = 12):
    features = datasets.Features({"image": datasets.Image(), "writer_id": datasets.Value("string"), "character": datasets.ClassLabel(names=["z", "b", "a"])})
    rows = {"image": pictures(n), "writer_id": [f"w{i % 3}" for i in range(n)], "character": [i % 2 for i in range(n)]}
    return datasets.Dataset.from_dict(rows, features=features)


@needs_datasets
def test_images_saved_or_in_parquet(quiet, tmp_path):
    """Classes are in the dataset's order, with the one that no row has; splits are pooled."""
    data = characters(quiet)
    (tmp_path / "parquet").mkdir()
    data.to_parquet(tmp_path / "parquet" / "train.parquet")
    data.save_to_disk(tmp_path / "saved")
    quiet.DatasetDict({"train": data.select(range(8)), "test": data.select(range(8, 12))}).save_to_disk(tmp_path / "split")
    for name in ("parquet", "saved", "split"):
        table = hub(tmp_path / name, client="writer_id", label="character", image="image")
        assert table.labels == ("z", "b", "a")
        assert table.names == ("w0", "w1", "w2")
        assert (table.x == np.arange(12)[:, None, None]).all()
        assert (table.x.dtype, table.x.shape) == (np.uint8, (12, 6, 6))
        assert table.y.tolist() == [i % 2 for i in range(12)]
        assert table.owner.tolist() == [i % 3 for i in range(12)]
    assert len(hub(tmp_path / "split", client="writer_id", label="character", image="image", split="test").y) == 4
    fed = load("hub", path=tmp_path / "saved", client="writer_id", label="character", image="image")
    assert fed.name.endswith("saved by writer_id")
    with refuses("Unknown split 'tset'", "test"):
        hub(tmp_path / "split", label="character", image="image", split="tset")


@needs_datasets
def test_images_of_several_sizes(quiet, tmp_path):
    rows = {"image": [*pictures(2), *pictures(2, colour=True, side=9)], "label": ["a", "b", "a", "b"]}
    features = quiet.Features({"image": quiet.Image(), "label": quiet.Value("string")})
    quiet.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    with refuses("images are 6x6, but 9x9 in row 2", "side=N"):
        hub(tmp_path / "saved", label="label", image="image")
    table = hub(tmp_path / "saved", label="label", image="image", side=3)
    assert table.x.shape == (4, 3, 3, 3)
    assert table.x[:, 0, 0, 0].tolist() == [0, 1, 0, 1]
    assert table.owner is None


@needs_datasets
def test_texts_of_json_lines(quiet, tmp_path):
    rows = [{"user": f"u{i % 2}", "said": f"word{i % 3} again", "mood": i % 2} for i in range(8)]
    (tmp_path / "jsonl").mkdir()
    (tmp_path / "jsonl" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = hub(tmp_path / "jsonl", client="user", label="mood", text="said", length=4, vocabulary=100)
    assert table.x.shape == (8, 4)
    assert table.x.dtype == np.int32
    assert (table.x[:, 2:] == 0).all()
    assert len(set(table.x[:, 0].tolist())) == 3
    assert len(set(table.x[:, 1].tolist())) == 1
    characters = hub(tmp_path / "jsonl", client="user", label="mood", text="said", tokens="characters", length=5)
    assert characters.x[0].tolist() == [1 + ord(c) for c in "word0"]
    with refuses("not a text"):
        hub(tmp_path / "jsonl", label="user", text="mood")


@needs_datasets
def test_features_of_a_csv_file(quiet, tmp_path):
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "train.csv").write_text("id,a,kind,outcome\n" + "".join(f"{i % 2},{i},{'xy'[i % 2]},{i / 2}\n" for i in range(6)))
    table = hub(tmp_path / "csv", client="id", label="outcome", task="regression")
    assert table.labels == ()
    assert table.y.tolist() == [0, 0.5, 1, 1.5, 2, 2.5]
    assert table.x.tolist() == [[i, i % 2 == 0, i % 2 == 1] for i in range(6)]
    assert hub(tmp_path / "csv", label="kind", features="a").x.tolist() == [[i] for i in range(6)]


@needs_datasets
def test_what_is_not_there(quiet, tmp_path):
    characters(quiet).save_to_disk(tmp_path / "saved")
    with refuses("which column is to be predicted?", "character"):
        hub(tmp_path / "saved")
    with refuses("Unknown column 'writer'", "writer_id"):
        hub(tmp_path / "saved", label="character", client="writer")
    with refuses("holds str, not images"):
        hub(tmp_path / "saved", label="character", image="writer_id")
    with refuses("image or text"):
        hub(tmp_path / "saved", label="character", image="image", text="writer_id")
    (tmp_path / "empty").mkdir()
    with refuses("can't be loaded by the library datasets"):
        hub(tmp_path / "empty", label="character")


def test_what_the_source_needs(monkeypatch, tmp_path):
    with refuses("name=OWNER/NAME", "path=FOLDER"):
        load("hub")
    with refuses("not both"):
        load("hub", path=tmp_path, name="a/b")

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("atoll.data.sources.hub.import_module", missing)
    with refuses("pip install 'atoll[hub]'"):
        load("hub", path=tmp_path)
