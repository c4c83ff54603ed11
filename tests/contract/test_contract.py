"""The contract that every method keeps, run on every row of tests/cases.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.federation import Traffic
from atoll.core.keys import host_generator
from atoll.core.method import configured, hyperparameters
from atoll.engine.codec import decode, encode
from atoll.methods import TABLE, get
from atoll.parts.conditions import Conditions
from atoll.parts.devices import devices
from atoll.study.training import Training
from tests.cases import CASES, Bytes, Case
from tests.harness import Fixed, Trained, assert_near, assert_same, begin, small_digits, train

CLIENTS = 4


def _tuned(name: str) -> bool:
    """A method with fine-tuning behind it: nothing that is trained or travels changes, and fedprox+ft shows what does. These cases are among the long tests."""
    return name.endswith("+ft") and name != "fedprox+ft"


def _variant(name: str) -> bool:
    """Another case's method with other settings."""
    kind = type(CASES[name].method)
    return name != next(n for n, case in CASES.items() if type(case.method) is kind)


def _cases(late: Callable[[str], bool]) -> pytest.MarkDecorator:
    """All cases, of which `late` says whether they are among the long tests. Those of one method run in one process, where what they compile is found again."""
    marks = {n: [pytest.mark.xdist_group(n), *[pytest.mark.long] * late(n)] for n in CASES}
    return pytest.mark.parametrize("case", [pytest.param(case, id=n, marks=marks[n]) for n, case in CASES.items()])


every_case = _cases(_tuned)


def start(case: Case, clients: int = CLIENTS, **how) -> Training:
    """A training. The simulator computes two ragged clients together, as it does by itself for tiny models; the other engines one by one."""
    return begin(case.method, small_digits(clients, case.public), models=case.models, together=2, **how)


def run(case: Case, rounds: int, clients: int = CLIENTS, **how) -> Trained:
    return train(case.method, small_digits(clients, case.public), rounds, models=case.models, together=2, **how)


def outcome(trained: Trained, ids: list[int] | None = None):
    """All that a run leaves: server state, private states, and the scores of all clients or of `ids`."""
    rows = trained.training.evaluate(ids if ids is None else np.array(ids)).to_dicts()
    return trained.server, trained.states, [[row["correct"], row["loss"]] for row in rows]


class OneLater:
    """Client 0 joins in round 2."""

    def choose(self, fed):
        return np.arange(1 if fed.round < 2 else 0, fed.n)


WIRED = (  # of all kinds of messages
    "fedavg", "majority", "pooled", "split-learning", "scaffold", "data-sharing", "astraea", "faug", "fedhome", "fedcurv", "mocha", "virtual", "aruba",
    "fedhealth", "fedmd", "fd", "d-distillation", "fedgen", "fedgkt", "feddf", "heterofl", "apfl", "l2gd", "fedper", "furl", "fedbn", "fedproto", "fedpac",
    "lg-fedavg", "lg-ensemble", "fedfomo", "pfedgraph", "pfedhn", "fedamp", "cfl", "fl-hc", "cbfl", "dapper", "ifca", "fedavg+adam", "apfl+clustered",
)  # fmt: skip


@_cases(lambda name: name not in WIRED)
def test_wire_agrees_with_the_simulator(case):
    if not case.wire:
        with pytest.raises(AtollError, match="site"):
            run(case, 1, engine="wire")
        return
    simulated, wired = run(case, 2, per_round=3), run(case, 2, per_round=3, engine="wire")
    assert_near(outcome(simulated), outcome(wired))
    for a, b in zip(simulated.costs, wired.costs, strict=True):
        assert (a.bytes_up, a.bytes_down, a.steps, a.cohort) == (b.bytes_up, b.bytes_down, b.steps, b.cohort)
        assert a.flops == pytest.approx(b.flops)


LOOPED = ("fedavg", "scaffold", "fedper", "apfl", "ifca", "fedmd", "heterofl", "split-learning", "mocha", "pfedhn")  # of all kinds; the others take long


