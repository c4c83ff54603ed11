"""Data sharing against SGD in NumPy on the rows of a client and its shared ones."""

import jax
import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.keys import purpose_key
from atoll.methods.data_sharing import DataSharing
from tests.exact.plain import first_model, key, rows, sgd, weights
from tests.harness import Fixed, assert_near, begin, small_digits, train

HOW = {"lr": 0.2, "epochs": 2, "batch": 4}
SOFTMAX = {"models": ("softmax",)}


def merged(trained, fed, i):
    """Rows of client i and behind them those that it was given."""
    x, y = rows(fed, i)
    shared = trained.states[i]
    return np.concatenate([x, np.asarray(shared.x, np.float64).reshape(len(shared.y), -1)]), np.concatenate([y, np.asarray(shared.y)])


def test_training_by_hand():
    """Two clients of 9 and 14 rows and 5 shared ones each: SGD on both kinds shuffled together, weighed by 14 and 19."""
    fed = small_digits(2, public=10)
    method = DataSharing(**HOW, warmup=0)
    w = weights(first_model(begin(method, fed, **SOFTMAX)))
    trained = train(method, fed, 2, **SOFTMAX)
    for round in (1, 2):
        parts = [sgd(w, *merged(trained, fed, i), 0.2, 2, 4, key("update", round, i)) for i in range(2)]
        w = tuple((14 * a + 19 * b) / 33 for a, b in zip(*parts, strict=True))
    assert_near(weights(trained.server.shared.w), w)


def test_clients_get_rows_of_the_shared_set_without_repeats():
    fed = small_digits(3, public=12)
    trained = train(DataSharing(**HOW, alpha=0.5), fed, 1)
    whole = {(*np.ravel(x * np.float32(fed.scale)).round(5), int(y)) for x, y in zip(*fed.public, strict=True)}
    chosen = []
    for i in range(3):
        mine = [(*np.ravel(x).round(5), int(y)) for x, y in zip(trained.states[i].x, trained.states[i].y, strict=True)]
        assert len(set(mine)) == 6
        assert set(mine) <= whole
        chosen.append(frozenset(mine))
    assert len(set(chosen)) == 3


def test_rows_are_sent_once():
    """At first contact the model and 6 rows of 64 float32 and a label; then the model alone, also to a client that sat out."""

    class Turns:
        def choose(self, fed):
            return np.array([[0, 1], [1, 2], [0, 1]][fed.round - 1])

    fed = small_digits(3, public=12)
    trained = train(DataSharing(**HOW), fed, 3, selector=Turns())
    model = sum(leaf.nbytes for leaf in jax.tree.leaves(trained.server.shared.w))
    part = 6 * (64 * 4 + 4)
    assert [cost.bytes_down for cost in trained.costs] == [2 * (model + part), 2 * model + part, 2 * model]
    assert [cost.bytes_up for cost in trained.costs] == [2 * (model + 4)] * 3


def test_rows_are_kept():
    fed = small_digits(2, public=10)
    one, three = (train(DataSharing(**HOW), fed, n, selector=Fixed(0)).states[0] for n in (1, 3))
    np.testing.assert_array_equal(one.x, three.x)
    assert np.abs(one.x).sum() > 0


def test_warming_up_is_sgd_on_the_shared_set():
    fed = small_digits(2, public=10)
    method = DataSharing(**HOW, warmup=3)
    cold, warm = (begin(m, fed, **SOFTMAX) for m in (DataSharing(**HOW, warmup=0), method))
    cold.start()
    warm.start()
    x, y = fed.public
    own = jax.random.fold_in(purpose_key(0, "server warm", 0), 2)  # 2: the number that no client has
    wanted = sgd(weights(cold.server.shared.w), (x * fed.scale).reshape(10, -1), y, 0.2, 3, 4, own)
    assert_near(weights(warm.server.shared.w), wanted)


def test_a_share_of_no_rows_is_refused():
    with pytest.raises(AtollError, match="is none"):
        train(DataSharing(alpha=0.01), small_digits(2, public=10), 1)
