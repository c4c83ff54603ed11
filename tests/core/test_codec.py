"""Messages as bytes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tree_math import Vector

from atoll.core.errors import AtollError
from atoll.engine.codec import decode, encode
from tests.harness import assert_same


class Server(NamedTuple):
    w: object
    round: object


def test_a_message_comes_back_as_it_was():
    tree = Server(Vector({"a": {"k": jnp.ones((2, 3))}, "b": jnp.arange(4, dtype=jnp.int8)}), [1, 2.5, True, None, ("x", np.float64(3))])
    back = decode(encode(tree))
    assert type(back) is Server
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    assert_same(back, tree)
    assert isinstance(back.w.tree["b"], jax.Array)
    assert back.w.tree["b"].dtype == jnp.int8
    assert back.round[2] is True


def test_numpy_stays_numpy_with_its_precision():
    back = decode(encode({"x": np.array([1 << 40]), "y": jnp.zeros(2, jnp.bfloat16)}))
    assert back["x"].dtype == np.int64
    assert back["x"][0] == 1 << 40
    assert back["y"].dtype == jnp.bfloat16


def test_keys_travel():
    key = jax.random.key(7)
    assert jnp.array_equal(jax.random.key_data(decode(encode(key))), jax.random.key_data(key))


@pytest.mark.parametrize("bad", [object(), {1: 2}, lambda: None, np.array([object()])])
def test_what_can_not_travel_is_refused(bad):
    with pytest.raises(AtollError, match="message"):
        encode({"part": bad})


@pytest.mark.parametrize("cut", [0, 5, 40, -3])
def test_broken_bytes_are_refused(cut):
    whole = encode({"w": jnp.ones(5)})
    with pytest.raises(AtollError, match="cut short"):
        decode(whole[:cut])


def test_a_message_can_not_name_any_class():
    whole = encode(Server(1, 2)).replace(b'"tests.core.test_codec", "Server"', b'"subprocess", "Popen"')
    size = int.from_bytes(whole[:8], "little") - len(b'"tests.core.test_codec", "Server"') + len(b'"subprocess", "Popen"')
    with pytest.raises(AtollError, match="NamedTuple"):
        decode(size.to_bytes(8, "little") + whole[8:])
