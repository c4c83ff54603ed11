"""Methods that find clusters of clients, on digits whose clients are in known groups: labels swapped, or images turned."""

from __future__ import annotations

import pytest
from sklearn.metrics import adjusted_rand_score

from atoll.methods.apfl import APFL
from atoll.methods.cbfl import CBFL
from atoll.methods.cfl import CFL
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedgroup import FedGroup
from atoll.methods.fesem import FeSEM
from atoll.methods.fl_hc import FLHC
from atoll.methods.hypcluster import HypCluster
from atoll.methods.ifca import IFCA
from atoll.methods.local import Local
from atoll.parts.clustered import Clustered
from tests.behaviour.test_digits import WORK, accuracy, digits, trained
from tests.harness import Trained, train

pytestmark = pytest.mark.xdist_group("behaviour")

SWAP2, SWAP4, ROTATE4 = ("iid", "swap:2"), ("iid", "swap:4"), ("iid", "rotate:4")


def agreement(run: Trained) -> float:
    """Adjusted Rand index of the clusters of a run against the groups that its clients are in."""
    rows = run.training.evaluate().filter(split="test", model="personal").sort("client")
    return adjusted_rand_score(run.training.federation.groups, rows["cluster"])


@pytest.mark.long
def test_ifca_finds_the_groups():
    """Four groups of clients with labels swapped in four ways: IFCA finds them without being told, and so learns what FedAvg can't."""
    run = trained(IFCA(), *SWAP4)
    assert agreement(run) == 1
    assert run.accuracy() > accuracy(FedAvg(**WORK), *SWAP4) + 0.4
    assert run.accuracy() > accuracy(Local(**WORK), *SWAP4) + 0.1


@pytest.mark.long
def test_hypcluster_finds_the_groups():
    """The same four groups, from the models of clients of which each is served worst by those before it."""
    run = trained(HypCluster(**WORK), *SWAP4)
    assert agreement(run) == 1
    assert run.accuracy() > accuracy(FedAvg(**WORK), *SWAP4) + 0.4
    assert run.accuracy() > accuracy(Local(**WORK), *SWAP4) + 0.1


@pytest.mark.long
def test_cfl_splits_between_the_groups_and_nowhere_else():
    """Two groups: once the common model has settled, clients part as they should; the halves are in accord and stay whole."""
    run = trained(CFL(**WORK, burn_in=10), *SWAP2, rounds=25)
    assert agreement(run) == 1
    assert len(run.server.children) == 3
    assert run.accuracy() > accuracy(FedAvg(**WORK), *SWAP2, rounds=25) + 0.2


@pytest.mark.long
def test_fl_hc_puts_the_groups_together():
    """Four groups: after five common rounds the updates say who belongs to whom."""
    run = trained(FLHC(**WORK, n=5), *SWAP4)
    assert agreement(run) == 1
    assert run.accuracy() > accuracy(FedAvg(**WORK), *SWAP4) + 0.4


@pytest.mark.long
def test_fedgroup_groups_before_the_first_round():
    """Four groups, from a pre-training of five batches' worth of the paper's fifty."""
    run = trained(FedGroup(lr=0.1, epochs=1, g=4, pretrain_steps=20), *SWAP4)
    assert agreement(run) == 1
    assert run.accuracy() > accuracy(FedAvg(**WORK), *SWAP4) + 0.4


@pytest.mark.long
def test_fesem_moves_clients_between_centres():
    """Images turned in four ways."""
    run = trained(FeSEM(lr=0.1, epochs=3, K=4), *ROTATE4)
    assert agreement(run) == 1
    assert run.accuracy() > accuracy(FedAvg(**WORK), *ROTATE4) + 0.1


@pytest.mark.long
def test_cbfl_makes_communities_of_what_rows_look_like():
    """Images turned in four ways: most rows of a client are of its group's community, and a linear model for each does better than one for all."""
    fed, how = digits(*ROTATE4), {"lr": 0.3, "batch": 10, "epochs": 3}
    run, plain = (train(method, fed, 20, models=("softmax",), threads=2) for method in (CBFL(**how, K=4), FedAvg(**how)))
    assert agreement(run) == 1
    assert run.accuracy() > plain.accuracy() + 0.03


@pytest.mark.long
def test_any_method_trains_inside_clusters_that_are_found():
    """Four groups with images turned: APFL, which mixes all clients into its common model, gains where each cluster has one of its own."""
    run = trained(Clustered(APFL(**WORK)), *ROTATE4)
    assert agreement(run) == 1
    assert run.accuracy(model="global") > trained(APFL(**WORK), *ROTATE4).accuracy(model="global") + 0.3
