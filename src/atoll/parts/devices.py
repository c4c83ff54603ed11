"""Device profiles: how fast each client computes and sends, and how often it is there; drawn from documented distributions or read from a CSV trace."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from atoll.core.errors import AtollError, unknown
from atoll.core.keys import host_generator

SLOWEST = 0.05  # share of its own speed below which a device does not fall in any round


@dataclass(frozen=True)
class Devices:
    """One number per client and property; all arrays are float64 [clients]. Units are those of the trace's columns."""

    gflops: np.ndarray  # 10^9 floating-point operations per second
    down_mbit: np.ndarray  # 10^6 bits per second, to the client
    up_mbit: np.ndarray
    latency: np.ndarray  # seconds from server to client and back
    available: np.ndarray  # probability of being reachable in a round
    dropout: np.ndarray  # probability of being lost after having been asked
    jitter: np.ndarray  # standard deviation of a round's speed by the mean speed

    def speed(self, seed: int, round: int, ids: np.ndarray) -> np.ndarray:
        """Operations per second of `ids` in this round: normal around the mean, never below SLOWEST of it."""
        noise = host_generator(seed, "speed", round).standard_normal(len(self.gflops))
        return 1e9 * (self.gflops * np.maximum(1 + self.jitter * noise, SLOWEST))[ids]


NAMES = tuple(field.name for field in fields(Devices))
USUAL = {"gflops": 10.0, "down_mbit": 20.0, "up_mbit": 5.0, "latency": 0.1, "available": 1.0, "dropout": 0.0, "jitter": 0.0}  # of what a trace leaves out


def same(n: int, _: np.random.Generator) -> dict[str, np.ndarray]:
    """All alike: 10 GFLOP/s, 20 Mbit/s down and 5 up, 0.1 s of latency, always there."""
    return {name: np.full(n, value) for name, value in USUAL.items()}


def tiers(n: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Five equally large groups, at random, whose speeds are as 4 : 2 : 1 : 1/3 : 1/5 of 10 GFLOP/s; the rest as `same`."""
    shares = np.array([4, 2, 1, 1 / 3, 1 / 5])
    return same(n, random) | {"gflops": 10 * shares[random.permutation(n) % len(shares)]}


def lognormal(n: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """As of many phones: log-normal with medians as `same`, sigma 0.75 for speed, 1 for both bandwidths (drawn together) and 0.5 for latency.

    Availability is uniform between 0.5 and 1, and 5 % are lost in a round; a round's speed varies by 20 %.
    """
    bandwidth = random.lognormal(0, 1, n)
    return same(n, random) | {
        "gflops": 10 * random.lognormal(0, 0.75, n),
        "down_mbit": 20 * bandwidth,
        "up_mbit": 5 * bandwidth,
        "latency": 0.1 * random.lognormal(0, 0.5, n),
        "available": random.uniform(0.5, 1, n),
        "dropout": np.full(n, 0.05),
        "jitter": np.full(n, 0.2),
    }


def varying(n: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Workloads of FedSAE's experiments: mean speed uniform between 5 and 10 GFLOP/s, a round's deviation between a quarter and half of it."""
    return same(n, random) | {"gflops": random.uniform(5, 10, n), "jitter": random.uniform(0.25, 0.5, n)}


PROFILES: dict[str, Callable[[int, np.random.Generator], dict[str, np.ndarray]]] = {"same": same, "tiers": tiers, "lognormal": lognormal, "varying": varying}


def devices(what: str, clients: Sequence[str], seed: int) -> Devices:
    """The devices of named clients: a distribution of PROFILES by its name, or a CSV file (a path ending in .csv).

    AtollError for unknown names and for what is wrong in a file, with its line.
    """
    if what.endswith(".csv"):
        return _trace(Path(what), clients)
    if what not in PROFILES:
        raise unknown("device profile", what, [*PROFILES, "a path to a .csv file"])
    return Devices(**PROFILES[what](len(clients), host_generator(seed, "devices", 0)))


def _trace(path: Path, clients: Sequence[str]) -> Devices:
    """A CSV file with the column `client` and any of NAMES; clients that it does not name are an error, columns that it leaves out are as usual."""
    try:
        with open(path, newline="") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise AtollError(f"The device trace {path} can't be read: {error}.") from None
    columns = set(lines[0]) if lines else set()
    if "client" not in columns:
        raise AtollError(f"The device trace {path} needs a header with the column client and any of {', '.join(NAMES)}.")
    for column in columns - {"client"}:
        if column not in NAMES:
            raise unknown(f"column of the device trace {path}", str(column), NAMES)
    place = {name: i for i, name in enumerate(clients)}
    values = {name: np.full(len(clients), USUAL[name]) for name in NAMES}
    named = set()
    for number, line in enumerate(lines, start=2):
        client = line["client"]
        if client not in place:
            raise AtollError(f"{path}, line {number}: the federation has no client {client!r}. Its clients are {', '.join(list(clients)[:5])}, ...")
        if client in named:
            raise AtollError(f"{path}, line {number}: client {client!r} is there twice.")
        named.add(client)
        for column in columns - {"client"}:
            values[column][place[client]] = _number(path, number, column, line[column])
    if missing := [name for name in clients if name not in named]:
        raise AtollError(f"{path} has no line for {len(missing)} of {len(clients)} clients, the first of them {missing[0]!r}.")
    return Devices(**values)


def _number(path: Path, line: int, column: str, text: str | None) -> float:
    share = column in ("available", "dropout")
    try:
        value = float(text or "")
    except ValueError:
        raise AtollError(f"{path}, line {line}: {column} = {text!r} is no number.") from None
    least = column in ("latency", "jitter") or share
    if not np.isfinite(value) or value < 0 or (value == 0 and not least) or (share and value > 1):
        raise AtollError(f"{path}, line {line}: {column} = {value:g} must be {'between 0 and 1' if share else 'at least 0' if least else 'above 0'}.")
    return value
