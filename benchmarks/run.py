"""Speed of one federated round beside other simulators, as ratios within one run: `make bench`, or `python3 benchmarks/run.py --help`.

Every contender runs in processes of its own, one after another and in turns (A B C A B C ...), so that nothing disturbs its threads and a slow spell
of the machine meets all of them. The table gives the median over all measured rounds and the least; ratios are taken between medians of this run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import environment
from environment import HERE, PYTHON

MARK = "RESULT "


@dataclass(frozen=True)
class Contender:
    """One way to compute the round. `family` gathers settings of which the best counts."""

    name: str
    family: str
    script: str
    options: tuple[str, ...] = ()
    workers: int = 1  # processes started by torch.distributed.run
    only: tuple[str, ...] = ()  # workloads; () = all
    variables: tuple[tuple[str, str], ...] = ()


ONE = (("OMP_NUM_THREADS", "1"),)
CONTENDERS = (
    Contender("Atoll", "atoll", "with_atoll.py"),
    Contender("Atoll, clients one by one", "alone", "with_atoll.py", ("--together", "1"), only=("net",)),
    Contender("PyTorch loop, 1 thread", "torch", "with_torch.py", ("--threads", "1")),
    Contender("PyTorch loop, 2 threads", "torch", "with_torch.py", ("--threads", "2")),
    Contender("PyTorch loop, 2 processes", "torch", "with_torch.py", ("--workers", "2")),
    Contender("PyTorch loop, 1 thread, channels_last", "torch", "with_torch.py", ("--threads", "1", "--channels-last"), only=("cnn",)),
    Contender("PyTorch loop, 2 threads, channels_last", "torch", "with_torch.py", ("--threads", "2", "--channels-last"), only=("cnn",)),
    Contender("PyTorch loop, 2 processes, channels_last", "torch", "with_torch.py", ("--workers", "2", "--channels-last"), only=("cnn",)),
    Contender("Apple pfl, 1 process", "pfl", "with_pfl.py"),
    Contender("Apple pfl, 2 processes", "pfl", "with_pfl.py", workers=2, variables=ONE),
    Contender("FedJAX", "fedjax", "with_fedjax.py"),
    Contender("Flower, 2 actors", "flower", "with_flower.py", variables=ONE),
)
FAMILIES = {
    "atoll": "Atoll",
    "alone": "Atoll with clients one by one",
    "torch": "best PyTorch loop",
    "pfl": "Apple pfl",
    "fedjax": "FedJAX",
    "flower": "Flower",
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", action="append", help="net, softmax, mlp, cnn or scale; several allowed; default all")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="a contender; several allowed; default all")
    parser.add_argument("--repeats", type=int, default=3, help="turns that every contender gets (default 3)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the JSON file")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    families = [f for f in FAMILIES if f in (args.family or FAMILIES)]
    missing = environment.prepare(["atoll", *(f for f in families if f in environment.STEPS and f != "atoll")])
    if Path(sys.executable).absolute() != PYTHON.absolute():
        os.execv(PYTHON, [str(PYTHON), str(HERE / "run.py"), *sys.argv[1:]])
    from tables import machine, print_scale, print_workload
    from workloads import WORKLOADS

    chosen = args.workload or [*WORKLOADS, "scale"]
    facts = machine()
    print(facts_line(facts))
    command = " ".join(["python3 benchmarks/run.py", *sys.argv[1:]])
    record: dict[str, Any] = {"machine": facts, "command": command, "not_installed": missing, "workloads": {}}
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / f"{time.strftime('%Y-%m-%d-%H%M')}.json"
    for name in chosen:
        if name == "scale":
            record["scale"] = scale()
            print_scale(record["scale"])
        else:
            results = compare(name, [c for c in CONTENDERS if c.family in families and (not c.only or name in c.only)], args.repeats, missing)
            record["workloads"][name] = results
            print_workload(WORKLOADS[name], results, facts)
        file.write_text(json.dumps(record, indent=1))
    print(f"Written to {file}")


def facts_line(facts: dict[str, Any]) -> str:
    size = f"{facts['cores']} cores, {facts['memory_gb']:.0f} GB"
    return f"{facts['processor']}, {size}; matrix products {facts['gflops']:.0f} GFLOP/s; load {facts['load']:.2f} before the start"


def compare(workload: str, contenders: list[Contender], repeats: int, missing: dict[str, str]) -> dict[str, Any]:
    """Name -> what was measured, or why not."""
    results: dict[str, Any] = {}
    for turn in range(repeats):
        for contender in contenders:
            if contender.family in missing:
                results[contender.name] = {"family": contender.family, "error": f"not installed: {missing[contender.family]}"}
                continue
            mine = results.setdefault(contender.name, {"family": contender.family, "turns": []})
            if "error" in mine:
                continue
            print(f"{workload}, turn {turn + 1} of {repeats}: {contender.name}".ljust(90), end="\r", flush=True)
            load = os.getloadavg()[0]
            turn_result = run(contender.script, ("--workload", workload, *contender.options), contender.workers, contender.variables)
            if "error" in turn_result:
                mine["error"] = turn_result["error"]
            else:
                mine["turns"].append(turn_result | {"load": load})
    for mine in results.values():
        if mine.get("turns"):
            mine |= summary(mine["turns"])
    return results


def summary(turns: list[dict[str, Any]]) -> dict[str, Any]:
    rounds = [s for turn in turns for s in turn["rounds"]]
    scored = [s for turn in turns for s in turn["evaluations"]]
    return {
        "median": statistics.median(rounds),
        "least": min(rounds),
        "cpu": statistics.median(turn["cpu"] for turn in turns),
        "first": statistics.median(turn["first"] for turn in turns),
        "first_ever": turns[0]["first"],
        "evaluation": statistics.median(scored),
        "evaluation_least": min(scored),
        "accuracy": turns[-1]["accuracy"],
        "version": turns[-1]["version"],
    }


def run(script: str, options: tuple[str, ...], workers: int = 1, variables: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
    """What a contender's process reports, or its error."""
    start = [str(PYTHON)] if workers == 1 else [str(PYTHON), "-m", "torch.distributed.run", f"--nproc_per_node={workers}"]
    settings = {**os.environ, **dict(variables), "ATOLL_CACHE": str(HERE / ".venv" / "cache")}
    try:
        done = subprocess.run([*start, str(HERE / script), *options], capture_output=True, text=True, timeout=1200, env=settings)
    except subprocess.TimeoutExpired:
        return {"error": "no result within 20 minutes"}
    lines = [line for line in done.stdout.splitlines() if MARK in line]
    if lines:
        return json.loads(lines[-1].split(MARK)[1])
    return {"error": (done.stderr.strip().splitlines() or [f"ended with {done.returncode} and no result"])[-1][:300]}


def scale() -> list[dict[str, Any]]:
    """Rounds of 100 clients out of ever more; every size in a process of its own."""
    rows = []
    for method in ("fedavg", "scaffold", "fedper"):
        for clients in (1_000, 10_000, 100_000):
            print(f"scale: {method}, {clients:,} clients".ljust(90), end="\r", flush=True)
            rows.append({"method": method, "clients": clients, **run("scale.py", ("--method", method, "--clients", str(clients)))})
    return rows


if __name__ == "__main__":
    main()
