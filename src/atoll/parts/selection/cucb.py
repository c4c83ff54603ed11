"""The class-imbalance bandit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.keys import host_generator
from atoll.core.local import row_losses
from atoll.core.method import checked, hyper, label
from atoll.core.rows import Batch
from atoll.parts.selection.drawing import check_size, draw

FLOOR = 1e-6  # of a divergence, whose inverse is a reward


class State(NamedTuple):
    T: np.ndarray  # int64 [n], how often a client's model was seen
    R: np.ndarray  # float64 [n, labels], discounted mean of the guessed label shares
    norm: np.ndarray  # float64 [n], sum of the discounts


@checked
class CUCB:
    """The class-imbalance bandit: the server guesses each client's labels and asks clients whose labels together are even.

    A model that was trained on many rows of a label has a small gradient on others of that label. So the gradients of a returned model on public rows, label by
    label, give a guess of the label shares R_k. A round takes the client with the largest upper confidence bound of 1 / KL(R_k || even), then adds those that
    even out the sum.

    Yang, Wang, Zhu, Wang, Qian, "Federated Learning with Class Imbalance Reduction", EUSIPCO 2021, arXiv 2011.11266.

    Needs public rows of every label and a method whose replies hold the client's model. Sends nothing of its own.
    Identity: with exact shares and exploration=0 the choice is a greedy minimiser of the divergence: of ten clients with a label each, ten make it 0.
    Departures: (1) Gradients are those of the last block, as the survey describes it, and each label's is a mean over its public rows. (2) The divergence is
    floored at 1e-6, and exponents are taken relative to the largest. (3) Never seen clients come first, in random order. beta, rho and exploration are ours: no
    code was published.
    """

    per_round: int | None = hyper(None)
    beta: float = hyper(1.0, gt=0)
    exploration: float = hyper(0.2, ge=0)  # lambda
    rho: float = hyper(0.99, gt=0, le=1)  # forgetting

    needs_models = True
    needs_public = True

    def check(self) -> None:
        check_size(self)

    def begin(self, fed: Fed, rounds: int | None) -> State:
        _, y = fed.public
        if fed.model.task != "classification":
            raise AtollError(f"CUCB evens out labels, and the task {fed.model.task} has none. Take another selector.")
        missing = sorted(set(range(fed.outputs)) - set(np.asarray(y).tolist()))
        if missing:
            none = ", ".join(map(str, missing))
            raise AtollError(f"CUCB needs public rows of every label, and of label {none} there are none. Give more rows away (--public).")
        return State(np.zeros(fed.n, int), np.full((fed.n, fed.outputs), 1 / fed.outputs), np.zeros(fed.n))

    def choose(self, fed: Fed) -> np.ndarray:
        s: State = fed.selection
        assert self.per_round is not None
        random = host_generator(fed.seed, "select cucb", fed.round)
        S = draw(random, np.flatnonzero(s.T == 0), self.per_round).tolist()  # play each once
        while len(S) < min(self.per_round, fed.n):
            left = np.setdiff1d(np.arange(fed.n), S)
            if not S:
                bound = 1 / divergence(s.R[left]) + self.exploration * np.sqrt(3 * np.log(max(fed.round, 2)) / (2 * s.T[left]))
            else:
                bound = -divergence(s.R[S].sum(axis=0) + s.R[left])  # greedily
            best = left[bound >= bound.max() - 1e-12]
            S.append(int(random.choice(best)))
        return np.sort(np.array(S))

    def learn(self, fed: Fed) -> State:
        s: State = fed.selection
        assert fed.seen is not None
        if fed.seen.trained is None:
            if fed.traffic.answered:
                raise AtollError(f"CUCB looks at the models that clients reply, and {label(fed.method)} replies none (no field `w`). Take another selector.")
            return s
        k = fed.seen.trained
        R, norm, T = s.R.copy(), s.norm.copy(), s.T.copy()
        now = shares(np.asarray(fed.at_server(LabelGradients(), fed.seen.w), np.float64), self.beta)
        norm[k] = self.rho * s.norm[k] + 1
        R[k] = s.R[k] + (now - s.R[k]) / norm[k, None]  # sum of rho^(T - s) R(s) over the sum of rho^(T - s)
        T[k] += 1
        return State(T, R, norm)


def shares(g: np.ndarray, beta: float) -> np.ndarray:
    """Label shares [..., labels] guessed from squared norms of gradients: exp(beta / g) / sum of them."""
    e = beta / np.maximum(np.nan_to_num(g, nan=np.inf), 1e-12)
    e = np.exp(e - e.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def divergence(R: np.ndarray) -> np.ndarray:
    """KL(R || even) of shares [..., labels], which need not sum to 1; at least FLOOR."""
    R = R / R.sum(axis=-1, keepdims=True)
    return np.maximum((R * np.log(np.maximum(R, 1e-300) * R.shape[-1])).sum(axis=-1), FLOOR)


@dataclass(frozen=True)
class LabelGradients:
    """A program for the server: squared norms [models, labels] of the gradients in the last block of each label's mean loss."""

    __name__: ClassVar[str] = "label_gradients"

    def __call__(self, k: Client, models: Any) -> Array:
        def of(w: Any) -> Array:
            base, head = k.model.split(w, 1)

            def losses(head: Any, rows: Batch) -> Array:
                loss = row_losses(k.model.task, k.model.head(k.model.join(base, head), k.model.features(base, rows.x)), rows.y) * rows.mask
                return jax.ops.segment_sum(loss, rows.y, k.outputs)  # [labels]

            def both(rows: Batch) -> tuple[Any, Array]:
                return jax.jacrev(losses)(head, rows), jax.ops.segment_sum(rows.mask, rows.y, k.outputs)

            total, count = k.train.sum(both)
            square = sum(jnp.square(leaf.reshape(k.outputs, -1)).sum(axis=1) for leaf in jax.tree.leaves(total))
            return square / jnp.square(jnp.maximum(count, 1))

        return jax.lax.map(of, models)
