"""Convolutional models for images [height, width] or [height, width, channels]."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from flax import nnx
from jax import Array

from atoll.core.errors import AtollError, unknown
from atoll.core.model import Model
from atoll.models.convolution import convolve, max_pool
from atoll.models.dense import dense
from atoll.models.nnx_network import MaskedBatchNorm
from atoll.models.zoo import as_model, check_rate, narrowed, refuse_sequence, whole

MOMENTUM = 0.9  # of BatchNorm's running statistics: new = MOMENTUM * old + (1 - MOMENTUM) * batch
EPSILON = 1e-5  # BatchNorm divides by sqrt(variance + EPSILON)
HETEROFL_WIDTHS = (64, 128, 256, 512)


def image_shape(model: str, input_shape: Sequence[int], least: int) -> tuple[int, int, int]:
    """(height, width, channels) of an image with or without a channel axis. AtollError if it is none or too small for the model."""
    if len(input_shape) not in (2, 3) or min(input_shape[:2]) < least:
        shape = "x".join(map(str, input_shape))
        raise AtollError(f"{model} takes images [height, width] or [height, width, channels] of at least {least}x{least} pixels, not rows of shape {shape}.")
    return input_shape[0], input_shape[1], input_shape[2] if len(input_shape) == 3 else 1


def as_image(x: Array) -> Array:
    """[batch, height, width] -> [batch, height, width, 1]; images with channels stay as they are."""
    return x[..., None] if x.ndim == 3 else x


def conv(inputs: int, outputs: int, side: int, *, stride: int = 1, padding: str = "SAME", bias: bool = True, rngs: nnx.Rngs) -> nnx.Conv:
    """A square convolution that is fast on a CPU, too."""
    return nnx.Conv(inputs, outputs, (side, side), stride, padding=padding, use_bias=bias, conv_general_dilated=convolve, rngs=rngs)


class PooledConv(nnx.Conv):
    """A square convolution of stride 1 and max-pooling. The bias is added to the maxima: rounding keeps order, so these are the same numbers with a quarter
    of the additions, and of the bias's gradient.
    """

    def __init__(self, inputs: int, outputs: int, side: int, *, padding: str = "SAME", rngs: nnx.Rngs):
        super().__init__(inputs, outputs, (side, side), padding=padding, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return max_pool(convolve(x, self.kernel.get_value(), (1, 1), self.padding)) + self.bias.get_value()  # pyright: ignore[reportOptionalMemberAccess]


class LeNet(nnx.Module):
    """5x5x6 - pool - 5x5x16 - pool - 120 - 84 - outputs with ReLU and max-pooling (after LeCun et al., 1998).

    LeNet-5 saw 28x28 digits padded to 32x32; here the first convolution pads images below 32 pixels and the second those below 20, so that
    small images keep enough pixels. 61,706 parameters for 28x28x1 and 62,006 for 32x32x3 images, 10 classes.
    """

    def __init__(self, input_shape: Sequence[int], outputs: int, *, rngs: nnx.Rngs):
        height, width, channels = image_shape("lenet", input_shape, least=4)
        side = min(height, width)
        first, second = "VALID" if side >= 32 else "SAME", "VALID" if side >= 20 else "SAME"
        lost = 4 * (first == "VALID"), 4 * (second == "VALID")
        height, width = (((n - lost[0]) // 2 - lost[1]) // 2 for n in (height, width))
        self.conv1 = PooledConv(channels, 6, 5, padding=first, rngs=rngs)
        self.conv2 = PooledConv(6, 16, 5, padding=second, rngs=rngs)
        self.dense1 = dense(height * width * 16, 120, rngs=rngs)
        self.dense2 = dense(120, 84, rngs=rngs)
        self.head = dense(84, outputs, rngs=rngs)

    def features(self, x: Array) -> Array:
        x = nnx.relu(self.conv1(as_image(x)))
        x = nnx.relu(self.conv2(x))
        return nnx.relu(self.dense2(nnx.relu(self.dense1(x.reshape(x.shape[0], -1)))))

    def __call__(self, x: Array) -> Array:
        return self.head(self.features(x))


def lenet(input_shape: Sequence[int], outputs: int, task: str) -> Model:
    """A small CNN after LeNet-5."""
    refuse_sequence("lenet", task)
    return as_model("lenet", lambda rngs: LeNet(input_shape, outputs, rngs=rngs), input_shape, outputs, task)


class McMahanCnn(nnx.Module):
    """5x5x32 - pool - 5x5x64 - pool - 512 - outputs, same padding (McMahan et al., AISTATS 2017)."""

    def __init__(self, input_shape: Sequence[int], outputs: int, *, rngs: nnx.Rngs):
        height, width, channels = image_shape("cnn", input_shape, least=4)
        self.conv1 = PooledConv(channels, 32, 5, rngs=rngs)
        self.conv2 = PooledConv(32, 64, 5, rngs=rngs)
        self.dense = dense(height // 4 * (width // 4) * 64, 512, rngs=rngs)
        self.head = dense(512, outputs, rngs=rngs)

    def features(self, x: Array) -> Array:
        x = nnx.relu(self.conv1(as_image(x)))
        x = nnx.relu(self.conv2(x))
        return nnx.relu(self.dense(x.reshape(x.shape[0], -1)))

    def __call__(self, x: Array) -> Array:
        return self.head(self.features(x))


def cnn(input_shape: Sequence[int], outputs: int, task: str) -> Model:
    """McMahan's CNN: 1,663,370 parameters for 28x28x1 images and 10 classes."""
    refuse_sequence("cnn", task)
    return as_model("cnn", lambda rngs: McMahanCnn(input_shape, outputs, rngs=rngs), input_shape, outputs, task)


