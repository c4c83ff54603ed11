"""LEAF's JSON files: small ones of each dataset's form."""

from __future__ import annotations

import json

import numpy as np
import pytest

from atoll.data import load
from atoll.data.sources import read
from atoll.data.table import FREE, TEST
from tests.data.support import refuses, write_png


def written(folder, where: str, users: dict[str, tuple[list, list]]):
    file = folder / where
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "users": list(users),
        "num_samples": [len(y) for _, y in users.values()],
        "user_data": {user: {"x": x, "y": y} for user, (x, y) in users.items()},
    }
    file.write_text(json.dumps(content))
    return folder


def leaf(folder, **options):
    return read("leaf", None, 0, {"path": folder, **options})


def image(value: int) -> list[float]:
    return [(value + i % 3) / 255 for i in range(784)]


def test_femnist_split_by_sample(tmp_path):
    """Two files of writers, as LEAF numbers them; a writer's test rows stay test rows."""
    written(tmp_path, "train/all_data_0_niid_0_keep_0_train_9.json", {"f0001_41": ([image(1), image(2)], [10, 61]), "f0002_01": ([image(3)], [0])})
    written(tmp_path, "test/all_data_0_niid_0_keep_0_test_9.json", {"f0001_41": ([image(4)], [36]), "f0002_01": ([image(5)], [1])})
    written(tmp_path, "train/all_data_1_niid_0_keep_0_train_9.json", {"f0000_07": ([image(6)], [2])})
    written(tmp_path, "test/all_data_1_niid_0_keep_0_test_9.json", {"f0000_07": ([image(7)], [3]), "alone": ([image(8)], [3])})
    table = leaf(tmp_path)
    assert table.name == "leaf femnist"
    assert table.names == ("f0000_07", "f0001_41", "f0002_01")  # the one without train rows is left out
    assert table.x.dtype == np.uint8
    assert table.x.shape == (7, 28, 28)
    assert len(table.labels) == 62
    found = {(table.names[o], int(x[0, 0]), table.labels[y], int(p)) for o, x, y, p in zip(table.owner, table.x, table.y, table.part, strict=True)}
    assert found == {
        ("f0001_41", 1, "A", FREE), ("f0001_41", 2, "z", FREE), ("f0001_41", 4, "a", TEST), ("f0002_01", 3, "0", FREE),
        ("f0002_01", 5, "1", TEST), ("f0000_07", 6, "2", FREE), ("f0000_07", 7, "3", TEST),
    }  # fmt: skip
    np.testing.assert_array_equal(table.x[table.x[:, 0, 0] == 1][0].ravel()[:4], [1, 2, 3, 1])
    fed = load("leaf", path=tmp_path)
    assert fed.name == "leaf femnist by writer"
    assert fed.count["test"].tolist() == [1, 1, 1]
    with refuses("LEAF has set test rows apart already"):
        load("leaf", path=tmp_path, skew="iid")


def test_a_dataset_split_by_user_or_not_at_all(tmp_path):
    """Users of the test file are clients like others, and rows are split here."""
    users = {f"u{i}": ([[i, j, 0.5] for j in range(4)], [j % 2 for j in range(4)]) for i in range(4)}
    written(tmp_path / "by user", "data/train/data_train_9.json", {name: users[name] for name in ("u0", "u1")})
    written(tmp_path / "by user", "data/test/data_test_9.json", {name: users[name] for name in ("u2", "u3")})
    written(tmp_path / "whole", "data/all_data/data.json", users)
    written(tmp_path / "files", "data.json", users)
    written(tmp_path / "sampled", "all_data/all_data.json", {"other": ([[9, 9, 9]] * 4, [0, 1, 0, 1])})
    written(tmp_path / "sampled", "sampled_data/all_data_niid_01.json", users)
    for path in (tmp_path / "by user", tmp_path / "whole", tmp_path / "files", tmp_path / "files" / "data.json", tmp_path / "sampled"):
        table = leaf(path)
        assert table.names == ("u0", "u1", "u2", "u3")
        assert table.part is None
        assert table.x[:, 0].tolist() == table.owner.tolist()
        assert table.x[:, 1].tolist() == [0, 1, 2, 3] * 4
        assert table.labels == ("0", "1")
    assert len(load("leaf", path=tmp_path / "whole", skew="iid", clients=2).names) == 2
    written(tmp_path / "whole", "data/all_data/data.json", {**users, "few": ([[1, 2, 3]], [1])})
    assert leaf(tmp_path / "whole").names == ("u0", "u1", "u2", "u3")
    with refuses("no user has 9 rows"):
        leaf(tmp_path / "whole", least=9)


