"""A network of your own, written with flax.nnx.

Run: python examples/own_model.py
"""

import jax
from flax import nnx

import atoll
from atoll.models import own


class Net(nnx.Module):
    """Two dense layers on flattened 8x8 images; the blocks `body` and `head` can be cut apart by FedPer and others."""

    def __init__(self, rngs: nnx.Rngs):
        self.body = nnx.Linear(64, 32, rngs=rngs)
        self.head = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(nnx.relu(self.body(x.reshape(len(x), -1))))


if __name__ == "__main__":
    model = own(Net, input_shape=(8, 8), outputs=10)
    result = atoll.run("digits", ["fedper", "apfl"], model=model, rounds=10)
    result.show()
