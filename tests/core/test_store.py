"""Private states lie in pages that never move."""

import numpy as np
import pytest

from atoll.engine import store
from atoll.engine.store import Store


@pytest.mark.parametrize("on_disk", [False, True])
def test_states_over_several_pages(tmp_path, monkeypatch, on_disk):
    monkeypatch.setattr(store, "PAGE", 3 * (2 * 4 + 8))  # three clients of two float32 and one int64
    kept = Store(tmp_path if on_disk else None)
    truth: dict[int, tuple[np.ndarray, int]] = {}
    random = np.random.default_rng(0)
    for _ in range(6):
        ids = random.permutation(20)[:7]
        a, b = random.normal(size=(7, 2)).astype(np.float32), random.integers(0, 99, 7)
        kept.scatter(ids, {"a": a, "b": b})
        truth |= {int(i): (a[j], int(b[j])) for j, i in enumerate(ids)}
    assert kept.clients == sorted(truth)
    assert kept.nbytes == len(truth) * 16
    order = random.permutation(kept.clients)
    got = kept.gather(order)
    np.testing.assert_array_equal(got["a"], [truth[int(i)][0] for i in order])
    np.testing.assert_array_equal(got["b"], [truth[int(i)][1] for i in order])
    assert len(list(tmp_path.iterdir())) == (2 * -(-len(truth) // 3) if on_disk else 0)


def test_a_stranger_has_no_state():
    kept = Store()
    kept.scatter(np.array([4]), np.ones((1, 2), np.float32))
    assert 4 in kept
    assert 5 not in kept
    with pytest.raises(KeyError):
        kept.gather(np.array([5]))


def test_empty_states_are_states():
    kept = Store()
    kept.scatter(np.array([1, 2]), {})
    assert kept.clients == [1, 2]
    assert kept.gather(np.array([2])) == {}
