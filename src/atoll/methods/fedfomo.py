"""FedFomo."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.candidates import kept_apart
from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.keys import host_generator
from atoll.core.local import masked_mean, row_losses, sgd
from atoll.core.method import hyper, method
from atoll.core.rows import Batch


class State(NamedTuple):
    theta: Vector  # theta_i
    before: Vector  # what it was before the last local training


class Trained(NamedTuple):
    theta: Vector  # theta_i after local training


class Weights(NamedTuple):
    w: Array  # [1 + M] of the client's own trained model, and of the M models that it was sent; they sum to 1, or are all 0


@method
class FedFomo:
    """FedFomo: a client tries the models of others on rows it keeps for that, and moves towards those that are better for it than its own was.

    How far: by how much a model lowers the loss per unit of distance, which is what a first-order step needs to know. There is no common model. Who was of use
    before is asked again; now and then the server sends somebody's model at random.

    Zhang, Sapra, Fidler, Yeung, Alvarez, "Personalized Federated Learning with First Order Model Optimization", ICLR 2021.

    Kept: server how useful each client's model was to each other (n x n numbers); client theta_i, now and before its last training (two models).
    Traffic per round and client: theta_i up, M models down, 1 + M weights up. Clients see others' models, and the server single ones.
    Identity: weights are not negative and sum to 1, or are all 0, and then the client goes back to what it was before; a model equal to that counts 0;
    a single better one is copied; a client that is sent none moves to its trained model where this is better on the rows kept, and else back.
    Departures from the paper: (1) Rows for trying models are a fixed share of the train rows, and not trained on; validation rows are seen by no method here.
    (2) Who can be sent are this round's clients; theirs are the only models the server has. (3) Work is in epochs without momentum at a constant rate; the
    authors' code multiplies it by 0.99 per epoch. (4) epsilon falls by `decay` per round; in their code per epoch. (5) BatchNorm statistics move like
    parameters, and count in no distance. M, epsilon, decay, the share and epochs are those of the authors' example with 15 clients; lr and batch are ours.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(5, ge=1)
    batch: int = hyper(20, ge=0)  # 0 = all rows that are trained on
    M: int = hyper(4, ge=1, search=[2, 4, 8])  # models sent to a client
    epsilon: float = hyper(0.3, ge=0, le=1)  # chance that one is drawn at random
    decay: float = hyper(0.05, ge=0)  # of epsilon, per round
    kept: float = hyper(0.2, gt=0, lt=1)  # share of the train rows on which models are tried

    def init(self, fed: Fed) -> np.ndarray:
        return np.zeros((fed.n, fed.n), np.float32)  # P

    def share(self, P: np.ndarray) -> None:
        return None

    def join(self, i: Client, _: None) -> State:
        w = i.model.init(i.common_key)
        return State(w, w)

    def round(self, P: np.ndarray, fed: Fed) -> np.ndarray:
        S = fed.sample()
        up = fed.ask(S, self.train)  # clients train and upload theta_i
        ids = up.ids.tolist()
        M = min(self.M, len(ids) - 1)
        if M == 0:
            fed.ask(up.ids, self.federate)
            return P
        epsilon = max(0.0, self.epsilon - self.decay * (fed.round - 1))
        chosen = {i: chosen_for(P[i], [j for j in ids if j != i], M, epsilon, host_generator(fed.seed, f"peers of {i}", fed.round)) for i in ids}
        at = np.array([[ids.index(j) for j in chosen[i]] for i in ids])  # [cohort, M]
        got = fed.ask(up.ids, self.federate, each=jax.tree.map(lambda leaf: jnp.asarray(leaf)[at], up.theta))  # send theta_j, j in chosen_i
        P = P.copy()
        for i, w in zip(got.ids.tolist(), np.asarray(got.w), strict=True):
            P[i, chosen[i]] += w[1:]  # p_i <- p_i + w_i
        return P

    def train(self, i: Client, _: None) -> tuple[Trained, State]:
        before = i.state.theta
        theta, _steps = sgd(kept_apart(i, self.kept)[0], before, self.lr, epochs=self.epochs, batch=self.batch)
        return Trained(theta), State(theta, before)

    def federate(self, i: Client, _: None, sent: Vector | None = None) -> tuple[Weights, State]:
        own, before = i.state
        models = jax.tree.map(lambda leaf: leaf[None], own)
        if sent is not None:
            models = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), models, sent)
        apart = jax.tree.map(lambda leaf, old: leaf - old, models, before)  # theta_j - theta_i, [1 + M, ...]

        def losses(rows: Batch) -> Array:
            def loss(w: Vector) -> Array:
                return masked_mean(row_losses(i.model.task, i.model.apply(w, rows.x), rows.y), rows.mask)

            return jnp.append(jax.vmap(loss)(models), loss(before))

        L = kept_apart(i, self.kept)[1].mean(losses)
        w = normalised(L[-1] - L[:-1], jax.vmap(lambda d: jnp.sqrt(i.model.parameters(d) @ i.model.parameters(d)))(apart))
        theta = before + jax.tree.map(lambda leaf: jnp.tensordot(w, leaf, axes=1), apart)  # theta_i <- theta_i + sum_j w_j (theta_j - theta_i)
        return Weights(w), State(theta, before)

    def personalize(self, i: Client, _: None) -> Any:
        return i.state.theta


def normalised(gain: Array, distance: Array) -> Array:
    """w_j = max(0, gain_j / distance_j) over their sum, [models]; a distance of 0 gives 0, and where all are 0 they stay so."""
    w = jnp.where(distance > 0, jnp.maximum(gain, 0) / jnp.where(distance > 0, distance, 1), 0)
    return w / jnp.where(w.sum() > 0, w.sum(), 1)


def chosen_for(p: np.ndarray, others: list[int], M: int, epsilon: float, random: np.random.Generator) -> list[int]:
    """M of `others`, one after another: with probability epsilon one at random, else the one that was of most use (largest p), ties at random."""
    left = [int(j) for j in random.permutation(np.sort(others))]
    chosen = []
    for _ in range(M):
        at = random.integers(len(left)) if random.random() < epsilon else int(np.argmax(p[left]))
        chosen.append(left.pop(int(at)))
    return chosen
