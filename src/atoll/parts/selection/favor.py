"""FAVOR."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.keys import host_generator
from atoll.core.method import checked, hyper, label
from atoll.core.rows import Batch
from atoll.parts.selection.drawing import check_size, draw

HIDDEN = 512


class Net(NamedTuple):
    """Q(s, .): two dense layers, the last one linear."""

    W1: Array  # [(n + 1) d, HIDDEN]
    b1: Array
    W2: Array  # [HIDDEN, n]
    b2: Array


class Memory(NamedTuple):
    """The last rounds; place t holds s_t, who was chosen, the reward, and s_(t+1)."""

    s: np.ndarray  # float32 [places, (n + 1) d]
    chosen: np.ndarray  # float32 [places, n], 1 = chosen
    r: np.ndarray  # float32 [places]
    after: np.ndarray  # float32 [places, (n + 1) d]


class State(NamedTuple):
    basis: np.ndarray  # float32 [d, parameters], the principal directions of the first round's models
    centre: np.ndarray  # float32 [parameters]
    s: np.ndarray  # float32 [n + 1, d]: the common model and every client's last seen one, projected
    theta: Net
    target: Net  # theta'
    moments: Any  # of Adam
    memory: Memory
    rounds: int  # remembered so far


@checked
class FAVOR:
    """FAVOR: a network learns from which clients' models the next round gains most accuracy, and the clients that it thinks best of are asked.

    What it sees are the models of all clients and the common one, each reduced to a few principal components; its reward is Xi^(accuracy - target) - 1 for
    the accuracy of the common model on public rows: 0 at the target, and the smaller the farther below. It learns by double deep Q-learning.

    Wang, Kaplan, Niu, Li, "Optimizing Federated Learning on Non-IID Data with Reinforcement Learning", INFOCOM 2020.

    Needs public rows, a method with a common model, and replies that hold the client's model. Sends nothing of its own. Kept at the server: `components`
    numbers per weight of the model, and the rounds remembered.
    Identity: explore=1 is uniform sampling; the reward is 0 at the target; where theta = theta', a double target is a plain one.
    Departures: (1) The network learns within the run and starts from nothing; in the paper it is trained over many runs beforehand, with one client per step.
    Each chosen client counts as an action with the round's reward. (2) Accuracy is on public rows, not on test rows. (3) The first round asks all clients, with
    the method's own work. (4) There are at most as many components as models less one. Its rates, exploration and memory are ours: the published code has no
    agent.
    """

    per_round: int | None = hyper(None)
    components: int = hyper(100, ge=1)
    target: float = hyper(0.99, gt=0, le=1)  # Omega
    Xi: float = hyper(64.0, gt=1)
    discount: float = hyper(0.9, ge=0, lt=1)  # gamma
    explore: float = hyper(0.1, ge=0, le=1)  # epsilon, the share of the chosen who are drawn at random
    rate: float = hyper(1e-3, gt=0)
    updates: int = hyper(20, ge=1)  # steps of learning per round
    copy: int = hyper(5, ge=1)  # rounds after which theta' becomes theta
    places: int = hyper(100, ge=1)  # rounds remembered

    needs_models = True
    needs_public = True

    def check(self) -> None:
        check_size(self)

    def begin(self, fed: Fed, rounds: int | None) -> None:
        if not hasattr(fed.method, "global_model"):
            raise AtollError(f"FAVOR is rewarded for the accuracy of the common model, and {label(fed.method)} has none. Take another selector.")
        _ = fed.public, fed.model

    def choose(self, fed: Fed) -> np.ndarray:
        state: State | None = fed.selection
        assert self.per_round is not None
        if state is None:
            return fed.everyone()
        random = host_generator(fed.seed, "select favor", fed.round)
        at_random = int(random.binomial(min(self.per_round, fed.n), self.explore))
        value = np.asarray(q(state.theta, state.s.reshape(-1))) + 1e-9 * random.random(fed.n)  # ties are broken at random
        best = np.argsort(-value)[: min(self.per_round, fed.n) - at_random]
        return np.sort(np.concatenate([best, draw(random, np.setdiff1d(np.arange(fed.n), best), at_random)]))

    def learn(self, fed: Fed) -> State | None:
        assert fed.seen is not None
        before: State | None = fed.selection
        if fed.seen.trained is None:
            if fed.traffic.answered:
                raise AtollError(f"FAVOR looks at the models that clients reply, and {label(fed.method)} replies none (no field `w`). Take another selector.")
            return before
        now = fed.at_server(Common(fed.method), fed.shown)
        w = np.concatenate([np.asarray(leaf).reshape(len(fed.seen.trained), -1) for leaf in jax.tree.leaves(fed.seen.w)], axis=1)
        if before is None:
            return self._first(fed, w, np.asarray(now.w)) if len(w) > 1 else None
        s = before.s.copy()
        s[1 + fed.seen.trained] = (w - before.centre) @ before.basis.T  # only the chosen clients' places are refreshed
        s[0] = (np.asarray(now.w) - before.centre) @ before.basis.T
        chosen = np.isin(np.arange(fed.n), fed.seen.chosen).astype(np.float32)
        memory = remembered(before.memory, before.rounds, before.s, chosen, reward(float(now.accuracy), self.target, self.Xi), s)
        return self._learned(before._replace(s=s, memory=memory, rounds=before.rounds + 1), fed)

    def _first(self, fed: Fed, w: np.ndarray, common: np.ndarray) -> State:
        """The principal directions of the first models, and networks that know nothing."""
        assert fed.seen is not None
        assert fed.seen.trained is not None
        centre = w.mean(axis=0)
        _, _, directions = np.linalg.svd(w - centre, full_matrices=False)
        basis = directions[: min(self.components, len(w) - 1, directions.shape[0])]
        s = np.tile((common - centre) @ basis.T, (fed.n + 1, 1))  # who did not answer stands where the common model does
        s[1 + fed.seen.trained] = (w - centre) @ basis.T
        random = host_generator(fed.seed, "favor network", 0)
        fan = s.size
        W1, W2 = (random.normal(0, np.sqrt(2 / i), (i, o)).astype(np.float32) for i, o in ((fan, HIDDEN), (HIDDEN, fed.n)))
        theta = Net(jnp.asarray(W1), jnp.zeros(HIDDEN), jnp.asarray(W2), jnp.zeros(fed.n))
        room = np.zeros((self.places, fan), np.float32)
        memory = Memory(room, np.zeros((self.places, fed.n), np.float32), np.zeros(self.places, np.float32), room.copy())
        moments = jax.tree.leaves(optax.adam(self.rate).init(theta))
        return State(basis.astype(np.float32), centre, s.astype(np.float32), theta, theta, moments, memory, 0)

    def _learned(self, state: State, fed: Fed) -> State:
        """theta after some steps on rounds drawn from memory; theta' every `copy` rounds."""
        random = host_generator(fed.seed, "favor memory", fed.round)
        rows = random.integers(0, min(state.rounds, self.places), (self.updates, 16))
        theta, moments = trained(state.theta, state.target, state.moments, state.memory, rows, self.rate, self.discount)
        return state._replace(theta=theta, moments=moments, target=theta if state.rounds % self.copy == 0 else state.target)


