"""FedRep at its ends, by hand in between, and on the paper's linear model."""

import jax
import numpy as np
import pytest

from atoll.core.keys import common_key
from atoll.methods.fedbabu import FedBABU
from atoll.methods.fedrep import FedRep
from atoll.methods.local import Local
from atoll.models import own
from tests.exact import dense
from tests.harness import assert_alike, assert_near, federation, leaves, normed, small_digits, train

DEEP = ("mlp:7,5",)  # blocks dense1, dense2, head


def test_two_rounds_by_hand():
    """Full batches. First the personal blocks take two steps under the phi that was sent, then phi three under the new ones; phi is the plain mean."""
    fed, personal = small_digits(3), ("dense2",)
    method = FedRep(lr=0.5, batch=0, head_epochs=2, epochs=3, personal=personal)
    trained = train(method, fed, 2, models=DEEP)
    model = trained.training.engine.facts.models[0]
    mine = set(model.personal_blocks(personal))
    data = [dense.train_rows(fed, i) for i in range(3)]
    w = [dense.weights(model.init(common_key(0)))] * 3
    for _ in range(2):
        for moving, times in ((mine, 2), (set(model.blocks) - mine, 3)):
            for _ in range(times):
                stepped = [dense.step(w_i, dense.gradient(w_i, x, y), 0.5) for w_i, (x, y) in zip(w, data, strict=True)]
                w = [{b: (new if b in moving else old)[b] for b in old} for new, old in zip(stepped, w, strict=True)]
        phi = dense.mean(w, [1 / 3] * 3)
        w = [{b: (w_i if b in mine else phi)[b] for b in w_i} for w_i in w]
    assert_near(dense.weights(trained.server), {b: w[0][b] for b in trained.server.tree})
    for i in range(3):
        assert set(trained.states[i].tree) == mine
        assert_near(dense.weights(trained.states[i]), {b: w[i][b] for b in mine})


def test_heads_that_never_move_are_fedbabu():
    fed = dense.equal_clients()
    rep = train(FedRep(batch=0, head_epochs=0, epochs=2), fed, 3, models=DEEP)
    babu = train(FedBABU(batch=0, epochs=2), fed, 3, models=DEEP)
    assert_near(rep.server, babu.server)
    first = rep.training.engine.facts.models[0].init(common_key(0)).tree["head"]
    for i in range(3):
        assert_alike(rep.states[i].tree["head"], first)


def test_everything_personal_is_local():
    rep = train(FedRep(batch=4, head_epochs=2, personal=3, last=0), small_digits(), 3, models=DEEP)
    local = train(Local(batch=4, epochs=2), small_digits(), 3, models=DEEP)
    assert_alike(rep.states, local.states)
    assert rep.costs[-1].bytes_down == 0


def test_predicting_fits_the_head_to_the_newest_phi():
    fed, last = small_digits(2), 2
    trained = train(FedRep(lr=0.5, batch=0, head_epochs=1, last=last), fed, 2, models=DEEP)
    losses = {row["client"]: row["loss"] / row["rows"] for row in trained.training.evaluate().to_dicts() if row["split"] == "test"}
    for i in range(2):
        w = dense.weights(trained.server) | dense.weights(trained.states[i])
        for _ in range(last):
            w = w | {"head": dense.step(w, dense.gradient(w, *dense.train_rows(fed, i)), 0.5)["head"]}
        assert losses[i] == pytest.approx(dense.loss(w, *dense.rows(fed, i, "test")), rel=1e-4)


def linear_regression(d=10, k=2, clients=20, n=50):
    """(federation, B): y = x' B w_i, with B [d, k] orthonormal and x normal."""
    random = np.random.default_rng(0)
    B = np.linalg.qr(random.normal(size=(d, k)))[0]
    x = random.normal(size=(clients * (n + 2), d)).astype(np.float32)
    w = random.normal(size=(clients, k))
    owner = np.concatenate([np.repeat(np.arange(clients), n), np.repeat(np.arange(clients), 1), np.repeat(np.arange(clients), 1)])
    y = np.einsum("nd,dk,nk->n", x, B, w[owner]).astype(np.float32)
    return federation(x, y, [(n, 1, 1)] * clients, labels=()), B


def init(key):
    first, second = jax.random.split(key)
    return {"base": jax.random.normal(first, (10, 2)) / np.sqrt(10), "head": jax.random.normal(second, (2, 1))}


def test_the_subspace_is_found_at_a_geometric_rate():
    """The sine of the largest angle between the columns of phi and those of B; heads that are fitted to the end are least squares on x' phi."""
    fed, B = linear_regression()
    model = own((init, lambda w, x: x @ w["base"] @ w["head"]), (10,), 1, "regression")
    distance = []
    for rounds in (10, 20, 30, 40):
        trained = train(FedRep(lr=0.3, batch=0, head_epochs=30, epochs=1), fed, rounds, models=(model,))
        phi = np.linalg.qr(leaves(trained.server)[0].astype(np.float64))[0]
        distance.append(np.linalg.norm(phi - B @ (B.T @ phi), 2))
    ratio = np.array(distance[1:]) / distance[:-1]
    assert (ratio < 0.5).all()
    assert ratio.max() / ratio.min() < 3
    assert distance[-1] < 0.02
    x, y = fed.x[:50].astype(np.float64), fed.y[:50]
    sent = train(FedRep(lr=0.3, batch=0, head_epochs=30, epochs=1), fed, 39, models=(model,)).server
    z = x @ leaves(sent)[0]
    assert_near(leaves(trained.states[0])[0].ravel(), np.linalg.lstsq(z, y, rcond=None)[0], 1e-3)


def test_statistics_follow_their_own_part_only():
    """The norm layer is a part of phi: fitting heads leaves its statistics, and training phi moves them."""
    fed = small_digits(2)
    first = {"models": (normed(fed),)}
    heads, both = (train(FedRep(batch=4, epochs=epochs, head_epochs=2), fed, 1, **first) for epochs in (0, 1))
    start = heads.training.engine.facts.models[0].init(common_key(0)).tree["buffers"]
    assert_alike(heads.server.tree["buffers"], start)
    assert all(not np.array_equal(a, b) for a, b in zip(leaves(both.server.tree["buffers"]), leaves(start), strict=True))