def test_validation_rows_of_its_own(tmp_path):
    for split, first, n in (("train", 0, 5), ("val", 10, 2), ("test", 20, 3)):
        written(tmp_path, f"{split}/{split}_data.json", {user: ([[i, i] for i in range(first, first + n)], [i % 2 for i in range(n)]) for user in "ab"})
    fed = load("leaf", path=tmp_path)
    for split, first, n in (("train", 0, 5), ("validation", 10, 2), ("test", 20, 3)):
        assert fed.count[split].tolist() == [n, n]
        for client in range(2):
            start = fed.start[split][client]
            assert sorted(fed.x[start : start + n, 0].tolist()) == list(range(first, first + n))


def test_celeba_reads_images_by_name(tmp_path):
    """Images 20 high and 10 wide, dark above and bright below, made 8 by 8."""
    photo = np.zeros((20, 10, 3), np.uint8)
    photo[10:] = (100, 150, 200)
    for name, pixels in (("000001.png", photo), ("000002.png", photo // 2)):
        write_png(tmp_path / name, pixels)
    written(tmp_path, "train/a.json", {"7": (["000001.png"], [1.0]), "9": (["000002.png"], [0.0])})
    written(tmp_path, "test/a.json", {"7": (["000002.png"], [0.0]), "9": (["000001.png"], [1.0])})
    table = leaf(tmp_path, images=tmp_path, side=8)
    assert table.labels == ("not smiling", "smiling")
    assert table.x.shape == (4, 8, 8, 3)
    assert (table.x[:, :4] == 0).all()
    for x, y in zip(table.x, table.y, strict=True):
        assert (x[4:] == np.array([100, 150, 200]) // (1 if y else 2)).all()
    with refuses("Give images=FOLDER", "img_align_celeba"):
        leaf(tmp_path)
    (tmp_path / "000002.png").unlink()
    with refuses("has no 000002.png"):
        leaf(tmp_path, images=tmp_path)


def test_shakespeare_foretells_the_next_character(tmp_path):
    written(tmp_path, "train/a.json", {"HAMLET_BERNARDO": (["Who'", "s th"], ["s", "e"])})
    written(tmp_path, "test/a.json", {"HAMLET_BERNARDO": (["re?\n"], [" "])})
    table = leaf(tmp_path)
    letters = [{"newline": "\n", "space": " "}.get(name, name) for name in table.labels]
    assert ["".join(letters[token] for token in row) for row in table.x] == ["Who'", "s th", "re?\n"]
    assert [letters[token] for token in table.y] == ["s", "e", " "]
    assert table.x.dtype == np.int32
    assert f"vocabulary={len(letters)}" in table.history[1]
    written(tmp_path, "test/a.json", {"HAMLET_BERNARDO": (["re?"], [" "])})
    with refuses("texts of 4 characters", "HAMLET_BERNARDO"):
        leaf(tmp_path)


def test_tweets_become_hashed_words(tmp_path):
    tweet = ["1467", "Mon Apr 06", "NO_QUERY", "ann", "Good morning, good reef!"]
    written(tmp_path, "all_data/all_data.json", {"ann": ([tweet, [*tweet[:4], "Bad!"]], [1, 0]), "bob": ([[*tweet[:4], "reef"]] * 2, [1, 1])})
    table = leaf(tmp_path, length=5, vocabulary=50)
    assert table.labels == ("negative", "positive")
    good, morning, comma, again, reef = table.x[0].tolist()
    assert good == again
    assert len({good, morning, comma, reef}) == 4
    assert 0 < table.x[table.x > 0].min() <= table.x.max() < 50
    assert (table.x[1] > 0).tolist() == [True, True, False, False, False]
    assert table.x[2].tolist() == [reef, 0, 0, 0, 0]


def test_comments_become_a_stream_of_words(tmp_path):
    """Two comments of a user: "a b c" in pieces of two, and "a d", filled up with <PAD>. The last target ends a comment."""
    x = [[["<BOS>", "a"], ["b", "c"]], [["<BOS>", "a"], ["d", "<PAD>"]]]
    y = [
        {"target_tokens": [["a", "b"], ["c", "<EOS>"]], "count_tokens": [[1, 1], [1, 1]], "subreddit": "reef"},
        {"target_tokens": [["a", "d"], ["<EOS>", "<PAD>"]], "count_tokens": [[1, 1], [1, 0]], "subreddit": "reef"},
    ]
    written(tmp_path, "train/a.json", {"1": (x, y)})
    written(tmp_path, "test/a.json", {"1": (x[:1], y[:1])})
    table = leaf(tmp_path, length=4, vocabulary=5)
    words = lambda rows: [[table.labels[token] for token in row] for row in rows]  # noqa: E731
    # <BOS>, <EOS> and a occur three times, b and c twice: with <unknown> they make five.
    assert set(table.labels) == {"<unknown>", "<BOS>", "<EOS>", "a", "b"}
    assert words(table.x) == [["<BOS>", "a", "b", "<unknown>"], ["<EOS>", "<BOS>", "a", "<unknown>"], ["<BOS>", "a", "b", "<unknown>"]][: len(table.x)]
    assert words(table.y)[0] == ["a", "b", "<unknown>", "<EOS>"]
    assert table.part is not None


@pytest.mark.parametrize(
    ("users", "words"),
    [
        ({"u": ([True and {"a": 1}], [1])}, ["its first x is a dict", "as in none of LEAF's datasets"]),
        ({"u": ([[1, 2], [3]], [0, 1])}, ["user 'u'", "not like the first user's"]),
        ({"u": ([[1, 2]], [0.5])}, ["labels must be whole numbers"]),
        ({"u": ([[1, 2]], [0, 1])}, ["lists of one length"]),
        ({"u": ([], [])}, ["has no rows"]),
    ],
)
def test_rows_that_are_none_of_leafs(tmp_path, users, words):
    with refuses(*words):
        leaf(written(tmp_path, "all_data/a.json", users))


def test_folders_that_are_not_leafs(tmp_path):
    with refuses("give path=FOLDER"):
        load("leaf")
    with refuses("There is no folder"):
        leaf(tmp_path / "none")
    with refuses("has no JSON files", "all_data/"):
        leaf(tmp_path)
    (tmp_path / "a.json").write_text('{"users": ["u"]}')
    with refuses("a.json is not a LEAF file", "'user_data' is missing"):
        leaf(tmp_path)
    (tmp_path / "a.json").write_text("{")
    with refuses("a.json is not a LEAF file"):
        leaf(tmp_path)


def test_a_model_of_texts_is_chosen_for_tokens(tmp_path):
    from atoll.study.models import choose_models

    tweets = [["1", "d", "q", "u", f"{'good' if i % 2 else 'bad'} reef {i}"] for i in range(6)]
    written(tmp_path, "all_data/a.json", {f"u{n}": (tweets, [i % 2 for i in range(6)]) for n in range(3)})
    fed = load("leaf", path=tmp_path, length=4, vocabulary=40)
    (model,) = choose_models((), fed)
    assert model.name == "bilstm"
    assert model.input_shape == (4,)
