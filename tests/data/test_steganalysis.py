"""Covers and stego images: what embedding changes, that messages can be read back, and that pairs are never parted."""

from __future__ import annotations

import numpy as np
import pytest

from atoll.data import load
from atoll.data.building import assemble
from atoll.data.federation import SPLITS
from atoll.data.sources.steganalysis import embed, extract, patches
from atoll.data.table import Table
from tests.data.support import owners, refuses, write_png


def split_of(fed) -> np.ndarray:
    """int [rows], the split of each row."""
    return np.repeat(np.arange(3), [fed.count[split].sum() for split in SPLITS])


def covers_of(fed) -> np.ndarray:
    """int [stego rows], the row of the cover of each stego row: the only one that differs by 1 at most."""
    x, covers, stegos = fed.x.astype(int), np.flatnonzero(fed.y == 0), np.flatnonzero(fed.y == 1)
    near = [covers[np.abs(x[covers] - x[row]).max(axis=(1, 2)) <= 1] for row in stegos]
    assert {len(found) for found in near} == {1}
    return np.concatenate(near)


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_a_message_can_be_read_back_and_half_of_its_pixels_change(rate):
    random = np.random.default_rng(0)
    cover = random.integers(0, 256, (400, 500)).astype(np.uint8)
    cover[:20], cover[20:40] = 0, 255  # values that can go one way only
    message = random.integers(0, 2, round(rate * cover.size))
    stego = embed(cover, message, 7)
    change = stego.astype(int) - cover
    assert stego.dtype == np.uint8
    assert np.abs(change).max() == (rate > 0)
    np.testing.assert_array_equal(extract(stego, len(message), 7), message)
    deviation = (rate / 4 / cover.size) ** 0.5  # of the share of changes, were they independent with probability rate / 2
    assert abs((change != 0).mean() - rate / 2) <= 4 * deviation
    inner = change[40:][change[40:] != 0]
    assert abs((inner > 0).mean() - 0.5) <= 2 / max(len(inner), 1) ** 0.5 if rate else not len(inner)
    if rate == 1:
        assert (extract(stego, len(message), 8) == message).mean() == pytest.approx(0.5, abs=0.01)  # another key reads noise


def test_patches_lie_side_by_side():
    image = np.arange(7 * 10).reshape(7, 10).astype(np.uint8)
    found = patches(image, 3)
    assert found.shape == (6, 3, 3)
    np.testing.assert_array_equal(found[4], image[3:6, 3:6])


@pytest.mark.parametrize("seed", [0, 1])
def test_pairs_stay_in_one_client_and_one_split(seed):
    fed = load("steganalysis", seed=seed, split=(0.5, 0.2, 0.3))
    assert fed.names == tuple(f"{photo} {i}" for photo in ("china", "flower") for i in (1, 2, 3))
    assert fed.x.shape == (1040, 32, 32)
    cover, stego, owner, split = covers_of(fed), np.flatnonzero(fed.y == 1), owners(fed), split_of(fed)
    assert sorted(cover) == np.flatnonzero(fed.y == 0).tolist()
    np.testing.assert_array_equal(owner[cover], owner[stego])
    np.testing.assert_array_equal(split[cover], split[stego])
    for i, rate in enumerate([1, 0.5, 0.25] * 2):  # of the message bits, half change a pixel
        mine = owner[stego] == i
        changed = (fed.x[cover[mine]] != fed.x[stego[mine]]).mean()
        assert changed == pytest.approx(rate / 2, abs=4 * (rate / 4 / (mine.sum() * 1024)) ** 0.5)
    np.testing.assert_array_equal(fed.groups, [0, 1, 2] * 2)
    shares = np.array([fed.count[name] for name in SPLITS]) / sum(fed.count.values())
    np.testing.assert_allclose(shares, np.repeat([[0.5], [0.2], [0.3]], 6, axis=1), atol=0.03)


def test_another_seed_hides_another_message():
    one, two = load("steganalysis", seed=0), load("steganalysis", seed=1)
    a, b = ({x.tobytes() for x in fed.x[fed.y == 1]} for fed in (one, two))
    assert not a & b
    assert {x.tobytes() for x in one.x[one.y == 0]} == {x.tobytes() for x in two.x[two.y == 0]}


