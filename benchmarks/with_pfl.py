"""Apple's pfl (pfl-research) simulator: its FederatedAveraging on its SimulatedBackend. Two processes when started by torch.distributed.run."""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from measure import Report, cpu_seconds, timed
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from pfl.version import __version__
from torch_models import model_of, tensors
from workloads import BATCH, CLIENTS, LR, PER_ROUND, TEST, WARM_UP, WORKLOADS, data_of


def with_loss(model: torch.nn.Module) -> torch.nn.Module:
    """pfl wants a module that knows its loss and metrics."""

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

        def loss(self, x: torch.Tensor, y: torch.Tensor, eval: bool = False) -> torch.Tensor:
            return F.cross_entropy(self.inner(x), y)

        @torch.no_grad()
        def metrics(self, x: torch.Tensor, y: torch.Tensor, eval: bool = False) -> dict:
            return {"accuracy": Weighted(int((self.inner(x).argmax(1) == y).sum()), len(y))}

    return Net()


class Stopwatch(TrainingProcessCallback):
    """Notes when rounds end."""

    def __init__(self, root: int | None):
        self.root, self.ends, self.cpu = root, [], []

    def on_train_begin(self, *, model) -> Metrics:
        self.ends.append(time.perf_counter())
        self.cpu.append(0.0)
        return Metrics()

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        self.cpu.append(cpu_seconds(self.root) if central_iteration == WARM_UP - 1 else 0.0)
        self.ends.append(time.perf_counter())
        return False, Metrics()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workload", required=True)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - pfl draws cohorts from NumPy's global generator
    workload = WORKLOADS[args.workload]
    train_x, train_y, test_x, test_y = tensors(workload, data_of(workload))
    rank = int(os.environ.get("RANK", 0))
    root = os.getppid() if "RANK" in os.environ else None
    users = {i: (train_x[i], train_y[i]) for i in range(CLIENTS)}
    sets = {i: Dataset(rows, user_id=str(i)) for i, rows in users.items()}  # made once: a Dataset caches its batches
    dataset = FederatedDataset(sets.__getitem__, get_user_sampler("minimize_reuse", list(users)))
    module = with_loss(model_of(workload))
    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))
    watch, rounds = Stopwatch(root), workload.rounds
    FederatedAveraging().run(
        NNAlgorithmParams(central_num_iterations=WARM_UP + rounds, evaluation_frequency=10**6, train_cohort_size=PER_ROUND, val_cohort_size=None),
        SimulatedBackend(training_data=dataset, val_data=None),
        model,
        NNTrainHyperParams(local_batch_size=BATCH, local_num_epochs=1, local_learning_rate=LR),
        NNEvalHyperParams(local_batch_size=None),
        callbacks=[watch],
        send_metrics_to_platform=False,
    )
    after = cpu_seconds(root)
    if rank:
        return
    taken = np.diff(watch.ends).tolist()
    report = Report(root)
    report.rounds(taken[:WARM_UP], taken[WARM_UP:], after - watch.cpu[WARM_UP])
    tests = [Dataset((test_x[i], test_y[i]), user_id=str(i), eval_kwargs={"eval": True}) for i in range(CLIENTS)]

    def evaluate() -> float:
        hits = 0.0
        for rows in tests:
            ((_, value),) = model.evaluate(rows)
            hits += value.overall_value * TEST
        return hits / (CLIENTS * TEST)

    report.content["accuracy"] = evaluate()
    report.content["evaluations"] = timed(evaluate, workload.evaluations)
    report.print(version=__version__)


if __name__ == "__main__":
    main()
