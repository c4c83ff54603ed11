"""A detector of hidden messages: a small CNN that sees images through fixed high-pass filters, for what a message changes is far smaller than a picture."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from atoll.core.errors import AtollError
from atoll.core.model import Model
from atoll.models.convolution import convolve
from atoll.models.dense import dense
from atoll.models.images import as_image, conv, image_shape
from atoll.models.zoo import as_model, refuse_sequence, whole


def residual_filters() -> np.ndarray:
    """float32 [5, 5, 1, 6]: differences to the next pixel and of second order, each across and down; the 3x3 filter of Ker and Böhme (2008), which is their
    product; and the 5x5 one of Kodovsky and Fridrich (KV), as used by Qian et al. (2015). Each is scaled by its weight of the middle pixel. All are 0 on flat
    areas, and all but the first two on even slopes."""
    bank = np.zeros((6, 5, 5))
    bank[0, 2, 2:4] = -1, 1
    bank[1, 2:4, 2] = -1, 1
    second = np.array([1, -2, 1])
    bank[2, 2, 1:4] = second / 2
    bank[3, 1:4, 2] = second / 2
    bank[4, 1:4, 1:4] = -np.outer(second, second) / 4
    bank[5] = np.array([[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]]) / 12
    return np.moveaxis(bank, 0, -1)[:, :, None].astype(np.float32)


class Steganalyser(nnx.Module):
    """Residuals in grey levels, cut off at +-threshold (as in Ye, Ni, Yi, IEEE TIFS 2017, whose filters are trained on); 3x3 convolution, mean over 2x2
    pixels, 3x3 convolution of twice the width, mean over all pixels, one dense layer. Blocks conv1, conv2, dense, head; the filters are no block."""

    def __init__(self, input_shape: Sequence[int], outputs: int, width: int, hidden: int, threshold: float, levels: float, *, rngs: nnx.Rngs):
        if image_shape("steganalyser", input_shape, least=8)[2] != 1:
            raise AtollError("steganalyser takes grey images [height, width], not such with several channels.")
        self.threshold, self.levels = threshold, levels
        self.conv1 = conv(residual_filters().shape[-1], width, 3, rngs=rngs)
        self.conv2 = conv(width, 2 * width, 3, rngs=rngs)
        self.dense = dense(2 * width, hidden, rngs=rngs)
        self.head = dense(hidden, outputs, rngs=rngs)

    def residuals(self, x: Array) -> Array:
        """[batch, height - 4, width - 4, 6]: no pixel at the border has all its neighbours."""
        r = convolve(as_image(x) * self.levels, jnp.asarray(residual_filters()), (1, 1), "VALID")
        return jnp.clip(r, -self.threshold, self.threshold)

    def features(self, x: Array) -> Array:
        x = nnx.relu(self.conv1(self.residuals(x)))
        batch, height, width, channels = x.shape
        x = x[:, : height // 2 * 2, : width // 2 * 2].reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))
        x = nnx.relu(self.conv2(x))
        return nnx.relu(self.dense(x.mean((1, 2))))

    def __call__(self, x: Array) -> Array:
        return self.head(self.features(x))


def steganalyser(
    input_shape: Sequence[int], outputs: int, task: str, *, width: int = 8, hidden: int = 16, threshold: float = 3.0, levels: float = 255.0
) -> Model:
    """A detector of hidden messages. levels: what a normalised pixel is multiplied by to get grey levels, in which the threshold counts."""
    refuse_sequence("steganalyser", task)
    if not whole(width) or not whole(hidden):
        raise AtollError(f"steganalyser: width and hidden are positive whole numbers, not {width!r} and {hidden!r}.")
    for name, value in (("threshold", threshold), ("levels", levels)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise AtollError(f"steganalyser: {name} is a number above 0, not {value!r}.")
    return as_model(
        "steganalyser",
        lambda rngs: Steganalyser(input_shape, outputs, width, hidden, float(threshold), float(levels), rngs=rngs),
        input_shape,
        outputs,
        task,
    )