def test_units_of_any_size_are_never_parted():
    """Clients of 2 to 60 rows in units of 1 to 5: every unit lies in one split, and splits have about their share."""
    random = np.random.default_rng(0)
    unit = np.repeat(np.arange(300), random.integers(1, 6, 300))
    owner = np.repeat(np.sort(random.integers(0, 20, 300)), np.bincount(unit))
    table = Table("units", unit[:, None].astype(np.float32), np.zeros(len(unit), np.int32), ("a",), owner=owner, names=tuple(map(str, range(20))), unit=unit)
    shuffled = table.take(random.permutation(len(unit)))
    fed = assemble(shuffled, seed=0, unseen=0.0, split=(0.6, 0.2, 0.2))
    found, split = fed.x[:, 0].astype(int), split_of(fed)
    assert all(len(set(split[found == u])) == 1 for u in range(300))
    assert np.bincount(found).tolist() == np.bincount(unit).tolist()
    np.testing.assert_allclose(np.bincount(split) / len(split), [0.6, 0.2, 0.2], atol=0.06)
    again = assemble(shuffled, seed=1, unseen=0.0, split=(0.6, 0.2, 0.2))
    assert set(fed.x[split == 2, 0]) != set(again.x[split_of(again) == 2, 0])


def test_a_folder_of_images_of_ones_own(tmp_path):
    random = np.random.default_rng(0)
    grey, colour = random.integers(0, 256, (40, 32, 1)).astype(np.uint8), random.integers(0, 256, (33, 24, 3)).astype(np.uint8)
    write_png(tmp_path / "b.png", grey)
    write_png(tmp_path / "a.png", colour)
    fed = load("steganalysis", path=tmp_path, side=8, clients=3, rates=[0.5])
    assert fed.names == ("a 1", "a 2", "b 1")
    luma = patches(np.rint(colour @ np.array([0.299, 0.587, 0.114])).astype(np.uint8), 8)
    covers = fed.x[fed.y == 0]
    assert {x.tobytes() for x in covers} == {x.tobytes() for x in (*luma, *patches(grey[..., 0], 8))}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"rates": [1.5]}, ["rates=[1.5]", "0 to 1"]),
        ({"rates": []}, ["rates=[]"]),
        ({"side": 4}, ["side=4", "at least 8"]),
        ({"clients": 1}, ["2 images", "clients=1"]),
        ({"clients": 600}, ["260 patches of 32x32", "smaller side"]),
        ({"limit": 10}, ["limit=10 is too few", "24 at least"]),
        ({"public": 1}, ["fewer than belong together"]),
        ({"skew": "dirichlet:0.1"}, ["belong together", "dirichlet"]),
        ({"path": "nowhere"}, ["no folder"]),
    ],
)
def test_what_can_not_be_is_refused(how, words):
    with refuses(*words):
        load("steganalysis", **how)


def test_pairs_stay_whole_where_rows_are_limited_or_given_away():
    """An odd number is made even. Covers and their stego images differ by 1 at most, and patches of a photo by more."""
    fed = load("steganalysis", limit=101, public=31)
    assert fed.public is not None
    for x, y in ((fed.x, fed.y), fed.public):
        covers, stegos = x[y == 0].astype(int), x[y == 1].astype(int)
        apart = np.abs(covers[:, None] - stegos[None]).max(axis=(2, 3))
        assert ((apart <= 1).sum(axis=1) == 1).all()
        assert ((apart <= 1).sum(axis=0) == 1).all()
    assert (len(fed.y), len(fed.public[1])) == (70, 30)
    assert len(fed.names) == 6


def test_folders_without_readable_images_are_refused(tmp_path):
    with refuses("has no images", ".png"):
        load("steganalysis", path=tmp_path)
    (tmp_path / "a.png").write_text("no image")
    with refuses("a.png", "can't be read as an image"):
        load("steganalysis", path=tmp_path)