@_cases(lambda name: name not in LOOPED)
def test_loop_agrees_with_the_simulator(case):
    simulated, looped = (run(case, 1, selector=Fixed(0, 1), engine=engine) for engine in ("simulate", "loop"))
    assert_near(outcome(simulated, [1, 3]), outcome(looped, [1, 3]), case.near)
    assert simulated.costs[0].bytes_up == looped.costs[0].bytes_up
    assert simulated.costs[0].flops == pytest.approx(looped.costs[0].flops, rel=case.flops)


@every_case
def test_same_seed_same_bits_for_any_number_of_threads(case):
    assert_same(outcome(run(case, 2, per_round=3, threads=1)), outcome(run(case, 2, per_round=3, threads=2)))


@every_case
def test_another_seed_gives_another_run(case):
    if not dataclasses.fields(case.method):
        pytest.skip("this method draws nothing")
    a, b = outcome(run(case, 1, seed=0))[2], outcome(run(case, 1, seed=1))[2]
    assert not np.array_equal(a, b)


@every_case
def test_a_resumed_run_equals_an_uninterrupted_one(case):
    whole = run(case, 3, per_round=3)
    first = run(case, 2, per_round=3)
    server, states = decode(encode(first.server)), {i: decode(encode(s)) for i, s in first.states.items()}
    again = start(case, per_round=3)
    again.restore(2, server, states)
    costs = [*first.costs, again.step()]
    assert_same(outcome(whole), outcome(Trained(again, costs)))


@every_case
def test_the_order_of_clients_does_not_matter(case):
    a, b = run(case, 2, selector=Fixed(0, 1, 3)), run(case, 2, selector=Fixed(3, 0, 1))
    assert_near(outcome(a), outcome(b))


@every_case
def test_fewer_replies_than_asked(case):
    if case.asks_nobody:
        pytest.skip("asks no client")
    whole = run(case, 3, conditions=Conditions(dropout=0.4))
    assert sum(cost.answered for cost in whole.costs) < sum(cost.cohort for cost in whole.costs)
    assert np.isfinite([row["loss"] for row in whole.training.evaluate().to_dicts() if row["model"] == "personal"]).all()


@every_case
def test_everyone_dropping_out_loses_the_round_only(case):
    if case.asks_nobody:
        pytest.skip("asks no client")
    training = start(case)
    training.start()
    training.step()
    before = outcome(Trained(training, []))[:2]
    training.fed._conditions = Conditions(dropout=1.0)
    cost = training.step()
    assert cost.answered == 0
    assert_same(before, outcome(Trained(training, []))[:2])


@_cases(lambda name: name not in LOOPED)
def test_one_client(case):
    if len(case.models) > 1:
        pytest.skip("several architectures need several clients")
    only = run(case, 2, clients=1, engine="loop")  # which compiles the least
    assert np.isfinite([row["loss"] for row in only.training.evaluate().to_dicts() if row["model"] == "personal"]).all()


@every_case
def test_a_client_that_joins_late(case):
    late = run(case, 3, selector=OneLater())
    assert np.isfinite([row["loss"] for row in late.training.evaluate().to_dicts() if row["model"] == "personal"]).all()


@every_case
def test_unsampled_clients_are_untouched(case):
    if case.asks_all:
        pytest.skip("asks all clients in every round")
    training = start(case)
    training.start()
    training.step()
    before = training.engine.executor.dump_states()
    training.fed._selector = Fixed(1, 2)
    training.step()
    after = training.engine.executor.dump_states()
    for i in {0, 3} & set(before):
        assert_same(before[i], after[i])
    down, up = training.fed.traffic.down, training.fed.traffic.up
    assert not down[[0, 3]].any()
    assert not up[[0, 3]].any()


@every_case
def test_evaluation_leaves_no_trace(case):
    training = start(case)
    training.start()
    training.step()
    before = training.server, training.engine.executor.dump_states()
    first, second = training.evaluate().to_dicts(), training.evaluate().to_dicts()
    np.testing.assert_equal([row["loss"] for row in first], [row["loss"] for row in second])
    assert_same(before, (training.server, training.engine.executor.dump_states()))


