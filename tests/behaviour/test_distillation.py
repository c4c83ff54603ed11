"""Methods that exchange what models say or feel about rows, on digits: clients of few classes learn what others know."""

from __future__ import annotations

import pytest

from atoll.data import load
from atoll.methods.d_distillation import DDistillation
from atoll.methods.local import Local
from tests.behaviour.test_digits import WORK
from tests.harness import train

pytestmark = pytest.mark.xdist_group("behaviour")


def test_opinions_travel_over_a_ring():
    """Ten clients with some 30 rows each, who talk to two neighbours: agreeing on unlabelled rows, each learns from all."""
    fed = load("digits", skew="iid", clients=10, seed=0, public=600, limit=1100)
    together, alone = (train(m, fed, 40, models=("mlp:32",), threads=2) for m in (DDistillation(**WORK, exchanged=600, reference_batch=50), Local(**WORK)))
    assert together.accuracy() > alone.accuracy() + 0.06