def q(theta: Net, s: Any) -> Array:
    """Q(s, .) [..., n]."""
    return jax.nn.relu(s @ theta.W1 + theta.b1) @ theta.W2 + theta.b2


def reward(accuracy: float, target: float, Xi: float) -> float:
    """Xi^(accuracy - target) - 1."""
    return Xi ** (accuracy - target) - 1


def targets(theta: Net, target: Net, r: Any, after: Any, discount: float) -> Array:
    """Double deep Q-learning: r + gamma Q(s', argmax_a Q(s', a; theta); theta')."""
    best = q(theta, after).argmax(axis=-1)
    return r + discount * jnp.take_along_axis(q(target, after), best[..., None], axis=-1)[..., 0]


def remembered(memory: Memory, t: int, s: np.ndarray, chosen: np.ndarray, r: float, after: np.ndarray) -> Memory:
    """The memory with one more round, in the place of the oldest where it is full."""
    new = Memory(*(part.copy() for part in memory))
    at = t % len(new.r)
    new.s[at], new.chosen[at], new.r[at], new.after[at] = s.reshape(-1), chosen, r, after.reshape(-1)
    return new


@functools.partial(jax.jit, static_argnames=("rate", "discount"))
def trained(theta: Net, target: Net, moments: Any, memory: Memory, rows: Any, rate: float, discount: float) -> tuple[Net, Any]:
    """theta and Adam's moments after a step for each of `rows` [steps, batch], numbers of remembered rounds."""
    adam = optax.adam(rate)
    form = jax.tree.structure(jax.eval_shape(adam.init, theta))

    def error(theta: Net, one: Memory) -> Array:
        y = jax.lax.stop_gradient(targets(theta, target, one.r, one.after, discount))
        return (jnp.square(q(theta, one.s) - y[:, None]) * one.chosen).sum() / one.chosen.sum()

    def step(at: Any, row: Any) -> Any:
        theta, moments = at
        change, moments = adam.update(jax.grad(error)(theta, jax.tree.map(lambda part: jnp.asarray(part)[row], memory)), moments, theta)
        return (optax.apply_updates(theta, change), moments), None

    (theta, after), _ = jax.lax.scan(step, (theta, jax.tree.unflatten(form, moments)), jnp.asarray(rows))
    return theta, jax.tree.leaves(after)


class Look(NamedTuple):
    w: Array  # float32 [parameters], the common model
    accuracy: Array  # float32 [], on the public rows


@dataclass(frozen=True)
class Common:
    """A program for the server: the method's common model and its accuracy on public rows."""

    method: Any
    __name__: ClassVar[str] = "common_model"

    def __call__(self, k: Client, shared: Any) -> Look:
        w = self.method.global_model(k, shared)

        def hits(rows: Batch) -> Array:
            out = self.method.predict(k, w, rows.x) if hasattr(self.method, "predict") else k.model.apply(w, rows.x)
            return ((out.argmax(axis=-1) == rows.y) * rows.mask).sum() / rows.mask.sum()

        return Look(jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(w)]), k.mean(hits))
