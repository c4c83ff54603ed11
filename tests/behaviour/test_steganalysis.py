"""How detectors of hidden messages behave on patches of real photos."""

from __future__ import annotations

import pytest

from atoll.data import load
from atoll.methods.fedhealth import FedSteg
from atoll.methods.majority import Majority
from tests.harness import train


@pytest.mark.long
def test_participants_learn_to_detect_messages_and_adapt_to_their_images():
    """On patches that nobody trained on; Majority is right for half. Photos have other textures and other rates in each client, so adapting gains."""
    fed = load("steganalysis", clients=4)
    run = train(FedSteg(lr=0.1, batch=10), fed, 10, models=("steganalyser:4",), threads=2)
    scores = run.training.evaluate().filter(split="test")
    accuracy = {model: scores.filter(model=model)["correct"].sum() / scores.filter(model=model)["rows"].sum() for model in ("personal", "global")}
    assert train(Majority(), fed, 1, models=("softmax",)).accuracy() == 0.5
    assert accuracy["global"] > 0.59
    assert accuracy["personal"] > 0.64
    assert accuracy["personal"] > accuracy["global"] + 0.03
