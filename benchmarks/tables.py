"""The machine's facts and the printed tables."""

from __future__ import annotations

import os
import platform
import time
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table
from run import FAMILIES
from workloads import Workload, data_of

console = Console(width=150)


def machine() -> dict[str, Any]:
    """What a reader needs to judge the figures."""
    processor = platform.processor() or "unknown processor"
    try:
        with open("/proc/cpuinfo") as file:
            processor = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), processor)
    except OSError:
        pass
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": psutil.virtual_memory().total / 2**30,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
        "gflops": matrix_rate(),
    }


def matrix_rate() -> float:
    """GFLOP/s of float32 matrix products on all cores, through NumPy's BLAS: the best of ten products of 2048 x 2048."""
    a = np.random.default_rng(0).random((2048, 2048), np.float32)
    best = float("inf")
    for _ in range(10):
        before = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - before)
    return 2 * 2048**3 / best / 1e9


def print_workload(workload: Workload, results: dict[str, Any], facts: dict[str, Any]) -> None:
    """One table for one workload: training and evaluation."""
    table = Table(title=f"{workload.title}: one round of 10 x 600 rows, {workload.flops / 1e9:.3g} GFLOP; evaluation of 100 x 100 rows", title_justify="left")
    for column in ("contender", "round ms", "least", "x Atoll", "CPU ms", "cores", "% of peak", "first s", "evaluation ms", "x Atoll", "accuracy"):
        table.add_column(column, justify="left" if column == "contender" else "right")
    atoll = results.get("Atoll", {})
    for name, r in results.items():
        if "median" not in r:
            table.add_row(name, f"[red]{r.get('error', 'no result')}[/red]")
            continue
        times = f"{r['median'] / atoll['median']:.2f}" if "median" in atoll else ""
        scored = f"{r['evaluation'] / atoll['evaluation']:.2f}" if "evaluation" in atoll else ""
        table.add_row(
            name,
            f"{1e3 * r['median']:.1f}",
            f"{1e3 * r['least']:.1f}",
            times,
            f"{1e3 * r['cpu']:.1f}",
            f"{r['cpu'] / r['median']:.1f}",
            f"{100 * workload.flops / r['median'] / 1e9 / facts['gflops']:.0f}",
            f"{r['first']:.2f}",
            f"{1e3 * r['evaluation']:.1f}",
            scored,
            f"{100 * r['accuracy']:.1f} %",
        )
    console.print(table)
    console.print(f"Rows: {data_of(workload).note}. {ratios(results)}\n")


def ratios(results: dict[str, Any]) -> str:
    """Atoll against the best setting of each other family."""
    best: dict[str, float] = {}
    for r in results.values():
        if "median" in r:
            best[r["family"]] = min(best.get(r["family"], float("inf")), r["median"])
    if "atoll" not in best:
        return ""
    return "Atoll is " + ", ".join(f"{value / best['atoll']:.2f} x {FAMILIES[family]}" for family, value in best.items() if family != "atoll") + " in speed."


def print_scale(rows: list[dict[str, Any]]) -> None:
    """Time and memory of rounds of 100 clients."""
    table = Table(title="Scale: rounds of 100 clients of 20 rows, net 60-20-10", title_justify="left")
    for column in ("method", "clients", "round ms", "x 1,000", "data MB", "private MB", "peak MB", "peak - data - private MB", "evaluation of all s"):
        table.add_column(column, justify="left" if column == "method" else "right")
    first: dict[str, float] = {}
    for r in rows:
        if "error" in r:
            table.add_row(r["method"], f"{r['clients']:,}", f"[red]{r['error']}[/red]")
            continue
        median = float(np.median(r["rounds"]))
        base = first.setdefault(r["method"], median)
        mega = {key: r[key] / 2**20 for key in ("data_bytes", "private_bytes", "round_peak")}
        table.add_row(
            r["method"],
            f"{r['clients']:,}",
            f"{1e3 * median:.1f}",
            f"{median / base:.2f}",
            *(f"{value:.0f}" for value in mega.values()),
            f"{mega['round_peak'] - mega['data_bytes'] - mega['private_bytes']:.0f}",
            f"{r['evaluation']:.2f}",
        )
    console.print(table)
