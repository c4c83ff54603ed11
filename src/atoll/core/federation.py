"""The server's side of the border: `fed`, through which a method's server code reaches its clients, and nothing else."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from atoll.core.errors import AtollError
from atoll.core.fold import Fold, Watched, stack
from atoll.core.keys import common_key, purpose_key
from atoll.core.method import is_stateless, label, welcome
from atoll.core.model import Model
from atoll.core.program import Context, Data, Task
from atoll.core.rows import Flat

SERVER_CHUNK = 64  # rows per pass at the server where the order does not matter


@dataclass(frozen=True)
class Call:
    """One ask, as an engine gets it."""

    method: Any
    program: Callable[..., Any]
    name: str  # of the program; names its randomness
    ids: np.ndarray  # int [cohort], in the order asked
    shared: Any
    each: list[Any] | Any | None  # per-client messages: a list, or one tree with a leading axis [cohort]
    fold: Fold
    round: int
    budgets: np.ndarray  # float32 [cohort]
    welcome: Any  # what a client joins from: share(server)


@dataclass
class Traffic:
    """What one round cost, summed over its asks. Arrays are per client of the federation; an engine adds to them."""

    down: np.ndarray  # int64 [clients], bytes
    up: np.ndarray
    flops: np.ndarray  # float64 [clients]
    steps: np.ndarray  # int64 [clients]
    seconds: np.ndarray  # float64 [clients], simulated: what answers took
    clock: float = 0.0  # simulated seconds that the server spent waiting
    asked: set[int] = field(default_factory=set)
    answered: set[int] = field(default_factory=set)

    @classmethod
    def none(cls, clients: int) -> Traffic:
        return cls(np.zeros(clients, np.int64), np.zeros(clients, np.int64), np.zeros(clients), np.zeros(clients, np.int64), np.zeros(clients))


class Engine(Protocol):
    """Runs programs. `run` returns the folded reply and books traffic and work, `effort` says what that would cost; see engine/."""

    def run(self, call: Call, traffic: Traffic) -> Any: ...
    def effort(self, call: Call) -> Effort: ...
    def evaluate(self, method: Any, ids: np.ndarray, shared: Any, round: int) -> tuple[Any, np.ndarray]: ...


class Selector(Protocol):
    """Chooses whom to ask in a round.

    One that learns also has begin(fed) -> its state before the first round, which it then finds as `fed.selection`, and learn(fed) -> its next state,
    called after every round (what happened is `fed.seen`). One that says how much work the chosen do has assign(fed, ids, afforded) -> shares of the work
    [len(ids)], 0 = none. `needs_models = True` asks for the models that the chosen reply; `needs_public = True` for public rows,
    `needs_devices = True` for devices, without which nothing takes time.
    """

    def choose(self, fed: Fed) -> np.ndarray: ...


@dataclass
class Seen:
    """What a selector may learn from: what the server saw of this round's clients."""

    chosen: np.ndarray  # int [cohort]
    work: np.ndarray  # float32 [cohort], share of the work that each did in the first ask it answered; 0 = nothing came back, NaN = it was asked nothing
    trained: np.ndarray | None = None  # int, whose models are held
    w: Any = None  # their models, stacked; None where nobody asked for them


class Effort(NamedTuple):
    """What one ask costs each of its clients; arrays [cohort]."""

    flops: np.ndarray
    down: np.ndarray  # bytes
    up: np.ndarray


class Timing(NamedTuple):
    """How long one ask takes each of its clients, in simulated seconds; arrays [cohort]."""

    send: np.ndarray  # messages to and fro
    compute: np.ndarray
    lost: np.ndarray  # bool, asked and never heard of again
    deadline: float  # when the server stops waiting


class Conditions(Protocol):
    """What goes wrong: who can't be reached this round, which share of the work each client manages, and (`timed`) how long an ask takes."""

    @property
    def timed(self) -> bool: ...
    def reachable(self, seed: int, round: int, ids: np.ndarray) -> np.ndarray: ...
    def budgets(self, seed: int, round: int, ids: np.ndarray) -> np.ndarray: ...
    def timing(self, seed: int, round: int, ids: np.ndarray, effort: Effort) -> Timing: ...


class Answer(NamedTuple):
    """What came back from an ask: who answered, and the folded reply. The reply's fields are reached directly: `up.w`."""

    ids: np.ndarray
    reply: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reply, name)


class NobodyAnswered(Exception):  # noqa: N818 - an event of a round, not an error of the program
    """Every client that was asked dropped out; the round is lost and the server keeps its state."""


@dataclass
class Facts:
    """What a server may know of its federation: no rows."""

    clients: int  # all, the unseen ones included
    seen: int
    models: tuple[Model, ...]  # the architectures in use
    architecture: np.ndarray  # int [clients (+ 1 for the pool)], index into models
    outputs: int
    rows: np.ndarray  # int [seen], train rows, as clients say when they register
    public: tuple[Array, Array] | None  # normalised public rows x, y
    has_pool: bool


