"""FD against NumPy: the tables, whose teacher is made of whom, and the steps with a teacher."""

import jax.numpy as jnp
import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.methods.fd import FD, leave_one_out
from atoll.methods.local import Local
from atoll.study.training import check_method
from tests.exact.entropy import classes, kernel, rows
from tests.harness import Fixed, assert_alike, assert_near, begin, federation, small_digits, train

LINEAR = ("softmax:bias=false",)


def softmax(z):
    p = np.exp(z)
    return p / p.sum(1, keepdims=True)


def trained(w, x, y, teacher, gamma, lr, epochs):
    """(w, table): full-batch steps on CE(y) + gamma CE(teacher[y]), whose gradient in the scores is p - onehot + gamma (sum(t) p - t)."""
    table, n = np.zeros((3, 3)), len(y)
    for _ in range(epochs):
        p, t = softmax(x @ w), teacher[y]
        for label in range(3):
            table[label] += p[y == label].sum(0) / (epochs * max(1, (y == label).sum()))
        w = w - lr * x.T @ (p - np.eye(3)[y] + gamma * (t.sum(1, keepdims=True) * p - t)) / n
    return w, table


def test_two_rounds_by_hand():
    """Two clients, one without label 2: each has the other as its teacher, and for label 2 one of them has none."""
    fed = classes(((6, 2, 2), (5, 2, 2)))
    fed.y[:6] = [0, 1, 1, 0, 1, 0]
    method = FD(lr=0.4, gamma=0.7, epochs=2, batch=8)
    start = begin(method, fed, models=LINEAR)
    start.start()
    w = [kernel(start.engine.facts.models[0].init(start.fed.key()))] * 2
    tables = [np.zeros((3, 3))] * 2
    for _ in range(2):
        both = [trained(w[i], *rows(fed, i), tables[1 - i], 0.7, 0.4, 2) for i in range(2)]
        w, tables = [b[0] for b in both], [b[1] for b in both]
    got = train(method, fed, 2, models=LINEAR)
    assert_near([kernel(got.states[i]) for i in range(2)], w)
    assert_near(got.server, np.array(tables))
    assert tables[0][2].sum() == 0 < tables[1][2].sum()


def test_without_the_teacher_it_is_training_alone():
    fed = small_digits(3)
    got, wanted = (train(m, fed, 3, models=("mlp:6", "softmax")) for m in (FD(batch=4, gamma=0.0), Local(batch=4)))
    for i in range(3):
        assert_alike(got.states[i], wanted.states[i])


def test_the_teacher_is_the_mean_of_the_others_that_have_the_label():
    random = np.random.default_rng(1)
    F = random.dirichlet(np.ones(4), (5, 4))
    F[[0, 3], 1] = F[:4, 2] = F[:, 3] = 0  # two lack label 1, only client 4 has label 2, nobody has label 3
    got = np.asarray(leave_one_out(jnp.asarray(F, jnp.float32), np.array([4, 0, 2])))
    for at, i in enumerate((4, 0, 2)):
        for label in range(4):
            others = [F[j, label] for j in range(5) if j != i and F[j, label].any()]
            assert_near(got[at, label], np.mean(others, axis=0) if others else np.zeros(4))
    assert not got[0, 2].any()  # client 4 has no teacher for what it alone knows
    assert_near(got.sum(2)[:, :2], np.ones((3, 2)))


def test_clients_that_are_alike_are_taught_what_they_say():
    table = np.random.default_rng(2).dirichlet(np.ones(3), 3).astype(np.float32)
    assert_near(leave_one_out(jnp.stack([jnp.asarray(table)] * 4), np.arange(4)), np.stack([table] * 4), 1e-6)


def test_tables_are_of_distributions_and_of_own_labels_only():
    fed = small_digits(3)
    server = np.asarray(train(FD(batch=4), fed, 2, models=("mlp:6", "softmax", "lenet")).server)
    has = np.zeros((3, 10), bool)
    for i in range(3):
        has[i, np.unique(rows(fed, i)[1])] = True
    assert_near(server.sum(2), has.astype(float))
    assert not has.all()


def test_who_is_not_asked_is_still_heard():
    """Client 1 alone in round 2: its teacher is client 0's table of round 1, and client 0's table stays."""
    fed = classes()
    method = FD(lr=0.4, batch=8)
    training = begin(method, fed, models=LINEAR)
    training.start()
    training.step()
    tables, w = np.asarray(training.server, np.float64), kernel(training.engine.executor.dump_states()[1])
    training.fed._selector = Fixed(1)
    training.step()
    w, table = trained(w, *rows(fed, 1), tables[0], 1.0, 0.4, 1)
    assert_near(kernel(training.engine.executor.dump_states()[1]), w)
    assert_near(training.server, np.stack([tables[0], table]))


def test_traffic_is_two_tables_whatever_the_model():
    trained = train(FD(batch=4), small_digits(2), 1, models=("softmax", "mlp:40"))
    assert trained.training.fed.traffic.down[:2].tolist() == trained.training.fed.traffic.up[:2].tolist() == [4 * 10 * 10] * 2


def test_there_must_be_labels():
    fed = federation(np.ones((12, 2), np.float32), np.arange(12, dtype=np.float32), [(2, 2, 2)] * 2, labels=())
    with pytest.raises(AtollError, match="for regression"):
        check_method(FD(), begin(FD(), fed, models=LINEAR).engine.facts)
