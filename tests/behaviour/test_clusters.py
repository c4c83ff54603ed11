"""Methods that find clusters of clients, on digits whose clients are in known groups: labels swapped, or images turned."""

from __future__ import annotations

import pytest
from sklearn.metrics import adjusted_rand_score

from atoll.methods.cfl import CFL
from atoll.methods.fedavg import FedAvg
from atoll.methods.fl_hc import FLHC
from atoll.methods.ifca import IFCA
from atoll.methods.local import Local
from tests.behaviour.test_digits import WORK, accuracy, trained
from tests.harness import Trained

pytestmark = pytest.mark.xdist_group("behaviour")

SWAP2, SWAP4 = ("iid", "swap:2"), ("iid", "swap:4")


def agreement(run: Trained) -> float:
    """Adjusted Rand index of the clusters of a run against the groups that its clients are in."""
    rows = run.training.evaluate().filter(split="test", model="personal").sort("client")
    return adjusted_rand_score(run.training.federation.groups, rows["cluster"])


def test_ifca_finds_the_groups():
    """Four groups of clients with labels swapped in four ways: IFCA finds them without being told, and so learns what FedAvg can't."""
    run = trained(IFCA(), *SWAP4)
    assert agreement(run) == 1
    assert run.accuracy() > accuracy(FedAvg(**WORK), *SWAP4) + 0.4
    assert run.accuracy() > accuracy(Local(**WORK), *SWAP4) + 0.1


def test_cfl_splits_between_the_groups_and_nowhere_else():
    """Two groups: once the common model has settled, clients part as they should; the halves are in accord and stay whole."""
    run = trained(CFL(**WORK, burn_in=10), *SWAP2, rounds=25)
    assert agreement(run) == 1
    assert len(run.server.children) == 3
    assert run.accuracy() > accuracy(FedAvg(**WORK), *SWAP2, rounds=25) + 0.2


def test_fl_hc_puts_the_groups_together():
    """Four groups: after five common rounds the updates say who belongs to whom."""
    run = trained(FLHC(**WORK, n=5), *SWAP4)
    assert agreement(run) == 1
    assert run.accuracy() > accuracy(FedAvg(**WORK), *SWAP4) + 0.4
