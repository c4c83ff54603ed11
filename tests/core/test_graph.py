"""Graphs of clients, and the weights of their edges."""

import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.graph import components, graph, metropolis


@pytest.mark.parametrize("n", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("form", ["ring", "grid", "complete", "random:0.6"])
def test_graphs_are_symmetric_connected_and_their_weights_doubly_stochastic(form, n):
    A = graph(form, n, 0)
    assert (A == A.T).all()
    assert not A.diagonal().any()
    assert len(components(A)) == 1
    W = metropolis(A)
    np.testing.assert_allclose(W.sum(0), 1)
    np.testing.assert_allclose(W, W.T)
    assert (W >= 0).all()
    assert ((W > 0) == (A | np.eye(n, dtype=bool)))[~np.eye(n, dtype=bool)].all()


def test_degrees():
    assert graph("ring", 5, 0).sum(1).tolist() == [2] * 5
    assert graph("complete", 4, 0).sum(1).tolist() == [3] * 4
    assert graph("grid", 8, 0).sum(1).tolist() == [2, 3, 2, 3, 4, 2, 2, 2]  # 0 1 2 / 3 4 5 / 6 7


def test_mixing_goes_to_the_mean_at_the_rate_of_the_second_eigenvalue():
    W = metropolis(graph("ring", 6, 0))
    rate = np.sort(abs(np.linalg.eigvalsh(W)))[-2]
    far = [abs(np.linalg.matrix_power(W, t) - 1 / 6).max() for t in (20, 21)]
    assert far[1] / far[0] == pytest.approx(rate, rel=1e-3)
    assert rate == pytest.approx(2 / 3)  # of (1 + 2 cos(2 pi k / 6)) / 3 the second largest


def test_random_graphs_are_drawn_from_the_seed():
    assert (graph("random:0.4", 12, 3) == graph("random:0.4", 12, 3)).all()
    assert (graph("random:0.4", 12, 3) != graph("random:0.4", 12, 4)).any()


@pytest.mark.parametrize(
    ("form", "text", "match"),
    [
        ("star", None, "no graph 'star'"),
        ("random:2", None, "random:0.3"),
        ("random", None, "random:0.3"),
        ("random:0.001", None, "none was connected"),
        ("edges", "0,1\n", "3 parts .clients 0, 1; client 2; client 3"),
        ("edges", "0,1,2\n", "line 1: an edge is two"),
        ("edges", "0,1\n\n1,x\n", "line 3: an edge is two"),
        ("edges", "0,4\n", "There are 4 clients"),
        ("edges", "1,1\n", "no edge can join 1 and 1"),
    ],
)
def test_what_is_no_connected_graph_is_refused(form, text, match, tmp_path):
    if text is not None:
        (tmp_path / form).write_text(text)
        form = str(tmp_path / form)
    with pytest.raises(AtollError, match=match):
        graph(form, 4, 0)
