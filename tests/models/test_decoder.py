"""The decoder of an autoencoder, against XLA's own convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atoll.models.decoder import decoder


@pytest.mark.parametrize("shape", [(8, 8), (7, 10, 3), (1, 2)])
def test_images_by_hand(shape):
    """Dense to a quarter of the size, twice: every pixel as four, then a 3x3 convolution; cut to the image's size."""
    made = decoder(5, shape)
    w, z = made.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (3, 5))
    height, width, channels = (*shape, 1)[:3]
    quarter = -(-height // 4), -(-width // 4)

    def convolved(x, block):
        x = np.kron(x, np.ones((1, 2, 2, 1), np.float32))
        return jax.lax.conv_general_dilated(x, w.tree[block]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) + w.tree[block]["bias"]

    x = jax.nn.relu(z @ w.tree["dense"]["kernel"] + w.tree["dense"]["bias"]).reshape(3, *quarter, 16)
    x = convolved(jax.nn.relu(convolved(x, "conv")), "head")[:, :height, :width]
    assert x.shape == (3, height, width, channels)
    np.testing.assert_allclose(made.apply(w, z).reshape(x.shape), x, atol=1e-5)


def test_vectors_are_made_by_dense_layers():
    made = decoder(5, (7,))
    w, z = made.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (3, 5))
    dense, head = w.tree["dense"], w.tree["head"]
    wanted = jnp.maximum(z @ dense["kernel"] + dense["bias"], 0) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(made.apply(w, z), wanted, rtol=1e-5)
    assert decoder(5, (7,)) is made
