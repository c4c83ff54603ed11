"""Flower's simulator on Ray: two actors of one CPU each."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import warnings

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["RAY_DEDUP_LOGS"] = "0"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["PYTHONPATH"] = os.path.dirname(os.path.abspath(__file__))  # actors import flower_client from here

import flower_client
import flwr
import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from measure import Report, cpu_seconds
from torch_models import model_of
from workloads import CLIENTS, PER_ROUND, WARM_UP, WORKLOADS


class Timed(FedAvg):
    """FedAvg that notes when its phases begin and end."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.training: list[float] = []
        self.evaluating: list[float] = []
        self.cpu = [0.0, 0.0]

    def configure_train(self, server_round, arrays, config, grid):
        if server_round == WARM_UP + 1:
            self.cpu[0] = cpu_seconds()
        self._began = time.perf_counter()
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round, replies):
        result = super().aggregate_train(server_round, replies)
        self.training.append(time.perf_counter() - self._began)
        self.cpu[1] = cpu_seconds()
        return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workload", required=True)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("flwr").setLevel(logging.ERROR)
    torch.manual_seed(0)
    workload = WORKLOADS[args.workload]
    strategy = Timed(fraction_train=PER_ROUND / CLIENTS, fraction_evaluate=0.0, min_available_nodes=CLIENTS)
    report, accuracy = Report(), []
    server = ServerApp()

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        config = ConfigRecord({"workload": workload.name})
        while len(list(grid.get_node_ids())) < CLIENTS:
            time.sleep(0.1)
        result = strategy.start(grid, ArrayRecord(model_of(workload).state_dict()), WARM_UP + workload.rounds, train_config=config)
        report.rounds(strategy.training[:WARM_UP], strategy.training[WARM_UP:], strategy.cpu[1] - strategy.cpu[0])
        everyone, taken = FedAvg(fraction_evaluate=1.0, min_available_nodes=CLIENTS), []
        for _ in range(workload.evaluations + 1):
            before = time.perf_counter()
            replies = grid.send_and_receive(everyone.configure_evaluate(1, result.arrays, config, grid))
            accuracy.append(everyone.aggregate_evaluate(1, replies)["accuracy"])
            taken.append(time.perf_counter() - before)
        report.content |= {"accuracy": float(accuracy[-1]), "evaluations": taken[1:]}

    run_simulation(server, flower_client.app, CLIENTS, backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": 2}})
    if "accuracy" not in report.content:
        sys.exit("Flower's server app did not finish")
    report.print(version=flwr.__version__, numpy=np.__version__)


if __name__ == "__main__":
    main()