class Fed:
    """What server code may use. `n` counts the seen clients; their ids are 0..n-1."""

    def __init__(self, method: Any, engine: Engine, facts: Facts, selector: Selector, conditions: Conditions | None, seed: int):
        self.method = method
        self.n = facts.seen
        self.models = facts.models
        self.architecture = facts.architecture
        self.outputs = facts.outputs
        self.rows = facts.rows
        self.seed = seed
        self.round = 0
        self.traffic = Traffic.none(facts.clients + 1)
        self._engine, self._facts, self._selector, self._conditions = engine, facts, selector, conditions
        self._before: Any = None
        self._welcome: Any = None
        self._shown: Any = None
        self._in_init = True
        self.selection: Any = None  # the selector's state
        self.seen: Seen | None = None
        self._members: np.ndarray | None = None  # None: all seen clients

    @property
    def model(self) -> Model:
        """The architecture of this federation; one that several architectures share has none (use fed.models)."""
        if len(self.models) > 1 and not getattr(self.method, "many_architectures", False):
            names = ", ".join(m.name for m in self.models)
            raise AtollError(f"{label(self.method)} shares one model among all clients and can't run with several architectures ({names}). Give one --model.")
        return next(iter(self.models))

    @property
    def public(self) -> tuple[Array, Array]:
        """The public rows (x, y) at the server."""
        if self._facts.public is None:
            raise AtollError(f"{label(self.method)} needs public data, and the federation has none. Give some rows away with public=0.1 (--public 0.1).")
        return self._facts.public

    @property
    def timed(self) -> bool:
        """Whether what clients do takes simulated time."""
        return self._conditions is not None and self._conditions.timed

    @property
    def shown(self) -> Any:
        """For selectors that learn: what the method shows its clients after this round."""
        return self._shown

    @property
    def pool(self) -> np.ndarray:
        """A client that owns the train rows of all seen clients: only where one machine holds all data, for the Pooled baseline."""
        if not self._facts.has_pool:
            raise AtollError(f"{label(self.method)} wants all rows in one place, and here they lie at different sites. It is a baseline for simulation only.")
        return np.array([self._facts.clients])

    def key(self, purpose: str = "init") -> Array:
        """A key for server-side randomness in this round."""
        return purpose_key(self.seed, f"server {purpose}", self.round)

    def sample(self) -> np.ndarray:
        """The ids of this round's clients, chosen by the run's selector."""
        if self.seen is None:
            ids = self._selector.choose(self)
            self.seen = Seen(ids, np.full(len(ids), np.nan, np.float32))
        chosen = self.seen.chosen
        return chosen if self._members is None else chosen[np.isin(chosen, self._members)]

    def everyone(self) -> np.ndarray:
        """The ids of all seen clients that train together."""
        return np.arange(self.n) if self._members is None else self._members

    def within(self, members: np.ndarray, method: Any, shown: Any) -> Fed:
        """This federation as `method` sees it in a round in which only `members` train together; ids, the account and what a selector sees are the same.

        members: ids, ascending, at least one of them chosen. shown: what the method showed its clients before the round.
        """
        _ = self.sample()
        part = copy.copy(self)
        part.method, part._members, part._welcome = method, members, welcome(method, shown)
        return part

    def with_unseen(self) -> np.ndarray:
        """The ids of all clients, those held out of training too: for what a client can do that is sent nothing and replies nothing (Local)."""
        return np.arange(self._facts.clients)

    def ask(self, clients: Sequence[int] | np.ndarray, program: Callable[..., Any], shared: Any = None, *, each: Any = None, reduce: Fold = stack) -> Answer:
        """Sends `shared` (and to each client its own part of `each`) to `clients`, runs `program` there and folds the replies.

        each: a list with one message per client, or one tree of arrays with a leading axis [len(clients)].
        Clients that can't be reached do not answer: `Answer.ids` says who did.
        """
        ids = np.asarray(clients, dtype=np.int64).reshape(-1)
        self._check(ids, program, each)
        self.traffic.asked.update(ids.tolist())
        budgets, reached = self._under_conditions(ids)
        self._record(ids, np.zeros(len(ids), np.float32))
        fold = Watched(reduce) if self._watches(ids) else reduce
        call = _only(Call(self.method, program, program.__name__, ids, shared, each, fold, self.round, budgets, self._welcome), reached)
        call = self._settled(call)
        reply = self._engine.run(call, self.traffic)
        self.traffic.answered.update(call.ids.tolist())
        return Answer(call.ids, self._unwatched(call, reply))

    def look(self, clients: np.ndarray, program: Callable[..., Any]) -> Any:
        """For selectors that choose: replies of `program(k, shared)`, stacked, where `shared` is what the method showed its clients before this round.

        They get it in this round anyway, so only their replies and their work are booked. Everybody answers, and it takes no simulated time.
        """
        ones, traffic = np.ones(len(clients), np.float32), Traffic.none(self._facts.clients + 1)
        reply = self._engine.run(Call(self.method, program, program.__name__, clients, self._before, None, stack, self.round, ones, self._welcome), traffic)
        self.traffic.up += traffic.up
        self.traffic.flops += traffic.flops
        return reply

    def validate(self, clients: np.ndarray) -> np.ndarray:
        """For selectors that learn: accuracy [len(clients)] of the common model (where there is none, of the personal ones) on the clients' validation rows.

        Each is sent what the method now shows and replies one number. Takes no simulated time.
        """
        (scores, _clusters), _joined = self._engine.evaluate(self.method, clients, self._shown, self.round)
        self.traffic.down[clients] += sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(self._shown))
        self.traffic.up[clients] += 4
        of = 1 if hasattr(self.method, "global_model") else 0
        rows, correct = scores.rows[:, of, 0], scores.correct[:, of, 0]
        return np.where(rows > 0, correct / np.maximum(rows, 1), np.nan)

    def at_server(self, program: Callable[..., Any], shared: Any = None, *, model: Model | None = None) -> Any:
        """Runs a client program at the server, which stands for a client whose train rows are the public rows. Nothing is sent and nothing is booked.

        model: one of the architectures, where there are several.
        """
        x, y = self.public
        start, count = ({"train": jnp.asarray([n], jnp.int32)} for n in (0, len(y)))
        room = {"train": jnp.zeros((len(y), 0))}
        rows = Data(Flat(x.reshape(len(x), -1), y, jnp.float32(0), jnp.float32(1)), start, count, room, None)
        task = Task(self.method, program, program.__name__, model or self.model, SERVER_CHUNK, stateful=False)
        nobody = np.int32(self._facts.clients)  # its randomness is no client's
        key = purpose_key(self.seed, f"server {program.__name__}", self.round)
        return _at_server(task)(rows, Context(nobody, np.int32(0), np.int32(self.round), key, np.float32(1), common_key(self.seed)), shared)

    def begin_selection(self, rounds: int | None) -> None:
        """Called by the run before `method.init`: a selector that learns makes its first state. rounds: how many are planned."""
        begin = getattr(self._selector, "begin", None)
        if begin is not None:
            self.selection = begin(self, rounds)

    def begin_round(self, round: int, shown: Any) -> None:
        """Called by the run before `method.round`: sets the round, starts a new account of traffic. shown: what the method has shown its clients so far."""
        self.round = round
        self._before, self._welcome = shown, welcome(self.method, shown)
        self._in_init = False
        self.seen = None
        self.traffic = Traffic.none(self._facts.clients + 1)

    def end_round(self, shared: Any) -> None:
        """Called by the run after `method.round`: a selector that learns does so. shared: what the method now shows its clients."""
        learn = getattr(self._selector, "learn", None)
        if learn is not None and self.seen is not None:
            self._shown = shared
            self.selection = learn(self)

    def _check(self, ids: np.ndarray, program: Callable[..., Any], each: Any) -> None:
        where = f"{label(self.method)}.{program.__name__}"
        if len(ids) == 0:
            raise AtollError(f"{where} was asked of no client.")
        if self._members is not None and not np.isin(ids, self._members).all():
            raise AtollError(f"{where} is asked of clients of the method's own choosing, so that it can't be kept to a cluster of clients.")
        if len(set(ids.tolist())) != len(ids):
            raise AtollError(f"{where} was asked twice of the same client in one ask: {ids.tolist()}.")
        if self._in_init and hasattr(self.method, "join") and not is_stateless(program):
            raise AtollError(f"{where} is asked in `init`, before clients have joined: mark it @stateless, or do this work in `join`.")
        if isinstance(each, list) and len(each) != len(ids):
            raise AtollError(f"{where}: each= has {len(each)} messages for {len(ids)} clients.")
        if each is not None and not isinstance(each, list):
            for path, leaf in jax.tree_util.tree_leaves_with_path(each):
                if np.shape(leaf)[:1] != (len(ids),):
                    at = jax.tree_util.keystr(path)
                    raise AtollError(f"{where}: each={at} has shape {np.shape(leaf)}, and its first axis must count the {len(ids)} clients asked.")

    def _under_conditions(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._conditions is None:
            return np.ones(len(ids), np.float32), np.ones(len(ids), bool)
        budgets, keep = np.ones(len(ids), np.float32), np.ones(len(ids), bool)
        real = np.flatnonzero(ids < self._facts.clients)  # the pool is no client: what goes wrong at clients does not concern it
        if len(real):
            keep[real] = self._conditions.reachable(self.seed, self.round, ids[real])
            budgets[real] = self._conditions.budgets(self.seed, self.round, ids[real])
        if not self._takes_parts:
            keep &= budgets >= 1  # a method that has no use for partial work loses its stragglers, as FedAvg does
        return budgets, keep

    @property
    def _takes_parts(self) -> bool:
        return getattr(self.method, "partial_work", False) or hasattr(self._selector, "assign")

    def _settled(self, call: Call) -> Call:
        """The call to those who answer, with the work that they do; the clock goes on to the last answer, or to the deadline where one is missed."""
        if self._conditions is None or not self._conditions.timed or (call.ids == self._facts.clients).any():
            work = self._work(call.ids, call.budgets)
            self._record(call.ids, work)
            return _only(replace(call, budgets=work), work > 0)
        effort = self._engine.effort(call)
        t = self._conditions.timing(self.seed, self.round, call.ids, effort)
        fits = np.clip((t.deadline - t.send) / np.maximum(t.compute, 1e-12), 0, 1)  # share of the work
        work = self._work(call.ids, (call.budgets * (fits if self._takes_parts else np.where(fits < 1, 0, 1))).astype(np.float32))
        answers = ~t.lost & (work > 0)
        self._record(call.ids, np.where(answers, work, 0))
        done = np.where(answers, work / call.budgets, fits)  # who misses the deadline computes until then
        took = t.send + done * t.compute
        self.traffic.clock += t.deadline if np.isfinite(t.deadline) and not answers.all() else float(took[answers].max(initial=0.0))
        self.traffic.seconds[call.ids] += np.where(answers, took, 0.0)
        gone = ~answers
        self.traffic.down[call.ids[gone]] += effort.down[gone]  # sent in vain
        self.traffic.flops[call.ids[gone]] += (effort.flops * done)[gone] * ~t.lost[gone]
        return _only(replace(call, budgets=np.where(answers, work, call.budgets).astype(np.float32)), answers)

    def _work(self, ids: np.ndarray, afforded: np.ndarray) -> np.ndarray:
        """The share of the work that `ids` do of what they can afford: all of it, or what a selector assigns to those it chose."""
        assign = getattr(self._selector, "assign", None)
        return afforded if assign is None or self._places(ids) is None else np.asarray(assign(self, ids, afforded), np.float32)

    def _record(self, ids: np.ndarray, work: np.ndarray) -> None:
        """Shows a selector how much work the chosen did, each in the first ask of the round that it answered: some methods ask newcomers before the rest."""
        at = self._places(ids)
        if at is not None and self.seen is not None:
            self.seen.work[at] = np.where(self.seen.work[at] > 0, self.seen.work[at], work)

    def _places(self, ids: np.ndarray) -> np.ndarray | None:
        """Where `ids` stand among this round's chosen clients; None where others are among them."""
        if self.seen is None or self._in_init or not np.isin(ids, self.seen.chosen).all():
            return None
        order = np.argsort(self.seen.chosen)
        return order[np.searchsorted(self.seen.chosen, ids, sorter=order)]

    def _watches(self, ids: np.ndarray) -> bool:
        """Whether the selector waits for the models that this ask brings back."""
        wanted = getattr(self._selector, "needs_models", False) and self.seen is not None and self.seen.w is None
        if wanted and len(self.models) > 1:
            raise AtollError(f"{type(self._selector).__name__} compares the models of clients, and can't with several architectures. Take another selector.")
        return wanted and self._places(ids) is not None

    def _unwatched(self, call: Call, reply: Any) -> Any:
        if not isinstance(call.fold, Watched):
            return reply
        assert self.seen is not None
        if reply.w is not None:
            self.seen.trained, self.seen.w = call.ids, reply.w
        return reply.reply


@functools.lru_cache(maxsize=64)
def _at_server(task: Task) -> Callable[[Data, Context, Any], Any]:
    """A program, compiled once for all runs of the process that ask for the same."""
    free = [0.0] * 64  # what its loops cost, which is not analysed as nobody books it
    return jax.jit(lambda rows, at, shared: task(rows, at, shared, None, (), free).reply)


def _only(call: Call, keep: np.ndarray) -> Call:
    """The call to those of its clients whom `keep` [cohort] marks."""
    if not keep.any():
        raise NobodyAnswered
    if keep.all():
        return call
    each = call.each
    if each is not None:
        each = [m for m, kept in zip(each, keep, strict=True) if kept] if isinstance(each, list) else jax.tree.map(lambda a: a[np.flatnonzero(keep)], each)
    return replace(call, ids=call.ids[keep], budgets=call.budgets[keep], each=each)