class ResNet(nnx.Module):
    """The CIFAR ResNet of He et al. (CVPR 2016) with depth 6n + 2: three stages of n residual pairs of 3x3 convolutions, then the mean over
    pixels.

    Every convolution and every norm is a block of its own (conv1, norm1, ...), so that methods can keep norms apart; `short` blocks are the
    1x1 convolutions of the shortcuts where a stage halves the image. Where blocks are counted, a residual pair with all that belongs to it is one.
    """

    def __init__(self, input_shape: Sequence[int], outputs: int, norm: str, pairs: int, width: int, *, rngs: nnx.Rngs):
        channels = image_shape("resnet", input_shape, least=4)[2]
        self._add(1, channels, width, 1, norm, rngs)
        self.starts: tuple[tuple[int, int], ...] = ()  # (number of the first convolution, stride) of each pair
        number, inputs = 2, width
        for stage in range(3):
            for pair in range(pairs):
                stride = 2 if stage > 0 and pair == 0 else 1
                if stride == 2:
                    setattr(self, f"short{number}", conv(inputs, width << stage, 1, stride=2, bias=False, rngs=rngs))
                self._add(number, inputs, width << stage, stride, norm, rngs)
                self._add(number + 1, width << stage, width << stage, 1, norm, rngs)
                self.starts = (*self.starts, (number, stride))
                number, inputs = number + 2, width << stage
        self.head = dense(inputs, outputs, rngs=rngs)

    def _add(self, number: int, inputs: int, outputs: int, stride: int, norm: str, rngs: nnx.Rngs) -> None:
        setattr(self, f"conv{number}", conv(inputs, outputs, 3, stride=stride, bias=False, rngs=rngs))
        if norm == "batch":
            made: Any = nnx.BatchNorm(outputs, momentum=MOMENTUM, epsilon=EPSILON, rngs=rngs)
        else:  # two groups, as in Reddi et al., Adaptive Federated Optimization, ICLR 2021
            made = nnx.GroupNorm(outputs, num_groups=2, rngs=rngs)
        setattr(self, f"norm{number}", made)

    def _convolved(self, number: int, x: Array) -> Array:
        return getattr(self, f"norm{number}")(getattr(self, f"conv{number}")(x))

    def features(self, x: Array) -> Array:
        x = nnx.relu(self._convolved(1, as_image(x)))
        for number, stride in self.starts:
            short = getattr(self, f"short{number}")(x) if stride == 2 else x
            x = nnx.relu(self._convolved(number + 1, nnx.relu(self._convolved(number, x))) + short)
        return x.mean((1, 2))

    def __call__(self, x: Array) -> Array:
        return self.head(self.features(x))


