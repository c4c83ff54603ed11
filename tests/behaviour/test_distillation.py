"""Methods that exchange what models say or feel about rows, on digits: clients of few classes learn what others know."""

from __future__ import annotations

import numpy as np
import pytest

from atoll.data import load
from atoll.methods.d_distillation import DDistillation
from atoll.methods.fedgen import FedGen
from atoll.methods.fedgkt import FedGKT
from atoll.methods.local import Local
from tests.behaviour.test_digits import WORK
from tests.harness import train

pytestmark = pytest.mark.xdist_group("behaviour")


@pytest.mark.long
def test_opinions_travel_over_a_ring():
    """Ten clients with some 30 rows each, who talk to two neighbours: agreeing on unlabelled rows, each learns from all."""
    fed = load("digits", skew="iid", clients=10, seed=0, public=600, limit=1100)
    together, alone = (train(m, fed, 40, models=("mlp:32",), threads=2) for m in (DDistillation(**WORK, exchanged=600, reference_batch=50), Local(**WORK)))
    assert together.accuracy() > alone.accuracy() + 0.06


@pytest.mark.long
def test_made_features_teach_heads_what_others_know():
    """Half of twenty clients with few labels each are asked: made features of all labels hold heads together, and the common model is mostly better for it."""
    gains = []
    for seed in range(3):
        fed = load("digits", skew="dirichlet:0.1", clients=20, seed=seed)
        made, without = (train(FedGen(lr=0.1, batch=10, alpha=alpha), fed, 20, models=("mlp:32",), threads=2, per_round=10) for alpha in (10.0, 0.0))
        gains.append(made.accuracy(model="global") - without.accuracy(model="global"))
    assert np.mean(gains) > 0.02
    assert np.median(gains) > 0


@pytest.mark.long
def test_small_edges_and_a_large_server_teach_each_other():
    """Six clients with some 30 rows each: on the server's blocks, trained on all features, edges do better than with a whole model of their own."""
    fed = load("digits", skew="iid", clients=6, seed=0, limit=300)
    together = train(FedGKT(lr=0.05, batch=50, epochs=4, server_epochs=8, T=3.0), fed, 20, models=("mlp:32,16",), threads=2)
    alone = train(Local(**WORK), fed, 40, models=("mlp:32,16",), threads=2)
    assert together.accuracy() > alone.accuracy() + 0.09