@every_case
def test_metered_bytes_are_the_declared_bytes(case):
    trained = run(case, 2)
    facts = trained.training.engine.facts
    traffic = trained.training.fed.traffic
    for i in range(CLIENTS):
        sizes = Bytes(facts.models[facts.architecture[i]], facts, int(facts.rows[i]))
        assert traffic.down[i] == case.down(sizes), f"down to client {i}"
        assert traffic.up[i] == case.up(sizes), f"up from client {i}"


@_cases(lambda name: _tuned(name) or _variant(name))  # it compiles programs of its own
def test_the_clock_foresees_what_is_booked(case):
    """Where all have joined, the effort that the clock is told is what running the programs then costs."""
    training = start(case, conditions=Conditions(devices=devices("same", tuple(f"client {i}" for i in range(CLIENTS)), 0)))
    training.start()
    for _ in range(2):  # in which all join
        training.step()
    told, effort = Traffic.none(CLIENTS + 1), training.engine.effort

    def listening(call):
        found = effort(call)
        told.flops[call.ids] += found.flops
        told.down[call.ids] += found.down
        told.up[call.ids] += found.up
        return found

    training.engine.effort = listening
    cost = training.step()
    if not told.down.any():
        pytest.skip("this method asks the pool of all rows, which is no client, or sends nothing")
    booked = training.fed.traffic
    np.testing.assert_array_equal(told.down, booked.down)
    np.testing.assert_array_equal(told.up, booked.up)
    np.testing.assert_allclose(told.flops, booked.flops, rtol=1e-6)
    assert cost.sim_seconds > 0
    assert (booked.seconds[booked.flops > 0] > 0).all()


@every_case
def test_hyperparameters_survive_repr_and_text(case):
    kind = type(case.method)
    values = hyperparameters(case.method)
    assert eval(repr(case.method), {kind.__name__: kind}) == case.method
    text = {name: ",".join(v) if isinstance(v, tuple) else str(v) for name, v in values.items()}
    assert configured(kind, text) == case.method
    assert hash(configured(kind, values)) == hash(case.method)


@every_case
def test_values_out_of_range_are_refused(case):
    if not dataclasses.fields(case.method):
        pytest.skip("this method has no hyperparameters")
    name, value = case.bad
    with pytest.raises(AtollError, match=name):
        dataclasses.replace(case.method, **{name: value})
    with pytest.raises(AtollError, match="Known:"):
        configured(type(case.method), {"no_such_thing": 1})


@every_case
def test_the_docstring_says_what_a_reader_needs(case):
    text = type(case.method).__doc__ or ""
    places = [text.find(f"\n    {section}") for section in ("Kept:", "Traffic per round and client:", "Identity:", "Departures from the paper:")]
    assert min(places) > 0, "a section is missing"
    assert places == sorted(places)


@every_case
def test_several_architectures_are_used_or_refused(case):
    if getattr(case.method, "many_architectures", False):
        return
    with pytest.raises(AtollError, match="several architectures"):
        run(dataclasses.replace(case, models=("mlp:6", "mlp:7")), 1)


def test_every_method_of_the_table_has_a_case_and_the_other_way_round():
    classes = {get(row.name) for row in TABLE}
    assert {type(case.method) for case in CASES.values() if not hasattr(type(case.method), "around")} == classes
    assert [row.title for row in TABLE] == [getattr(get(row.name), "label", get(row.name).__name__) for row in TABLE]


def test_client_schedules_depend_on_seed_and_round_only():
    a = host_generator(0, "sample", 3).choice(50, 5, replace=False)
    assert np.array_equal(a, host_generator(0, "sample", 3).choice(50, 5, replace=False))
    assert not np.array_equal(a, host_generator(0, "sample", 4).choice(50, 5, replace=False))
