"""Settings of the simulator that must not change results."""

import jax
import numpy as np
import pytest

from atoll.core.program import Evaluation, Task, for_any_rate
from atoll.engine.programs import compiled, compiled_lane
from atoll.engine.simulate import _together, deal
from atoll.methods.fedavg import FedAvg
from atoll.methods.lg_ensemble import LGEnsemble
from atoll.methods.scaffold import Scaffold
from atoll.models import build
from tests.harness import Fixed, assert_near, assert_same, begin, small_digits, train


@pytest.mark.parametrize("method", [FedAvg(batch=4), Scaffold(batch=4)])
def test_clients_computed_together_give_the_same(method):
    one, three = (train(method, small_digits(5), 2, together=n) for n in (1, 3))
    assert_near((one.server, one.states), (three.server, three.states))
    assert one.costs[-1].steps == three.costs[-1].steps


def test_private_states_on_disk_give_the_same(tmp_path):
    memory, disk = train(Scaffold(batch=4), small_digits(5), 2), train(Scaffold(batch=4), small_digits(5), 2, state_folder=tmp_path)
    assert_same((memory.server, memory.states), (disk.server, disk.states))
    assert list(tmp_path.rglob("*.npy"))


def test_tiny_models_are_vectorised_without_being_asked():
    """The same as with one client at a time, which is what a larger model gets."""
    one, auto = (train(FedAvg(batch=4), small_digits(7), 2, together=n) for n in (1, None))
    assert_near(one.server, auto.server)
    tiny, larger = (begin(FedAvg(), small_digits(2), models=(name,)).fed.model for name in ("mlp:6", "mlp:200"))
    assert [_together(tiny, n) for n in (1, 5, 6, 13)] == [1, 5, 3, 5]
    assert _together(larger, 13) == 1


def test_clients_are_dealt_out_by_their_work():
    """Longest first, each to the least busy lane: nobody twice, nobody forgotten, and lanes that end together."""
    work = np.array([5.0, 90, 40, 50, 5, 10, 0, 30])
    lanes = deal(work, 2)
    assert sorted(np.concatenate(lanes)) == list(range(8))
    assert abs(work[lanes[0]].sum() - work[lanes[1]].sum()) <= 10
    assert [len(lane) for lane in deal(np.ones(3), 8)] == [1, 1, 1]


def test_replies_come_back_in_the_order_asked():
    """Ragged clients are run longest first; a stack and a round's account keep the order of the cohort all the same."""
    fed = small_digits(5)
    training = begin(FedAvg(batch=4), fed, selector=Fixed(3, 0, 4, 1, 2), lanes=2)
    training.start()
    answer = training.fed.ask(np.array([3, 0, 4, 1, 2]), FedAvg(batch=4).update, training.server)
    np.testing.assert_array_equal(answer.weight, fed.count["train"][[3, 0, 4, 1, 2]])


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_an_error_in_one_lane_is_told(threads):
    training = begin(FedAvg(batch=4), small_digits(6), threads=threads)
    executor = training.engine.executor
    done: dict[int, int] = {}

    def one(n: int) -> int:
        if n == 3:
            raise ValueError("lane three")
        return n * n

    with pytest.raises(ValueError, match="lane three"):
        executor._share(one, range(6), done)
    executor._share(lambda n: n * n, range(6), done)
    assert done == {n: n * n for n in range(6)}


def test_a_cohort_larger_than_the_lanes():
    """20 clients in 8 lanes: lanes of two and of three, and every client counts once."""
    trained = train(FedAvg(batch=4), small_digits(20), 1, lanes=8)
    assert trained.costs[0].answered == 20
    sizes = trained.training.federation.count["train"]
    assert trained.costs[0].steps == sum(-(-int(n) // 4) for n in sizes)
    assert np.isfinite(jax.tree.leaves(trained.server)[0]).all()


def test_a_program_compiled_for_one_learning_rate_serves_all():
    """Two rates share one compiled program, in both engines that compile; and each does as the loop does, which has the rate as it is."""
    fed = small_digits()
    for lr in (0.05, 0.3):
        plain = train(Scaffold(lr=lr, batch=8), fed, 2, engine="loop")
        for engine in ("simulate", "wire"):
            before = (compiled_lane if engine == "simulate" else compiled).cache_info().misses
            found = train(Scaffold(lr=lr, batch=8), fed, 2, engine=engine)
            assert_near(found.server, plain.server)
            if lr != 0.05:
                assert (compiled_lane if engine == "simulate" else compiled).cache_info().misses == before


def test_a_method_that_looks_at_its_rate_is_compiled_with_it():
    ensemble = LGEnsemble()
    assert for_any_rate(Evaluation(ensemble, build("mlp:6", (8,), 3), 16, stateful=True))[1] is None
    fedavg = FedAvg(lr=0.3)
    general, rate = for_any_rate(Task(fedavg, fedavg.update, "update", build("mlp:6", (8,), 3), 16, stateful=False))
    assert (rate, general.method.lr) == (np.float32(0.3), 1.0)
    assert for_any_rate(general)[0] == general
