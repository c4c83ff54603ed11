"""Atoll through its public function, as `atoll run` uses it; the figures are those of its own table rounds.parquet."""

from __future__ import annotations

import argparse
import tempfile

import jax
import numpy as np
from measure import Report, cpu_seconds
from workloads import BATCH, CLASSES, CLIENTS, LR, PER_ROUND, TEST, TRAIN, WARM_UP, WORKLOADS, Data, data_of

import atoll
from atoll.data.federation import Federation


def federation(data: Data) -> Federation:
    """The workload's rows; there are no validation rows."""
    count = {"train": np.full(CLIENTS, TRAIN), "validation": np.zeros(CLIENTS, int), "test": np.full(CLIENTS, TEST)}
    first = {"train": 0, "validation": CLIENTS * TRAIN, "test": CLIENTS * TRAIN}
    start = {split: first[split] + np.arange(CLIENTS) * count[split] for split in count}
    x, y = (np.concatenate([a.reshape(-1, *a.shape[2:]), b.reshape(-1, *b.shape[2:])]) for a, b in ((data.train_x, data.test_x), (data.train_y, data.test_y)))
    names, labels = (tuple(f"{kind} {i}" for i in range(n)) for kind, n in (("client", CLIENTS), ("class", CLASSES)))
    return Federation("benchmark", x, y, start, count, names, CLIENTS, labels, scale=1 / 255 if x.dtype == np.uint8 else 1.0)


class Cpu:
    """Watches a run: CPU time of the rounds after the warm-up, but for the last, which an evaluation follows. It looks twice only: looking takes time."""

    def __init__(self, rounds: int):
        self.last = rounds - 1

    def begin(self, title: str, rounds: int, done: int) -> None: ...
    def end(self, title: str, state: str) -> None: ...

    def progress(self, title: str, round: int, note: str) -> None:
        if round == WARM_UP:
            self.before = cpu_seconds()
        elif round == self.last:
            self.per_round = (cpu_seconds() - self.before) / (self.last - WARM_UP)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workload", required=True)
    parser.add_argument("--together", type=int, default=None)
    args = parser.parse_args()
    workload, report = WORKLOADS[args.workload], Report()
    rounds = WARM_UP + workload.rounds
    how = {"model": workload.atoll, "rounds": rounds, "per_round": PER_ROUND, "baselines": False, "checkpoint_every": rounds}
    how |= {"together": args.together, "settings": {"lr": LR, "batch": BATCH, "epochs": 1}}
    with tempfile.TemporaryDirectory() as folder:
        watch = Cpu(rounds)
        fed = federation(data_of(workload))
        result = atoll.run(fed, ["fedavg"], out=f"{folder}/rounds", eval_every=rounds, watcher=watch, **how)
        seconds = result.rounds["seconds"].to_list()
        report.rounds(seconds[:WARM_UP], seconds[WARM_UP:], watch.per_round * workload.rounds)
        scores = result.clients.filter(round=rounds, split="test", model="global")
        report.content["accuracy"] = scores["correct"].sum() / scores["rows"].sum()
        how |= {"rounds": workload.evaluations + 1}
        scored = atoll.run(fed, ["fedavg"], out=f"{folder}/scores", eval_every=1, **how)
        report.content["evaluations"] = scored.rounds["eval_seconds"].to_list()[1:]
        report.content["flops"] = scored.rounds["flops"].to_list()[-1]
    report.print(version=f"{atoll.__version__}, jax {jax.__version__}")


if __name__ == "__main__":
    main()
