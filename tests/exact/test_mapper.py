"""MAPPER: two rounds in NumPy with the choice of shares, and its partial gradients against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.keys import common_key, shuffle
from atoll.methods.mapper import MAPPER
from tests.exact.entropy import classes, entropy, entropy_gradient, kernel, rows
from tests.harness import assert_alike, assert_near, begin

LINEAR = ("softmax:bias=false",)
COUNTS = ((10, 2, 2), (15, 2, 2), (20, 2, 2))


def parts(fed, k, kept=0.4):
    """(rows to train on, rows kept apart) of a client: shuffled once and for all, the first 40 % are kept."""
    x, y = rows(fed, k)
    lasting = jax.random.fold_in(jax.random.fold_in(common_key(0), 1 << 29), k)
    order = np.asarray(shuffle(jnp.arange(len(y), dtype=jnp.int32), jnp.int32(len(y)), lasting))
    n = int(kept * len(y))
    assert sorted(order) == list(range(len(y)))
    return (x[order[n:]], y[order[n:]]), (x[order[:n]], y[order[:n]])


def test_two_rounds_in_numpy():
    """For each of the shares 0, 1/2, 1 three full-batch steps of h_l by share times the gradient at the mixture, from the h_l of before; the share of the
    smallest loss on the rows kept apart; two steps of h_c by (1 - share) times the gradient. h_c is averaged by rows."""
    fed, eta = classes(COUNTS), 0.8
    method = MAPPER(lr=eta, epochs=3, global_epochs=2, batch=50, grid=2, lowest=0.0, highest=1.0, kept=0.4)
    training = begin(method, fed, models=LINEAR)
    training.start()
    common = kernel(training.server)
    own, taken = [common] * 3, []
    for _ in range(2):
        sent = []
        for k in range(3):
            (x, y), kept = parts(fed, k)
            tried = []
            for share in (0.0, 0.5, 1.0):
                h = own[k]
                for _ in range(3):
                    h = h - eta * share * entropy_gradient(x, y, share * h + (1 - share) * common)
                tried.append((entropy(*kept, share * h + (1 - share) * common), share, h))
            _, share, own[k] = min(tried, key=lambda one: one[0])
            taken.append(share)
            h_c = common
            for _ in range(2):
                h_c = h_c - eta * (1 - share) * entropy_gradient(x, y, share * own[k] + (1 - share) * h_c)
            sent.append(h_c)
        common = np.average(sent, axis=0, weights=[n for n, _, _ in COUNTS])
        training.step()
        states = training.engine.executor.dump_states()
        assert_near(kernel(training.server), common, 2e-6)
        for k in range(3):
            assert float(states[k].share) == taken[k - 3]
            assert_near(kernel(states[k].h), own[k], 2e-6)
    assert len(set(taken)) > 1
    mixed = [share * h + (1 - share) * common for share, h in zip(taken[3:], own, strict=True)]  # with the newest h_c
    for row in training.evaluate().filter(split="test", model="personal").to_dicts():
        first = fed.start["test"][row["client"]]
        wanted = entropy(fed.x[first : first + 2], fed.y[first : first + 2], mixed[row["client"]])
        assert row["loss"] / row["rows"] == pytest.approx(wanted, rel=1e-5)


def slopes(f, w, e=1e-5):
    """The gradient of f at w by central differences."""
    out = np.zeros_like(w)
    for at in np.ndindex(w.shape):
        moved = np.zeros_like(w)
        moved[at] = e
        out[at] = (f(w + moved) - f(w - moved)) / (2 * e)
    return out


def test_both_models_descend_the_loss_of_the_mixture():
    """One step each at the share 0.3: h_l, and then h_c, by the partial derivative of f(0.3 h_l + 0.7 h_c)."""
    fed, eta = classes([(10, 2, 2)]), 0.5
    training = begin(MAPPER(lr=eta, batch=50, lowest=0.3, highest=0.3, kept=0.4), fed, models=LINEAR)
    training.start()
    before = kernel(training.server)
    training.step()
    (x, y), _ = parts(fed, 0)
    own = before - eta * slopes(lambda h: entropy(x, y, 0.3 * h + 0.7 * before), before)
    common = before - eta * slopes(lambda h: entropy(x, y, 0.3 * own + 0.7 * h), before)
    assert_near(kernel(training.engine.executor.dump_states()[0].h), own, 2e-6)
    assert_near(kernel(training.server), common, 2e-6)


def test_clients_that_rely_on_themselves_do_not_move_the_common_model():
    """With a share of 1 h_c keeps its bits, and own models are trained on the rows that are not kept apart as if alone."""
    fed = classes([(10, 2, 2)] * 2)
    training = begin(MAPPER(lr=0.5, batch=50, epochs=2, lowest=1.0, highest=1.0, kept=0.4), fed, models=LINEAR)
    training.start()
    before = training.server
    for _ in range(2):
        training.step()
    assert_alike(training.server, before)
    for k, state in training.engine.executor.dump_states().items():
        (x, y), _ = parts(fed, k)
        w = kernel(before)
        for _ in range(4):
            w = w - 0.5 * entropy_gradient(x, y, w)
        assert_near(kernel(state.h), w, 2e-6)


def test_shares_are_in_order():
    with pytest.raises(AtollError, match="lowest to highest"):
        MAPPER(lowest=0.8)
