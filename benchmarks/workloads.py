"""What every contender computes: one federated round of FedAvg, 10 of 100 clients with 600 rows each, batch 20, one epoch, SGD 0.05. NumPy only."""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CLIENTS, PER_ROUND, TRAIN, TEST, BATCH, LR, CLASSES = 100, 10, 600, 100, 20, 0.05, 10
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # apt install dataset-fashion-mnist
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataclass(frozen=True)
class Workload:
    """One model on rows of one shape."""

    name: str
    title: str
    atoll: str  # the model's name in Atoll
    images: bool
    forward: int  # multiply-adds of one row's forward pass
    first: int  # those of its first layer, whose input needs no gradient
    rounds: int  # measured per process, after 3 of warm-up
    evaluations: int

    @property
    def flops(self) -> float:
        """Floating-point operations of a round: forward, gradient of the weights, gradient of the inputs."""
        return 2.0 * (3 * self.forward - self.first) * PER_ROUND * TRAIN


WORKLOADS = {
    w.name: w
    for w in (
        Workload("net", "net 60-20-10", "mlp:20", False, 1_400, 1_200, 40, 10),
        Workload("softmax", "softmax regression 784-10", "softmax", True, 7_840, 7_840, 40, 10),
        Workload("mlp", "MLP 784-200-10", "mlp:200", True, 158_800, 156_800, 30, 10),
        Workload("cnn", "McMahan CNN, 1,663,370 parameters", "cnn", True, 12_273_152, 627_200, 4, 2),
    )
}
WARM_UP = 3


@dataclass
class Data:
    """Rows of all clients, client by client: x [clients, rows, ...], y [clients, rows] int32."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    note: str


def data_of(workload: Workload) -> Data:
    """The workload's rows: synthetic for the small net, else Fashion-MNIST (uint8 images) or, where that is not found, noise of its shape."""
    rng = np.random.default_rng(0)
    n, m = CLIENTS * TRAIN, CLIENTS * TEST
    if not workload.images:
        x = rng.normal(size=(n + m, 60)).astype(np.float32)
        y = (x @ rng.normal(size=(60, CLASSES))).argmax(axis=1).astype(np.int32)
        return _dealt(x[:n], y[:n], x[n:], y[n:], "60 normal features, labels of a random linear teacher")
    folder = Path(os.environ.get("ATOLL_FASHION_MNIST") or DEBIAN)
    try:
        train_x, train_y, test_x, test_y = (_idx(folder, name) for name in FILES)
    except FileNotFoundError:
        x, y = rng.integers(0, 256, (n + m, 28, 28), np.uint8), rng.integers(0, CLASSES, n + m, np.int32)
        return _dealt(x[:n], y[:n], x[n:], y[n:], f"noise of Fashion-MNIST's shape, because {folder} does not hold its files")
    order = rng.permutation(n)
    return _dealt(train_x[order], train_y[order], test_x, test_y, f"Fashion-MNIST from {folder}")


def _dealt(train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray, note: str) -> Data:
    def deal(rows: np.ndarray) -> np.ndarray:
        return rows.reshape(CLIENTS, -1, *rows.shape[1:])

    return Data(deal(train_x), deal(train_y.astype(np.int32)), deal(test_x), deal(test_y.astype(np.int32)), note)


def _idx(folder: Path, name: str) -> np.ndarray:
    """An array of an idx file, gzipped or not."""
    plain, packed = folder / name, folder / f"{name}.gz"
    content = gzip.decompress(packed.read_bytes()) if packed.exists() else plain.read_bytes()
    axes = content[3]
    shape = np.frombuffer(content, ">i4", axes, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def floats(x: np.ndarray) -> np.ndarray:
    """Images as float32 between 0 and 1, prepared once by contenders that keep them so."""
    return x.astype(np.float32) / 255 if x.dtype == np.uint8 else x
