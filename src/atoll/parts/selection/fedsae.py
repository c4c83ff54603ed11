"""FedSAE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jax import Array

from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.keys import host_generator
from atoll.core.local import masked_mean, row_losses
from atoll.core.method import checked, hyper
from atoll.parts.selection.drawing import check_size, draw, softmax

LEAST = 1e-3  # workload below which none falls


class State(NamedTuple):
    L: np.ndarray  # float64 [n], easy workload
    H: np.ndarray  # float64 [n], hard workload
    theta: np.ndarray  # float64 [n], running mean of the workloads done; NaN = nothing seen yet
    loss: np.ndarray  # float64 [n], mean loss when last asked; NaN = never


@checked
class FedSAE:
    """FedSAE: the server learns how much work each client manages, asks for about that much, and prefers clients with large losses.

    Every client has an easy and a hard workload L_k <= H_k. Who can afford the hard one does it, else the easy one, else nothing comes back. What came back
    moves the pair: "ira" adds U/L and U/H after success and halves what was too much; "fassa" adds `fast` below the client's usual workload theta_k, else
    `slow`.
    Clients are drawn with probabilities softmax(sharpness * sqrt(n_k) * loss_k).

    Li, Duan, Liu, Zhang, Ren, Chen, Tan, Wang, "FedSAE: A Novel Self-Adaptive Federated Learning Framework in Heterogeneous Systems", IJCNN 2021, 2104.07515.

    Sends: a number up per answering client (its loss), beside the method's traffic.
    Identity: equal values make the draw uniform; where everybody can afford everything and full=1, every client does all the work.
    Departures: (1) A workload is in units of which the method's whole work has `full`, so that every method has one; the paper's are epochs, at most 15.
    (2) Old pairs stand on the right of every rule: the code takes some already changed. (3) The loss is measured after the round, with what the client predicts
    with commonly; one who was never asked counts as the mean of the others. (4) Losses guide the draw in all rounds, in the paper in an early part.
    """

    per_round: int | None = hyper(None)
    predict: str = hyper("ira", choices=("ira", "fassa"))
    full: float = hyper(15.0, gt=0)  # workload that the method's whole work is
    easy: float = hyper(1.0, gt=0)  # L at the start
    hard: float = hyper(2.0, gt=0)  # H at the start
    U: float = hyper(10.0, gt=0)
    alpha: float = hyper(0.95, ge=0, le=1)  # memory of theta
    fast: float = hyper(3.0, ge=0)  # gamma_1
    slow: float = hyper(1.0, ge=0)  # gamma_2
    sharpness: float = hyper(0.01, ge=0)

    def check(self) -> None:
        check_size(self)

    def begin(self, fed: Fed, rounds: int | None) -> State:
        def each(value: float) -> np.ndarray:
            return np.full(fed.n, min(value, self.full))

        return State(each(self.easy), each(max(self.easy, self.hard)), np.full(fed.n, np.nan), np.full(fed.n, np.nan))

    def choose(self, fed: Fed) -> np.ndarray:
        s: State = fed.selection
        assert self.per_round is not None
        loss = np.where(np.isnan(s.loss), np.nanmean(s.loss) if np.isfinite(s.loss).any() else 0, s.loss)
        P = softmax(self.sharpness * np.sqrt(fed.rows) * loss)
        return draw(host_generator(fed.seed, "select fedsae", fed.round), fed.everyone(), self.per_round, P)

    def assign(self, fed: Fed, ids: np.ndarray, afforded: np.ndarray) -> np.ndarray:
        s: State = fed.selection
        E = afforded * self.full
        done = np.where(s.H[ids] <= E + 1e-9, s.H[ids], np.where(s.L[ids] <= E + 1e-9, s.L[ids], 0))
        return np.minimum(done / self.full, 1)

    def learn(self, fed: Fed) -> State:
        s: State = fed.selection
        assert fed.seen is not None
        asked = np.isfinite(fed.seen.work)
        if not asked.any():  # the method had no need of clients in this round
            return s
        k, done = fed.seen.chosen[asked], fed.seen.work[asked] * self.full
        L, H, theta = s.L[k], s.H[k], s.theta[k]
        success, failure = done >= H - 1e-4, done <= 0
        known = np.where(np.isnan(theta), done, theta)
        grow_L, grow_H = (self.U / L, self.U / H) if self.predict == "ira" else self._growth(L, H, known)
        easy = np.where(failure, L / 2, L + grow_L)  # also where only the easy task was done
        hard = np.where(success, H + grow_H, H / 2)
        pair = np.clip(np.sort([easy, hard], axis=0), LEAST, self.full)  # L <= H
        new = s._replace(L=s.L.copy(), H=s.H.copy(), theta=s.theta.copy(), loss=s.loss.copy())
        new.L[k], new.H[k] = pair
        new.theta[k] = self.alpha * known + (1 - self.alpha) * done  # theta <- a theta + (1 - a) E
        there = k[~failure]
        if len(there):
            new.loss[there] = np.asarray(fed.look(there, Loss(fed.method)), np.float64)
            new.loss[~np.isfinite(new.loss)] = np.nan
        return new

    def _growth(self, L: np.ndarray, H: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Workloads below theta, which the client usually manages, grow fast, others slowly."""
        return np.where(theta > L, self.fast, self.slow), np.where(theta > H, self.fast, self.slow)


@dataclass(frozen=True)
class Loss:
    """A client program: the mean loss over a client's train rows of the method's common model, or of the personal one where there is none."""

    method: Any
    __name__: ClassVar[str] = "selection_loss"

    def __call__(self, k: Client, shared: Any) -> Any:
        m = self.method
        w = m.global_model(k, shared) if hasattr(m, "global_model") else m.personalize(k, shared)

        def loss(rows: Any) -> Array:
            out = m.predict(k, w, rows.x) if hasattr(m, "predict") else k.model.apply(w, rows.x)
            return masked_mean(row_losses(k.model.task, out, rows.y), rows.mask)

        value = k.mean(loss)
        return (value, k.state) if hasattr(m, "join") else value
