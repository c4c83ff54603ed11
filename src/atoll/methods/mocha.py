"""MOCHA."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.keys import shuffle
from atoll.core.linear import as_model, check_linear, columns, lifted, signs
from atoll.core.method import hyper, method
from atoll.core.model import Model

FLOOR = 1e-7  # of the eigenvalues of W'W, as a share of the largest: Sigma stays invertible


class Server(NamedTuple):
    B: Array  # [m, L, d] b_t = 1/n_t sum_i alpha_i x_i of every client t, and of every label
    Sigma: np.ndarray  # [m, m] float32, Omega^-1: how tasks are related


class Mine(NamedTuple):
    """What a client is sent."""

    w: Array  # [L, d] w_t
    q: Any  # rho Sigma_tt, float32


class Reply(NamedTuple):
    db: Array  # [L, d], the change of b_t


@method
class MOCHA:
    """MOCHA: every client has a linear model of its own, a task, and the server learns how the tasks are related while they are learned.

    The clients minimise sum_t 1/n_t sum_i max(0, 1 - y w_t'x) + lam/2 tr(W Omega W'): support vector machines, which Omega draws together where tasks are
    alike. A client changes only the dual variables alpha_t of its own rows (y alpha lies between 0 and 1), by as many coordinate steps as it has time for, and
    sends what this does to b_t = 1/n_t sum_i alpha_i x_i. All models follow from these: W = B Sigma / lam, Sigma = Omega^-1. So a slow client, or one that
    drops out, holds nobody up: every step of anyone makes the common dual objective larger.

    Smith, Chiang, Sanjabi, Talwalkar, "Federated Multi-Task Learning", NeurIPS 2017.

    Kept: server b_t of all clients (m models) and Sigma (m x m: meant for up to some thousand clients); client alpha_t.
    Traffic per round and client: w_t and one number down, the change of b_t up. To predict, a client needs its newest w_t once, which is not counted.
    Identity: primal - dual objective >= 0 after every round and falls to 0, and the dual never falls while Sigma stays; Sigma = I/m is a support vector machine
    per client with regulariser m lam; two rows of two related clients have a closed form.
    Departures from the paper: (1) The Omega step is W <- B Sigma / lam with the new Sigma, as the paper defines W; the authors' code leaves W as it was, which
    breaks duality. (2) More than two labels are one machine for each against the rest, with Omega in common; then W has their vectors one below the other.
    (3) Clients that have sent nothing keep Sigma_tt = 1/m and no relations in the Omega step, else their models would be 0 for ever; one held
    out of training gets the mean model. (4) Rows are taken in a random order that is drawn once a round; eigenvalues of W'W are kept above 1e-7 of the
    largest. How many steps a client makes is the run's conditions' (stragglers), as is who drops out. epochs is the authors'; the other defaults are ours.
    """

    lam: float = hyper(0.001, gt=0, search=(1e-5, 0.1, "log"))  # lambda
    epochs: float = hyper(0.5, gt=0)  # coordinate steps per round, as a share of the client's rows
    inner: int = hyper(10, ge=1)  # rounds between two Omega steps; the authors' are up to 100

    partial_work = True

    def check_model(self, model: Model) -> None:
        if model.task != "classification":
            raise AtollError("MOCHA is made of support vector machines, which tell labels apart; here the targets are numbers. Take another method.")
        check_linear("MOCHA", model)

    def init(self, fed: Fed) -> Server:
        return Server(jnp.zeros((fed.n, *columns(fed.model))), np.eye(fed.n, dtype=np.float32) / fed.n)  # alpha = 0, Omega = m I

    def share(self, s: Server) -> Array:
        return self.primal(s)

    def join(self, t: Client, W: Array) -> Array:
        assert t.train.room is not None  # the rows are the client's own
        return jnp.zeros((t.train.room, W.shape[1]))  # y alpha_t of each row and label

    def round(self, s: Server, fed: Fed) -> Server:
        S = fed.sample()
        q = separable(s.Sigma)
        up = fed.ask(S, self.update, each=Mine(self.primal(s)[S], q[S]))  # send w_t to the tasks
        B = s.B.at[up.ids].add(up.db)  # B <- B + dB, and so W <- W + dB Sigma / lambda
        return Server(B, related(np.asarray(self.primal(Server(B, s.Sigma))), s.Sigma) if fed.round % self.inner == 0 else s.Sigma)

    def update(self, t: Client, _: None, mine: Mine) -> tuple[Reply, Array]:
        order = shuffle(jnp.arange(len(t.state), dtype=jnp.int32), t.n, t.key)

        def one(h: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            beta, db = carry  # beta = y alpha
            i = order[h % t.n]
            row = t.train.take(i[None])
            x, y = lifted(t.model, row.x)[0], signs(t.model, row.y)[0]  # [d], [L]
            margin = y * ((mine.w + mine.q / self.lam * db) @ x)  # y x'(w_t + rho dw_t)
            new = jnp.clip(beta[i] + self.lam * t.n * (1 - margin) / (mine.q * (x @ x)), 0, 1)  # the maximum over this coordinate
            return beta.at[i].set(new), db + (y * (new - beta[i]))[:, None] * x / t.n

        (beta, db), _steps = t.repeat(one, (t.state, jnp.zeros_like(mine.w)), jnp.ceil(self.epochs * t.n))  # theta-approximate solution of the subproblem
        return Reply(db), beta

    def personalize(self, t: Client, W: Array) -> Any:
        m = len(W)
        return as_model(t.model, jnp.where(t.id < m, W[jnp.minimum(t.id, m - 1)], W.mean(axis=0)))

    def primal(self, s: Server) -> Array:
        """[m, L, d] W(alpha) = B Sigma / lambda."""
        return jnp.tensordot(s.Sigma, s.B, axes=1) / self.lam


def separable(Sigma: np.ndarray) -> np.ndarray:
    """[m] rho Sigma_tt, rho = max_t sum_t' |Sigma_tt'| / Sigma_tt: large enough that what clients do at the same time adds up to no less than each foresees."""
    own = np.diag(Sigma)
    return (np.abs(Sigma).sum(axis=1) / own).max() * own


def related(W: np.ndarray, Sigma: np.ndarray) -> np.ndarray:
    """argmin of tr(W Omega W') over Sigma = Omega^-1 of trace 1: (W'W)^(1/2) / tr; among tasks that have a model, with their share of the trace."""
    V = W.reshape(len(W), -1).astype(np.float64)
    has = np.flatnonzero(V.any(axis=1))
    if not len(has):
        return Sigma
    value, vector = np.linalg.eigh(V[has] @ V[has].T)
    root = (vector * np.sqrt(np.maximum(value, FLOOR * value.max()))) @ vector.T
    new = np.eye(len(W)) / len(W)
    new[np.ix_(has, has)] = len(has) / len(W) * root / np.trace(root)
    return new.astype(np.float32)
