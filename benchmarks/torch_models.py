"""The workloads' models in PyTorch, for every contender that uses it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from workloads import Data, Workload, floats


def model_of(workload: Workload) -> nn.Module:
    """A fresh model; it takes rows as `tensors` gives them."""
    if workload.name == "net":
        return nn.Sequential(nn.Linear(60, 20), nn.ReLU(), nn.Linear(20, 10))
    if workload.name == "softmax":
        return nn.Linear(784, 10)
    if workload.name == "mlp":
        return nn.Sequential(nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 10))
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(3136, 512),
        nn.ReLU(),
        nn.Linear(512, 10),
    )


def tensors(workload: Workload, data: Data) -> tuple[torch.Tensor, ...]:
    """train_x, train_y, test_x, test_y in memory, ready to be used: [clients, rows, ...] float32 and int64."""
    inner = {"net": (60,), "cnn": (1, 28, 28)}.get(workload.name, (784,))

    def rows(x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(floats(x)).reshape(*x.shape[:2], *inner)

    return rows(data.train_x), torch.from_numpy(data.train_y).long(), rows(data.test_x), torch.from_numpy(data.test_y).long()
