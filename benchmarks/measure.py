"""How every contender is measured, inside its own process; the last line that it prints is the result."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil

MARK = "RESULT "


def cpu_seconds(root: int | None = None) -> float:
    """CPU time of a process (default: this one) and all its descendants so far."""
    top = psutil.Process(root)
    total = 0.0
    for process in (top, *top.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def timed(step: Callable[[], Any], times: int, patience: float = 15) -> list[float]:
    """Wall seconds of each of `times` calls, or of as many as begin within `patience` seconds (2 at least)."""
    taken: list[float] = []
    while len(taken) < times and (len(taken) < 2 or sum(taken) < patience):
        before = time.perf_counter()
        step()
        taken.append(time.perf_counter() - before)
    return taken


class Report:
    """Collects what a contender took."""

    def __init__(self, root: int | None = None):
        self.root = root
        self.content: dict[str, Any] = {}

    def train(self, step: Callable[[], Any], warm_up: int, rounds: int) -> None:
        """Times `step`, one federated round."""
        warm = timed(step, warm_up)
        before = cpu_seconds(self.root)
        taken = timed(step, rounds)
        self.rounds(warm, taken, cpu_seconds(self.root) - before)

    def rounds(self, warm: list[float], taken: list[float], cpu: float) -> None:
        self.content |= {"first": warm[0], "rounds": taken, "cpu": cpu / len(taken)}

    def evaluate(self, step: Callable[[], float], times: int) -> None:
        """Times `step`, which scores all clients' test rows and returns the accuracy."""
        self.content["accuracy"] = float(step())
        self.content["evaluations"] = timed(step, times)

    def print(self, **more: Any) -> None:
        """Prints the result; contenders with helper processes call this in one of them."""
        import resource

        self.content |= more | {"peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
        sys.stdout.flush()
        os.write(1, (MARK + json.dumps(self.content) + "\n").encode())
