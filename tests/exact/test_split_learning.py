"""Split learning against SGD of the uncut model, in the library and in NumPy, and its bytes against the formula."""

import jax.numpy as jnp
import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.keys import common_key, shuffle
from atoll.methods.fedavg import FedAvg
from atoll.methods.split_learning import SplitLearning
from tests.exact import dense
from tests.exact.plain import Circumstances, key
from tests.harness import assert_near, begin, leaves, small_digits, train

DEEP = ("mlp:5,4",)  # blocks dense1, dense2, head
HANDED, OWN = (SplitLearning(lr=0.5, batch=5, epochs=2, hand_off=hand_off) for hand_off in (True, False))


def test_one_client_is_sgd_of_the_uncut_model():
    """Of 9 rows in batches of 5 and 4, the same as FedAvg's."""
    split = train(HANDED, small_digits(1), 2, models=DEEP)
    uncut = train(FedAvg(lr=0.5, batch=5, epochs=2), small_digits(1), 2, models=DEEP)
    assert set(split.server.s.tree) == {"dense2", "head"}
    assert_near(split.training.engine.facts.models[0].join(*split.server), uncut.server, 1e-6)
    assert [cost.steps for cost in split.costs] == [cost.steps for cost in uncut.costs]


def test_one_client_is_sgd_of_an_uncut_model_with_batch_norm():
    """Statistics below the cut are the client's, above it the server's; together they are those of the whole."""
    fed, net = small_digits(1), ("mlp:4,4,norm=batch",)  # cut between norm1 and dense2
    split, uncut = (train(method, fed, 2, models=net) for method in (SplitLearning(lr=0.5, batch=9, lower=2), FedAvg(lr=0.5, batch=9)))
    assert_near(split.training.engine.facts.models[0].join(*split.server), uncut.server, 1e-4)


def stream(fed, start, method: SplitLearning, clients) -> tuple[dense.Weights, dict[int, dense.Weights]]:
    """Round 1 by hand in float64: SGD through the clients' batches in turn. What of the first block each client has at the end of its turn is its own."""
    w, own = dense.weights(start), {}
    for i in clients:
        w = w if method.hand_off else w | {"dense1": dense.weights(start)["dense1"]}
        x, y = dense.train_rows(fed, i)
        for epoch in range(method.epochs):
            order = np.asarray(shuffle(jnp.arange(len(y), dtype=jnp.int32), jnp.int32(len(y)), key("update", 1, i), epoch))
            for at in range(0, len(y), method.batch):
                rows = order[at : at + method.batch]
                w = dense.step(w, dense.gradient(w, x[rows], y[rows]), method.lr)
        own[i] = {"dense1": w["dense1"]}
    return w, own


def test_clients_in_turn_by_hand():
    """Lower blocks are handed on, also over a client that does not answer; or each client has its own, and all move the same upper blocks."""
    fed = small_digits(3)
    handed = train(HANDED, fed, 1, models=DEEP, conditions=Circumstances(gone={1: [1]}))
    start = handed.training.engine.facts.models[0].init(common_key(0))
    w, own = stream(fed, start, HANDED, [0, 2])
    assert_near(dense.weights(handed.server.s) | dense.weights(handed.server.c), w)
    assert (handed.costs[0].cohort, handed.costs[0].answered) == (3, 2)

    alone = train(OWN, fed, 1, models=DEEP)
    w, own = stream(fed, start, OWN, range(3))
    assert alone.server.c is None
    assert_near(dense.weights(alone.server.s), {b: w[b] for b in ("dense2", "head")})
    assert_near([dense.weights(alone.states[i]) for i in range(3)], [own[i] for i in range(3)])
    assert np.abs(own[0]["dense1"]["kernel"] - own[1]["dense1"]["kernel"]).max() > 1e-3


def test_bytes_are_of_rows_and_the_cut_not_of_the_model():
    """n E d_cut floats each way and n E labels up, and a number with each of two messages per batch. Who joins is sent nothing of the server's blocks."""
    n, E, d, batches = 9 + 14 + 19, 2, 5, 2 + 3 + 4
    alone, handed = (train(method, small_digits(3), 1, models=DEEP) for method in (OWN, HANDED))
    assert alone.costs[0].bytes_down == 4 * n * E * d + 2 * 4 * E * batches
    assert alone.costs[0].bytes_up == 4 * n * E * (d + 1)
    lower = sum(leaf.nbytes for leaf in leaves(handed.server.c))
    assert handed.costs[0].bytes_down == alone.costs[0].bytes_down + 3 * lower
    assert handed.costs[0].bytes_up == alone.costs[0].bytes_up + 3 * lower


def test_models_that_cannot_be_cut_there_are_refused():
    with pytest.raises(AtollError, match=r"lower=1.*has 1 blocks"):
        SplitLearning().check_model(begin(FedAvg(), small_digits(1), models=("softmax",)).engine.facts.models[0])
