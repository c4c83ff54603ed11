"""A plain PyTorch loop, tuned: the loop that a researcher would write who knows where the time goes.

One model is used for all clients, rows lie in memory as float32 tensors, there is no DataLoader, parameters are views of one flat tensor, so that
loading the common model, stepping and averaging are single operations. `--workers 2` forks two processes with one thread each that share the flat
parameters; clients are dealt out between them.
"""

from __future__ import annotations

import argparse
import os

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from measure import Report
from torch_models import model_of, tensors
from workloads import BATCH, CLIENTS, LR, PER_ROUND, TEST, TRAIN, WARM_UP, WORKLOADS, data_of


class Loop:
    """Trains and scores clients with one model."""

    def __init__(self, workload, data, channels_last: bool):
        torch.manual_seed(0)
        self.model = model_of(workload)
        self.train_x, self.train_y, self.test_x, self.test_y = tensors(workload, data)
        if channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        self.channels_last = channels_last
        self.parameters = list(self.model.parameters())
        self.flat = torch.cat([p.detach().permute(0, 2, 3, 1).reshape(-1) if self._permuted(p) else p.detach().reshape(-1) for p in self.parameters])
        at = 0
        for p in self.parameters:
            piece = self.flat[at : at + p.numel()]
            if self._permuted(p):
                o, c, h, w = p.shape
                p.data = piece.view(o, h, w, c).permute(0, 3, 1, 2)
            else:
                p.data = piece.view(p.shape)
            at += p.numel()
        # Gradients in one flat tensor save calls, and cost a pass over it: they pay for small models only (measured).
        self.flat_gradient = torch.zeros_like(self.flat) if len(self.flat) < 50_000 else None
        if self.flat_gradient is not None:
            for p, piece in zip(self.parameters, self.flat_gradient.split([p.numel() for p in self.parameters]), strict=True):
                p.grad = piece.view(p.shape)

    def _permuted(self, p: torch.Tensor) -> bool:
        return self.channels_last and p.dim() == 4

    def client(self, i: int, order: np.ndarray) -> None:
        """One epoch of SGD of client i on the flat parameters."""
        order = torch.from_numpy(order)
        x, y = self.train_x[i][order], self.train_y[i][order]
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        for xb, yb in zip(x.split(BATCH), y.split(BATCH), strict=True):
            loss = F.cross_entropy(self.model(xb), yb)
            if self.flat_gradient is not None:
                self.flat_gradient.zero_()
                loss.backward()
                self.flat.add_(self.flat_gradient, alpha=-LR)
            else:
                gradients = torch.autograd.grad(loss, self.parameters)
                with torch.no_grad():
                    torch._foreach_add_(self.parameters, gradients, alpha=-LR)

    def correct(self, clients: range) -> float:
        hits = 0
        with torch.inference_mode():
            for i in clients:
                x = self.test_x[i]
                if self.channels_last:
                    x = x.contiguous(memory_format=torch.channels_last)
                hits += int((self.model(x).argmax(1) == self.test_y[i]).sum())
        return hits


class Cohorts:
    """Who is asked in which round and in what order each client's rows come, made beforehand and the same for all processes."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(1)

    def next(self) -> list[tuple[int, np.ndarray]]:
        return [(int(i), self._random.permutation(TRAIN)) for i in self._random.choice(CLIENTS, PER_ROUND, replace=False)]


def alone(loop: Loop, workload, report: Report) -> None:
    cohorts = Cohorts()

    def one_round() -> None:
        start, total = loop.flat.clone(), torch.zeros_like(loop.flat)
        for i, order in cohorts.next():
            loop.flat.copy_(start)
            loop.client(i, order)
            total.add_(loop.flat, alpha=1 / PER_ROUND)
        loop.flat.copy_(total)

    report.train(one_round, WARM_UP, workload.rounds)
    report.evaluate(lambda: loop.correct(range(CLIENTS)) / (CLIENTS * TEST), workload.evaluations)


def forked(loop: Loop, workload, workers: int, report: Report) -> None:
    """The workers' totals and the common parameters are in shared memory; a byte through a pipe starts a worker, a byte back says that it is done."""
    common, totals = loop.flat.clone().share_memory_(), torch.zeros(workers, len(loop.flat)).share_memory_()
    hits = torch.zeros(workers).share_memory_()
    ends = [(os.pipe(), os.pipe()) for _ in range(workers)]

    def work(number: int) -> None:
        torch.set_num_threads(1)
        (order_end, _), (_, answer_end) = ends[number]
        cohorts = Cohorts()
        while True:
            match os.read(order_end, 1):
                case b"r":
                    totals[number].zero_()
                    for i, order in cohorts.next()[number::workers]:
                        loop.flat.copy_(common)
                        loop.client(i, order)
                        totals[number].add_(loop.flat, alpha=1 / PER_ROUND)
                case b"e":
                    loop.flat.copy_(common)
                    hits[number] = loop.correct(range(number, CLIENTS, workers))
                case _:
                    os._exit(0)
            os.write(answer_end, b"d")

    for number in range(workers):
        if os.fork() == 0:
            work(number)

    def tell(what: bytes) -> None:
        for (_, order_end), _ in ends:
            os.write(order_end, what)

    def ask(what: bytes) -> None:
        tell(what)
        for _, (answer_end, _) in ends:
            os.read(answer_end, 1)

    def one_round() -> None:
        ask(b"r")
        torch.sum(totals, 0, out=common)

    def evaluate() -> float:
        ask(b"e")
        return float(hits.sum()) / (CLIENTS * TEST)

    report.train(one_round, WARM_UP, workload.rounds)
    report.evaluate(evaluate, workload.evaluations)
    tell(b"q")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workload", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--channels-last", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    workload = WORKLOADS[args.workload]
    loop, report = Loop(workload, data_of(workload), args.channels_last), Report()
    if args.workers > 1:
        forked(loop, workload, args.workers, report)
    else:
        alone(loop, workload, report)
    report.print(version=torch.__version__)


if __name__ == "__main__":
    main()
