"""Rounds of 100 clients out of 1,000 to 100,000, each with 20 train and 5 test rows of 60 values, net 60-20-10."""

from __future__ import annotations

import argparse
import resource
import tempfile

import numpy as np
from measure import Report

import atoll
from atoll.data.federation import Federation

PER_ROUND, TRAIN, TEST, WARM_UP, ROUNDS = 100, 20, 5, 3, 30


def federation(clients: int) -> Federation:
    rng = np.random.default_rng(0)
    n, m = clients * TRAIN, clients * TEST
    count = {"train": np.full(clients, TRAIN), "validation": np.zeros(clients, int), "test": np.full(clients, TEST)}
    first = {"train": 0, "validation": n, "test": n}
    start = {split: first[split] + np.arange(clients) * count[split] for split in count}
    x, y = rng.integers(0, 256, (n + m, 60), np.uint8), rng.integers(0, 10, n + m, np.int32)
    names, labels = (tuple(f"{kind} {i}" for i in range(k)) for kind, k in (("client", clients), ("class", 10)))
    return Federation("scale", x, y, start, count, names, clients, labels, scale=1 / 255)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", required=True)
    parser.add_argument("--clients", type=int, required=True)
    args = parser.parse_args()
    fed, report = federation(args.clients), Report()
    data = fed.x.nbytes + fed.y.nbytes
    before = peak()
    rounds = WARM_UP + ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        how = {"model": "mlp:20", "per_round": PER_ROUND, "baselines": False, "checkpoint_every": rounds, "settings": {"lr": 0.05, "batch": 20, "epochs": 1}}
        result = atoll.run(fed, [args.method], rounds=rounds, eval_every=rounds, out=f"{folder}/run", **how)
        table = result.rounds
        seconds = table["seconds"].to_list()
        report.rounds(seconds[:WARM_UP], seconds[WARM_UP:], sum(table["cpu_seconds"].to_list()[WARM_UP:]))
        more = {
            "private_bytes": table["private_bytes"].to_list()[-1],
            "round_peak": max(table["peak_memory"].to_list()),
            "evaluation": max(table["eval_seconds"].to_list()),
        }
    report.print(data_bytes=data, before=before, **more)


if __name__ == "__main__":
    main()
