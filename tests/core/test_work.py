"""Floating-point operations: XLA's analysis of one pass, times the passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atoll.core.work import Work, body_flops
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedprox import FedProx
from tests.harness import federation, train

A = jnp.ones((8, 16))


def test_a_matrix_product_costs_two_operations_per_element():
    assert body_flops(lambda a: a @ jnp.ones((16, 4)), (A,)) == pytest.approx(2 * 8 * 16 * 4, rel=0.02)


def test_inner_loops_are_multiplied_out():
    def one(a):
        return a @ jnp.ones((16, 16))

    once = body_flops(one, (A,))
    assert body_flops(lambda a: jax.lax.fori_loop(0, 5, lambda _, v: one(v), a), (A,)) == pytest.approx(5 * once, rel=0.01)
    nested = body_flops(lambda a: jax.lax.fori_loop(0, 5, lambda _, v: jax.lax.fori_loop(0, 3, lambda _, u: one(u), v), a), (A,))
    assert nested == pytest.approx(15 * once, rel=0.01)


def test_nested_loops_belong_to_the_outer_one():
    work = Work()

    def body(t, v):
        work.loop(lambda _, v: v * 2, (t, v), 100)
        return v @ jnp.ones((16, 16))

    work.loop(body, (jnp.int32(0), A), jnp.int32(7))
    assert len(work.sites) == 1
    assert int(work.steps) == 7


def test_a_round_costs_what_its_batches_cost():
    """Softmax regression, forward 2 n d c and backward 2 n d c for the weights: counted per batch of 10, 3 batches a client."""
    x, y = np.random.default_rng(0).random((100, 50)).astype(np.float32), np.tile(np.arange(10, dtype=np.int32), 10)
    fed = federation(x, y, [(30, 5, 5)] * 2)
    trained = train(FedAvg(batch=10), fed, 1, models=("softmax",))
    products = 2 * 3 * (2 * 10 * 50 * 10 * 2)  # clients x batches x (two products)
    assert trained.costs[0].steps == 6
    assert products < trained.costs[0].flops < 1.5 * products


def test_gradients_over_all_rows_inside_a_loop_count_every_pass():
    """Two full-batch steps: as many passes as a client has chunks of rows, not one."""
    x, y = np.random.default_rng(0).random((700, 50)).astype(np.float32), np.tile(np.arange(10, dtype=np.int32), 70)
    flops = {}
    for engine in ("simulate", "loop"):
        fed = federation(x, y, [(300, 20, 20), (100, 20, 20)])
        trained = train(FedAvg(batch=0, epochs=2), fed, 1, models=("softmax",), engine=engine)
        chunk = trained.training.engine.executor.chunk
        assert chunk < 100
        products = sum(2 * -(-n // chunk) * 2 * chunk * 50 * 10 * 2 for n in (300, 100))  # steps x passes x (two products)
        flops[engine] = trained.costs[0].flops
        assert products < flops[engine] < 1.5 * products
    assert flops["simulate"] == pytest.approx(flops["loop"], rel=0.01)


def test_a_loop_that_ends_early_costs_what_it_did():
    """w = 2^t is asked after every two passes whether it is large enough: of at most seven passes it makes four, or seven where it is never; asked twice or
    four times. A pass costs one product, a question two."""
    double, same = 2 * jnp.eye(16), jnp.eye(16)

    def body(t, v):
        return v @ double

    product = 2 * 8 * 16 * 16
    for enough, passes, asked in ((9, 4, 2), (1e9, 7, 4), (0, 2, 1)):

        def ends(v, enough=enough):
            return ((v @ same) @ same)[0, 0] > enough

        work = Work()
        after, done = work.run_until(body, A, jnp.int32(7), 2, ends)
        assert int(done) == int(work.steps) == passes
        np.testing.assert_array_equal(after, np.asarray(A) * 2.0**passes)
        assert float(work.flops) == pytest.approx(product * (passes + 2 * asked), rel=0.05)
    after, done = Work().run_until(body, A, jnp.int32(0), 2, lambda v: v[0, 0] > 9)
    assert int(done) == 0
    np.testing.assert_array_equal(after, A)


def test_questions_over_all_rows_count_every_pass():
    """FedProx with a gamma that nobody reaches: beyond FedAvg-like steps, a gradient over all rows per epoch and two per round."""
    x, y = np.random.default_rng(0).random((700, 50)).astype(np.float32), np.tile(np.arange(10, dtype=np.int32), 70)
    fed = federation(x, y, [(300, 20, 20), (100, 20, 20)])
    for batch in (10, 0):
        plain, measured = (train(FedProx(batch=batch, epochs=3, gamma=gamma), fed, 1, models=("softmax",)) for gamma in (0.0, 1e-9))
        chunk = plain.training.engine.executor.chunk
        products = sum((3 + 2) * -(-n // chunk) * 2 * chunk * 50 * 10 * 2 for n in (300, 100))
        assert products < measured.costs[0].flops - plain.costs[0].flops < 1.5 * products
