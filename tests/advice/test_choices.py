"""What a pilot tries and on which data: chosen before anything is trained."""

from __future__ import annotations

import numpy as np
import pytest

import atoll
from atoll.advice.advise import _goes_on
from atoll.advice.candidates import candidates, model_for
from atoll.advice.differences import differences
from atoll.advice.pilot import ROWS, planned, same_tests, smaller
from atoll.study.models import choose_models
from atoll.study.spec import load_data, make_spec


@pytest.fixture(scope="module")
def digits():
    return atoll.load("digits", limit=300)


def names(fed, words=None, model="mlp:4"):
    (made,) = choose_models((model,), fed)
    return {one.name: one for one in candidates(words or {}, fed, made, rounds=10)}


def test_baselines_and_one_candidate_per_family(digits):
    found = names(digits)
    assert list(found)[:6] == ["majority", "local", "pooled", "fedavg", "scaffold", "fedavg-ft"]
    families = [one.family for one in found.values() if one.role == "personal"]
    assert len(set(families)) == len(families) == 6


def test_candidates_go_by_what_was_measured(digits):
    assert "strong" in names(digits, {"labels": "strong"})["fedper"].why
    assert "labels" not in names(digits, {"labels": "none"})["fedper"].why
    assert "as groups would" in names(digits, {"preference": "weak"})["hypcluster"].why
    assert "as groups would" not in names(digits, {"preference": "none", "features": "none"})["hypcluster"].why
    assert "fedbn" in names(digits, {"features": "strong"}, "mlp:4,norm=batch")
    assert "fedbn" not in names(digits, {"features": "strong"})


def test_linear_models_get_methods_for_linear_models(digits):
    found = names(digits, model="softmax")
    assert "mocha" in found
    assert not {"fedper", "apfl", "ditto"} & set(found)
    planned(make_spec({"model": ["softmax"], "rounds": 10}), list(found.values()), (0.1,), digits)  # all of them accept it


@pytest.mark.parametrize("data", ["linear", "synthetic"])
def test_every_candidate_can_be_trained_on_these_data(data):
    fed = atoll.load(data)
    texts = model_for(fed)
    (model,) = choose_models(texts, fed)
    tried = candidates({}, fed, model, 10)
    plan = planned(make_spec({"model": list(texts), "rounds": 10}), tried, (0.1, 0.2), fed)
    assert len(plan.entries) == sum(2 if one.rated else 1 for one in tried)


def test_few_rows_per_client_take_a_linear_model(digits):
    few = atoll.load("digits", skew="iid", clients=30, limit=300)  # 6 train rows each
    assert model_for(few) == ()  # images
    rng = np.random.default_rng(0)
    table = atoll.data.build(rng.normal(size=(300, 3)), rng.integers(0, 2, 300), np.arange(300) % 30)
    assert model_for(table) == ("softmax",)
    roomy = atoll.data.build(rng.normal(size=(300, 3)), rng.integers(0, 2, 300), np.arange(300) % 3)
    assert model_for(roomy) == ()


def test_small_data_are_looked_at_as_they_are(digits):
    spec = make_spec({"data": {"source": "digits"}})
    assert smaller(spec, digits) == (spec, "")


def test_of_large_data_some_rows_are_looked_at_and_it_is_said():
    spec = make_spec({"data": {"source": "synthetic", "options": {"spread": 0.0}, "clients": 4}})
    rng = np.random.default_rng(0)
    n = 3 * ROWS
    large = atoll.data.build(rng.normal(size=(n, 1)), rng.integers(0, 2, n), np.arange(n) % 4)
    made, note = smaller(spec, large)
    assert made.data.limit == ROWS
    assert f"{ROWS:,} rows" in note


def test_of_many_natural_clients_some_are_looked_at_with_all_their_rows():
    rng = np.random.default_rng(0)
    n = 4000
    many = atoll.data.build(rng.normal(size=(n, 1)), rng.integers(0, 2, n), np.char.add("school ", (np.arange(n) % 400).astype(str)))
    made, note = smaller(make_spec({"data": {"source": "exam"}}), many)
    assert (made.data.clients, made.data.limit) == (300, None)
    assert "300 of 400 clients" in note
    assert smaller(make_spec({"data": {"source": "exam", "skew": ["iid"]}}), many)[1] == ""  # rows were dealt out: other clients are other data


def test_a_split_is_drawn_anew_for_the_same_clients_with_the_same_rows():
    first, again, other = (atoll.load("digits", skew=["dirichlet:0.5", "swap:2"], clients=4, limit=200, split_seed=s) for s in (None, 0, 1))
    assert np.array_equal(first.x, again.x)
    assert same_tests(first, again)
    assert not same_tests(first, other)
    assert first.groups is not None
    assert np.array_equal(first.groups, np.asarray(other.groups))
    for i in range(4):
        assert np.array_equal(rows_of(first, i), rows_of(other, i))


def rows_of(fed, i: int) -> np.ndarray:
    """Which rows of the source client i has, in all splits together, in order."""
    return np.sort(np.concatenate([fed.origin[fed.start[s][i] : fed.start[s][i] + fed.count[s][i]] for s in ("train", "validation", "test")]))


def test_a_pilot_has_the_data_of_its_specification():
    spec = make_spec({"data": {"source": "digits", "limit": 200, "split_seed": 5}, "seed": 2})
    direct = atoll.load("digits", limit=200, seed=2, split_seed=5)
    assert np.array_equal(load_data(spec).x, direct.x)


def test_splits_go_on_as_the_time_allows():
    assert _goes_on(1, None, 1e9, 60)  # two at least
    assert _goes_on(2, None, 30, 60)  # a third would end at 45 s
    assert not _goes_on(2, None, 50, 60)
    assert not _goes_on(5, None, 1, 60)  # five at most
    assert _goes_on(2, 3, 1e9, 60)
    assert not _goes_on(1, 1, 0, 60)


def test_private_measures_say_the_same_in_words_where_epsilon_is_large():
    fed = atoll.load("digits", skew="classes:2", clients=10)
    open_, private = differences(fed, None, 0), differences(fed, 100.0, 0)
    assert open_.words["labels"] == private.words["labels"] == "strong"
    assert "preference" not in private.words
    assert "epsilon 100" in private.note
    assert open_.note == ""


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ({"skew": "concept:2,every=5"}, "change while clients train"),
        ({"split": [0.8, 0.0, 0.2]}, "no validation rows"),
        ({"skew": "iid", "clients": 1}, "one client"),
        ({"splits": 0}, "splits=0"),
        ({"minutes": 0}, "minutes=0"),
        ({"rates": ()}, "rates"),
        ({"worth": -1.0}, "worth"),
        ({"private": 0.0}, "psilon"),
    ],
)
def test_what_cannot_be_is_refused_before_training(how, what, tmp_path):
    with pytest.raises(atoll.AtollError, match=what):
        atoll.advise("digits", limit=200, out=tmp_path / "a", **how)
    assert not (tmp_path / "a").exists()
