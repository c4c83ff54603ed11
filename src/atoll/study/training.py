"""One method on one federation: round by round, with what each round cost and how well each client is served."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import psutil

from atoll.core.errors import AtollError
from atoll.core.federation import Conditions, Facts, Fed, NobodyAnswered, Selector
from atoll.core.method import label, shown, the_same
from atoll.core.model import Model
from atoll.core.program import MODELS, SCORED
from atoll.data.federation import Federation
from atoll.engine.exchange import Exchange

ROW_TYPES = {
    "method": pl.String, "round": pl.Int32, "client": pl.Int32, "seen": pl.Boolean, "joined": pl.Boolean, "split": pl.String, "model": pl.String,
    "rows": pl.Int32, "correct": pl.Float64, "loss": pl.Float64, "cluster": pl.Int32, "balanced": pl.Float64, "auc": pl.Float64,
}  # fmt: skip


@dataclass(frozen=True)
class RoundCost:
    """What one round cost; the columns of rounds.parquet."""

    method: str
    round: int
    cohort: int
    answered: int
    bytes_down: int
    bytes_up: int
    flops: float
    steps: int
    seconds: float
    cpu_seconds: float
    eval_seconds: float
    sim_seconds: float  # of the round in the simulated federation; 0 where clients have no devices
    private_bytes: int
    peak_memory: int


def facts_of(fed: Federation, models: tuple[Model, ...], method: Any = None, *, has_pool: bool = True) -> Facts:
    """What the server may know when it runs `method`. With several models, clients take them in turn."""
    models = models if method is None else architectures_of(method, models)
    first = np.array([models.index(model) for model in models])  # a model that is listed twice is one architecture
    architecture = np.append(first[np.arange(len(fed.names)) % len(models)], 0)
    public = None
    if fed.public is not None:
        x = jnp.asarray(fed.public[0])
        if x.dtype != jnp.int32:
            x = (x.astype(jnp.float32) - jnp.asarray(fed.shift, jnp.float32)) * jnp.asarray(fed.scale, jnp.float32)
        public = (x, jnp.asarray(fed.public[1]))
    return Facts(len(fed.names), fed.seen, models, architecture, models[0].outputs, train_rows(fed), public, has_pool)


def train_rows(fed: Federation) -> np.ndarray:
    """int [seen]: train rows of the seen clients."""
    return np.asarray(fed.count["train"])[: fed.seen]


class Training:
    """A method in training. `server` is its server state after `round` rounds."""

    def __init__(
        self, method: Any, federation: Federation, facts: Facts, engine: Exchange, *, seed: int, selector: Selector, conditions: Conditions | None = None,
        rounds: int | None = None,
    ):  # fmt: skip
        """rounds: how many are planned, which some selectors want to know."""
        self.method: Any = the_same(method)
        self.federation, self.engine = federation, engine
        self.label = label(method)
        self.fed = Fed(self.method, engine, facts, selector, conditions, seed)
        self.round = 0
        self.server: Any = None
        self._planned = rounds
        engine.executor.begin(self.label)
        self._enter(0)

    def start(self) -> RoundCost:
        """Makes the first server state. What `init` asks of clients is the cost of a round 0.

        AtollError where that takes an answer and no client can be reached.
        """
        wall, cpu = time.perf_counter(), time.process_time()
        self.fed.begin_selection(self._planned)
        try:
            self.server = jax.block_until_ready(self.method.init(self.fed))
        except NobodyAnswered:
            raise AtollError(f"{self.label} asks clients before the first round, and none of them can be reached. Lower dropout.") from None
        return self._cost(time.perf_counter() - wall, time.process_time() - cpu)

    def restore(self, round: int, server: Any, states: dict[int, Any], selection: Any = None) -> None:
        """Continues after `round` from what a checkpoint holds. selection: the state of a selector that learns."""
        self.round, self.server, self.fed.selection = round, server, selection
        self.engine.executor.load_states(states)
        self._enter(round)

    @property
    def shared(self) -> Any:
        """What the server shows its clients: `share(server)`, by default all of its state."""
        return shown(self.method, self.server)

    def step(self) -> RoundCost:
        """Runs the next round."""
        self.round += 1
        self._enter(self.round)
        wall, cpu = time.perf_counter(), time.process_time()
        self.fed.begin_round(self.round, self.shared)
        with contextlib.suppress(NobodyAnswered):  # a lost round: the server keeps its state
            self.server = jax.block_until_ready(self.method.round(self.server, self.fed))
        self.fed.end_round(self.shared)
        return self._cost(time.perf_counter() - wall, time.process_time() - cpu)

    def _enter(self, round: int) -> None:
        """Clients have the rows of this round, and have told the server how many."""
        drift = self.federation.drift
        phase = 0 if drift is None else drift.phase(round)
        if phase != self.engine.executor.phase:
            self.engine.executor.enter(phase)
        self.fed.rows = train_rows(self.federation.phases[phase])

    def _cost(self, seconds: float, cpu_seconds: float) -> RoundCost:
        traffic = self.fed.traffic
        memory = psutil.Process().memory_info()
        return RoundCost(
            method=self.label,
            round=self.round,
            cohort=len(traffic.asked),
            answered=len(traffic.answered),
            bytes_down=int(traffic.down.sum()),
            bytes_up=int(traffic.up.sum()),
            flops=float(traffic.flops.sum()),
            steps=int(traffic.steps.sum()),
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            eval_seconds=0.0,
            sim_seconds=traffic.clock,
            private_bytes=self.engine.executor.private_bytes(),
            peak_memory=peak_memory(memory.rss),
        )

    def evaluate(self, ids: np.ndarray | None = None) -> pl.DataFrame:
        """One row per (client, model, split), as in clients.parquet. All clients by default, the unseen ones included."""
        ids = np.arange(len(self.federation.names)) if ids is None else ids
        (scores, cluster), joined = self.engine.evaluate(self.method, ids, self.shared, self.round)
        there = [hasattr(self.method, function) for function in MODELS.values()]
        kinds = [(name, n) for n, name in enumerate(MODELS) if there[n]]
        if not there[0]:
            kinds.insert(0, ("personal", 1))  # the common model stands for both
        names, at = [name for name, _ in kinds], [place for _, place in kinds]
        splits = SCORED[: scores.rows.shape[-1]]
        each = len(kinds) * len(splits)  # rows of a client
        columns = {
            "method": pl.repeat(self.label, len(ids) * each, eager=True),
            "round": np.full(len(ids) * each, self.round),
            "client": np.repeat(ids, each),
            "seen": np.repeat(ids < self.federation.seen, each),
            "joined": np.repeat(joined, each),
            "split": np.tile(splits, len(ids) * len(kinds)),
            "model": np.tile(np.repeat(names, len(splits)), len(ids)),
            **{name: getattr(scores, name)[:, at].reshape(-1) for name in ("rows", "correct", "loss")},
            "cluster": pl.Series(np.repeat(cluster, each)).replace(-1, None),  # null: in no cluster
            **{name: getattr(scores, name)[:, at].reshape(-1) for name in ("balanced", "auc")},
        }
        return pl.DataFrame(columns).cast(ROW_TYPES)  # pyright: ignore[reportArgumentType] - a dict of types is what cast takes

    def diverged(self, rows: pl.DataFrame) -> bool:
        """True where any personal loss is not finite: the run blew up, and its accuracy means nothing."""
        return not rows.filter(model="personal")["loss"].is_finite().all()


def forget_peak() -> None:
    """Lets `peak_memory` begin anew, where the system can (Linux); elsewhere it goes on from the beginning of the process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(now: int) -> int:
    """Bytes of the process's largest resident set since its beginning, or since it was forgotten."""
    try:
        import resource
    except ImportError:  # not on Windows
        return now
    import sys

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def check_method(method: Any, facts: Facts) -> None:
    """Refuses what can't work before anything is trained."""
    for model in architectures_of(method, facts.models):
        if hasattr(method, "check_model"):
            method.check_model(model)
    if getattr(method, "needs_public", False) and facts.public is None:
        raise AtollError(f"{label(method)} needs public data, and the federation has none. Give some rows away with public=0.1 (--public 0.1).")
    if getattr(method, "needs_pool", False) and not facts.has_pool:
        raise AtollError(f"{label(method)} wants all rows in one place, and here they lie at different sites. It is a baseline for simulation only.")


def architectures_of(method: Any, models: tuple[Model, ...]) -> tuple[Model, ...]:
    """The architectures that clients take in turn under this method: the run's, or what the method makes of its only one (several widths)."""
    first, *others = models
    if others and not getattr(method, "many_architectures", False):
        names = ", ".join(m.name for m in models)
        raise AtollError(f"{label(method)} shares one model among all clients and can't run with several architectures ({names}). Give one --model.")
    return method.architectures(first) if hasattr(method, "architectures") else models