def resnet(input_shape: Sequence[int], outputs: int, task: str, *, norm: str = "group", depth: int = 8, width: int = 16) -> Model:
    """A small ResNet for images of 8x8 to 32x32 pixels; norm "group" (default, no buffers) or "batch"."""
    refuse_sequence("resnet", task)
    if norm not in ("group", "batch"):
        raise unknown("norm of resnet", str(norm), ("group", "batch"))
    if not whole(depth) or depth < 8 or depth % 6 != 2:
        raise AtollError(f"resnet: the depth is 6n + 2 layers (8, 14, 20, ...), not {depth!r}.")
    if not whole(width) or width % 2:
        raise AtollError(f"resnet: the width is an even number of channels, not {width!r}.")
    pairs = (depth - 2) // 6

    def first(block: str) -> bool:
        """conv1, the head, and of every pair its shortcut, or its first convolution (with an even number) where the shortcut has no weights."""
        kind, number = block.rstrip("0123456789"), block.lstrip("abcdefghijklmnopqrstuvwxyz")
        strided = number in [str(2 + 2 * pairs * stage) for stage in (1, 2)]
        return kind in ("head", "short") or block == "conv1" or (kind == "conv" and int(number) % 2 == 0 and not strided)

    return as_model("resnet", lambda rngs: ResNet(input_shape, outputs, norm, pairs, width, rngs=rngs), input_shape, outputs, task, first=first)


class ScaledBatchNorm(MaskedBatchNorm):
    """Batch norm of x / rate in training and of x in evaluation: HeteroFL's Scaler followed by a batch norm.

    Dividing by the rate changes nothing in a batch norm but epsilon, which becomes epsilon * rate^2 for x itself. So the running statistics
    stay those of x, and evaluation, which does not scale, may use them whatever the rate.
    """

    def __init__(self, features: int, rate: float, *, rngs: nnx.Rngs):
        super().__init__(features, momentum=MOMENTUM, epsilon=EPSILON, rngs=rngs)
        self.rate = rate

    def __call__(self, x: Array, use_running_average: bool | None = None, *, mask: Array | None = None) -> Array:
        running = self.use_running_average if use_running_average is None else use_running_average
        self.epsilon = EPSILON if running else EPSILON * self.rate**2
        return super().__call__(x, use_running_average, mask=mask)


class HeteroFLCnn(nnx.Module):
    """Four times 3x3 convolution - scaler - batch norm - ReLU, with max-pooling between them; the mean over pixels; one dense layer."""

    def __init__(self, input_shape: Sequence[int], outputs: int, rate: float, *, rngs: nnx.Rngs):
        inputs = image_shape("heterofl", input_shape, least=8)[2]
        for i, full in enumerate(HETEROFL_WIDTHS, start=1):
            width = narrowed("heterofl", full, rate)
            setattr(self, f"conv{i}", conv(inputs, width, 3, rngs=rngs))
            setattr(self, f"norm{i}", ScaledBatchNorm(width, rate, rngs=rngs))
            inputs = width
        self.head = dense(inputs, outputs, rngs=rngs)

    def features(self, x: Array) -> Array:
        x = as_image(x)
        for i in range(1, len(HETEROFL_WIDTHS) + 1):
            x = max_pool(x) if i > 1 else x
            x = nnx.relu(getattr(self, f"norm{i}")(getattr(self, f"conv{i}")(x)))
        return x.mean((1, 2))

    def __call__(self, x: Array) -> Array:
        return self.head(self.features(x))


def heterofl(input_shape: Sequence[int], outputs: int, task: str, *, rate: float = 1.0) -> Model:
    """The MNIST CNN of HeteroFL (Diao, Ding, Tarokh, ICLR 2021) at a width rate; at rate 1 1,556,874 parameters for 28x28x1, 10 classes."""
    refuse_sequence("heterofl", task)

    def at(rate: float) -> Model:
        check_rate("heterofl", rate)

        def make(rngs: nnx.Rngs) -> nnx.Module:
            return HeteroFLCnn(input_shape, outputs, rate, rngs=rngs)

        return as_model("heterofl", make, input_shape, outputs, task, narrow, first=lambda block: not block.startswith("norm"))

    narrow = cache(at)
    return narrow(check_rate("heterofl", rate))
