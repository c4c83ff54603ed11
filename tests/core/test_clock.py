"""Devices, the clock and deadlines: seconds by hand, who is late, what partial work is, and traces."""

import jax
import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedprox import FedProx
from atoll.methods.scaffold import Scaffold
from atoll.parts.conditions import Conditions
from atoll.parts.devices import PROFILES, Devices, devices
from tests.harness import begin, small_digits, train

HOW = {"lr": 0.1, "epochs": 2, "batch": 5}


def made(gflops, **more):
    n = len(gflops)
    usual = {"down_mbit": 8.0, "up_mbit": 4.0, "latency": 0.5, "available": 1.0, "dropout": 0.0, "jitter": 0.0}
    return Devices(gflops=np.array(gflops, float), **{name: np.full(n, value) for name, value in {**usual, **more}.items()})


def seconds_by_hand(trained, d):
    """Of each client in the last round: latency, bytes by bandwidth, operations by speed."""
    t, n = trained.training.fed.traffic, len(d.gflops)
    return d.latency + 8e-6 * t.down[:n] / d.down_mbit + 8e-6 * t.up[:n] / d.up_mbit + t.flops[:n] / (1e9 * d.gflops)


@pytest.mark.parametrize("engine", ["simulate", "loop", "wire"])
def test_a_round_takes_as_long_as_its_slowest_client(engine):
    d = made([0.001, 0.002, 0.0005])
    trained = train(FedAvg(**HOW), small_digits(3), 2, engine=engine, conditions=Conditions(devices=d))
    by_hand = seconds_by_hand(trained, d)
    np.testing.assert_allclose(trained.training.fed.traffic.seconds[:3], by_hand, rtol=1e-6)
    assert trained.costs[-1].sim_seconds == pytest.approx(by_hand.max(), rel=1e-6)


def test_devices_without_a_deadline_change_nothing_but_the_clock():
    plain = train(Scaffold(**HOW), small_digits(3), 3)
    timed = train(Scaffold(**HOW), small_digits(3), 3, conditions=Conditions(devices=made([0.1, 0.001, 2])))
    for one, other in zip(jax.tree.leaves(plain.server), jax.tree.leaves(timed.server), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [cost.sim_seconds for cost in plain.costs] == [0, 0, 0]


def test_whom_the_deadline_catches_is_lost_and_has_been_sent_the_model():
    fed, fast = small_digits(3), made([1, 1, 1])
    slow = made([1, 1, 1e-6])
    without = train(FedAvg(**HOW), fed, 1, conditions=Conditions(devices=fast))
    late = train(FedAvg(**HOW), fed, 1, conditions=Conditions(devices=slow, deadline=10))
    assert late.costs[0].answered == 2
    assert late.costs[0].sim_seconds == 10
    np.testing.assert_array_equal(late.training.fed.traffic.down, without.training.fed.traffic.down)
    assert late.training.fed.traffic.up[2] == 0
    assert late.training.fed.traffic.seconds[2] == 0
    assert 0 < late.training.fed.traffic.flops[2] < without.training.fed.traffic.flops[2]


def test_partial_work_is_the_share_that_fits():
    """FedProx's client 2 has time for half of its steps: it does them, and answers at the deadline."""
    fed, how = small_digits(3), {"mu": 0.1, **HOW}
    whole = train(FedProx(**how), fed, 1, conditions=Conditions(devices=made([1, 1, 1])))
    t, flops = whole.training.fed.traffic, whole.training.fed.traffic.flops[2]
    d = made([1, 1, 1e-4])
    send = d.latency[2] + 8e-6 * t.down[2] / 8 + 8e-6 * t.up[2] / 4
    compute = flops / 1e5
    half = train(FedProx(**how), fed, 1, conditions=Conditions(devices=d, deadline=float(send + compute / 2)))
    assert half.costs[0].answered == 3
    assert half.training.fed.traffic.steps[2] == t.steps[2] // 2
    assert half.training.fed.traffic.steps[:2].tolist() == t.steps[:2].tolist()
    assert half.costs[0].sim_seconds == pytest.approx(send + compute / 2)


def test_lost_clients_were_asked_and_sent_to_and_never_answer():
    trained = train(FedAvg(**HOW), small_digits(3), 1, conditions=Conditions(devices=made([1, 1, 1], dropout=[0, 1, 0]), deadline=7))
    assert trained.costs[0].answered == 2
    assert trained.training.fed.traffic.down[1] == trained.training.fed.traffic.down[0] > 0
    assert trained.costs[0].sim_seconds == 7


def test_a_round_that_all_miss_takes_the_deadline_and_keeps_the_model():
    training = begin(FedAvg(**HOW), small_digits(3), conditions=Conditions(devices=made([1e-9] * 3), deadline=3))
    training.start()
    before = training.server
    cost = training.step()
    assert (cost.answered, cost.sim_seconds) == (0, 3)
    assert training.server is before


def test_speeds_vary_by_round_and_not_by_who_asks():
    d = made([10.0] * 400, jitter=0.3)
    a, b = d.speed(0, 1, np.arange(400)), d.speed(0, 2, np.arange(400))
    assert abs(a.mean() / 1e10 - 1) < 0.06
    assert 0.25 < a.std() / 1e10 < 0.35
    assert (a != b).all()
    np.testing.assert_array_equal(d.speed(0, 1, np.array([7, 3])), a[[7, 3]])


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_are_drawn_by_the_seed(name):
    clients = [f"c{i}" for i in range(50)]
    one, again, other = (devices(name, clients, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.gflops, again.gflops)
    assert (one.gflops > 0).all()
    assert name == "same" or (one.gflops != other.gflops).any()
    if name == "tiers":
        np.testing.assert_allclose(sorted(set(one.gflops.tolist())), [2, 10 / 3, 10, 20, 40])
        assert np.unique(one.gflops, return_counts=True)[1].tolist() == [10] * 5


def test_a_trace_names_clients(tmp_path):
    path = tmp_path / "phones.csv"
    path.write_text("client,gflops,latency\nb,2,0.3\na,5,0\n")
    d = devices(str(path), ["a", "b"], 0)
    assert d.gflops.tolist() == [5, 2]
    assert d.latency.tolist() == [0, 0.3]
    assert d.up_mbit.tolist() == [5, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gflops\n1\n", "needs a header with the column client"),
        ("", "needs a header"),
        ("client,gflop\na,1\nb,1\n", "gflops"),
        ("client,gflops\na,1\n", "no line for 1 of 2 clients, the first of them 'b'"),
        ("client,gflops\na,1\na,2\nb,1\n", "line 3: client 'a' is there twice"),
        ("client,gflops\na,x\nb,1\n", "line 2: gflops = 'x' is no number"),
        ("client,gflops\na,0\nb,1\n", "must be above 0"),
        ("client,available\na,1.5\nb,1\n", "must be between 0 and 1"),
        ("client,gflops\nz,1\n", "has no client 'z'"),
    ],
)
def test_what_is_wrong_in_a_trace_is_told(tmp_path, text, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(AtollError, match=message):
        devices(str(path), ["a", "b"], 0)


def test_bad_conditions_are_told():
    with pytest.raises(AtollError, match="needs devices"):
        Conditions(deadline=3)
    with pytest.raises(AtollError, match="above 0"):
        Conditions(devices=made([1]), deadline=0)
    with pytest.raises(AtollError, match="Known:"):
        devices("phone", ["a"], 0)
