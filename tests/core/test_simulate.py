"""Settings of the simulator that must not change results."""

import jax
import numpy as np
import pytest

from atoll.methods.fedavg import FedAvg
from atoll.methods.scaffold import Scaffold
from tests.harness import assert_near, assert_same, small_digits, train


@pytest.mark.parametrize("method", [FedAvg(batch=4), Scaffold(batch=4)])
def test_clients_computed_together_give_the_same(method):
    one, three = (train(method, small_digits(5), 2, together=n) for n in (1, 3))
    assert_near((one.server, one.states), (three.server, three.states))
    assert one.costs[-1].steps == three.costs[-1].steps


def test_private_states_on_disk_give_the_same(tmp_path):
    memory, disk = train(Scaffold(batch=4), small_digits(5), 2), train(Scaffold(batch=4), small_digits(5), 2, state_folder=tmp_path)
    assert_same((memory.server, memory.states), (disk.server, disk.states))
    assert list(tmp_path.rglob("*.npy"))


def test_a_cohort_larger_than_the_lanes():
    """20 clients in 8 lanes of 3: the last lane is short, and every client counts once."""
    trained = train(FedAvg(batch=4), small_digits(20), 1)
    assert trained.costs[0].answered == 20
    sizes = trained.training.federation.count["train"]
    assert trained.costs[0].steps == sum(-(-int(n) // 4) for n in sizes)
    assert np.isfinite(jax.tree.leaves(trained.server)[0]).all()
