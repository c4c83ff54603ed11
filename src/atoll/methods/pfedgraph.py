"""pFedGraph."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.cloud import cosines, mix, sum_rows
from atoll.core.clusters import alike
from atoll.core.federation import Fed
from atoll.core.local import data_loss, sgd
from atoll.core.method import hyper, method
from atoll.core.rows import Batch
from atoll.core.simplex import project

ALIKE = 0.9  # cosines above count as 1


class Cloud(NamedTuple):
    first: Vector  # theta^0
    theta: Vector  # [n, ...] the model theta_i that each client uploaded last; theta^0 where it has not yet
    n: np.ndarray  # [n] float32, rows of each client that has uploaded one; 0 for the others


class Mine(NamedTuple):
    """What a client is sent."""

    theta: Vector  # sum_j w_ij theta_j
    towards: Vector  # sum_j w_ij theta_j / ||theta_j||, parameters only; 0 in the first round


class Reply(NamedTuple):
    theta: Vector  # theta_i after local training
    n: Array  # n_i, float32


@method
class PFedGraph:
    """pFedGraph: the server infers who should work with whom from how alike the models have become, and sends every client its own mixture of them.

    Row i of the collaboration graph trades off two wishes: models that moved in the same direction as the client's, and models that saw many rows. While a
    client trains, it is also drawn to the direction of its mixture.

    Ye, Ni, Wu, Chen, Wang, "Personalized Federated Learning with Inferred Collaboration Graphs", ICML 2023.

    Kept: server theta^0 and the last model of every client (n models: meant for up to some hundred clients); client theta_i.
    Traffic per round and client: its mixture and its direction (two models, without BatchNorm statistics in the second) down, theta_i and n_i up.
    Identity: row i is argmin over the simplex of sum_j w_ij d_ij + alpha sum_j (w_ij - p_j)^2, which is the projection of p - d_i / (2 alpha); for a large
    alpha, or where all are equally far, it is p and the mixture FedAvg's mean.
    Departures from the paper: (1) lam draws a model to its mixture, in the direction that the paper's aim asks for; the authors' code adds the cosine to the
    loss, which drives them apart (pull=-1 does so, too). (2) Clients that are not asked stay in the mixture with the model they sent last; one
    that has sent none gets the mixture by rows, p, for its cosines are 0. (3) No momentum, and
    work in epochs; theirs is 0.9 and 400 iterations. (4) BatchNorm statistics are mixed like parameters, but count in no cosine. Cosines above 0.9 count as 1,
    as in their code. alpha and lam are the authors'; lr, epochs and batch are FedAvg's here.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)
    batch: int = hyper(20, ge=0)  # 0 = all rows of the client
    alpha: float = hyper(0.8, gt=0, search=(0.1, 10.0, "log"))  # how strongly a row is held to the shares of rows p
    lam: float = hyper(0.01, ge=0, search=(1e-3, 1.0, "log"))  # lambda, how strongly models are drawn to their mixtures
    pull: int = hyper(1, choices=(1, -1))  # 1: towards the mixture, -1: away from it

    label = "pFedGraph"

    def init(self, fed: Fed) -> Cloud:
        first = fed.model.init(fed.key())
        return Cloud(first, alike(first, fed.n), np.zeros(fed.n, np.float32))

    def share(self, s: Cloud) -> None:
        return None  # nobody sees the others' models

    def join(self, i: Client, _: None) -> Vector:
        return i.model.init(i.common_key)  # theta_i

    def round(self, s: Cloud, fed: Fed) -> Cloud:
        S = fed.sample()
        theta = fed.model.parameters(s.theta)
        moved = jax.tree.map(lambda all, one: all - one, theta, fed.model.parameters(s.first))
        cosine = np.asarray(cosines(moved), np.float64)
        w = graph(cosine, s.n, self.alpha)[S]  # infer the collaboration graph
        unit = w * (s.n > 0) / np.asarray(jnp.sqrt(sum_rows(theta * theta)))
        mixture, towards = (mix(jnp.asarray(v, jnp.float32), of) for v, of in ((w, s.theta), (unit, theta)))
        up = fed.ask(S, self.update, each=Mine(mixture, towards))  # send theta_i <- sum_j w_ij theta_j
        n = s.n.copy()
        n[up.ids] = np.asarray(up.n)
        return Cloud(s.first, jax.tree.map(lambda all, new: all.at[up.ids].set(new), s.theta, up.theta), n)

    def update(self, i: Client, _: None, mine: Mine) -> tuple[Reply, Vector]:

        def loss(i: Client, w: Vector, rows: Batch) -> tuple[Array, Vector]:
            value, buffered = data_loss(i, w, rows)
            own = i.model.parameters(w)
            cosine = (mine.towards @ own) / jnp.sqrt(own @ own)  # sum_j w_ij cos(theta_j, theta)
            return value - self.pull * self.lam * cosine, buffered

        theta, _steps = sgd(i, mine.theta, self.lr, epochs=self.epochs, batch=self.batch, loss=loss)
        return Reply(theta, i.n.astype("float32")), theta

    def personalize(self, i: Client, _: None) -> Any:
        return i.state


def graph(cosine: np.ndarray, n: np.ndarray, alpha: float) -> np.ndarray:
    """[n, n] collaboration graph: row i is the mixture for client i of the clients that have uploaded a model (n_j > 0). While nobody has, all keep theta^0."""
    known = n > 0
    if not known.any():
        return np.eye(len(n))
    d = -np.where(cosine > ALIKE, 1.0, cosine)[:, known]
    w = np.zeros((len(n), len(n)))
    w[:, known] = project(n[known] / n.sum() - d / (2 * alpha))
    return w
