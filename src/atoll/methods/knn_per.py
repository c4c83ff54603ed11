"""kNN-Per."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import sgd
from atoll.core.method import hyper, method
from atoll.core.model import Model
from atoll.core.prototypes import check_features
from atoll.core.rows import Batch

TINY = 1e-8  # least probability of a label, so that losses are finite


class Store(NamedTuple):
    """A client's datastore: its train rows as the common model sees them."""

    phi: Array  # [room, d] features; rows from the n-th on are filling
    y: Array  # [room] int32


class Mixture(NamedTuple):
    """What a client predicts with."""

    w: Vector  # the common model
    store: Store
    lam: Array  # float32 lambda_i, the share of the nearest neighbours


class Reply(NamedTuple):
    w: Vector  # the client's model after local training
    weight: Array  # n_i


@method
class KNNPer:
    """kNN-Per: FedAvg trains a common model; to predict, a client also asks which of its own train rows look most alike to that model, and mixes both answers.

    The neighbours' labels, weighted by how near they are, make up for what the common model does not know of this client. Nothing is trained for it: new
    rows count as soon as the client has them.

    Marfoq, Neglia, Kameni, Vidal, "Personalized Federated Learning through Local Memorization", ICML 2022.

    Kept: server w; clients nothing but their rows: the datastore is made of these whenever they predict.
    Traffic per round and client: w down, w and n_i up: FedAvg's. To predict, every client needs the newest w once, which is not counted.
    Identity: the common model is FedAvg's and lam=0 predicts with it; lam=1, k=1 labels every stored row as itself; as many neighbours as rows and a large
    scale give the client's label shares.
    Departures from the paper: (1) lambda_i is chosen on a grid of 0.01 by the likelihood of the client's train rows, each with the others as its store; the
    paper tunes it on validation rows, which no method here sees. (2) Weights are exp(-d^2 / (dim scale)), as in the authors' code; the paper writes
    exp(-d). (3) All train rows are stored. k, scale and the grid are the authors'; lr, epochs and batch are FedAvg's here.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)
    batch: int = hyper(20, ge=0)  # 0 = all rows of the client
    k: int = hyper(10, ge=1, search=[3, 5, 10, 20])  # neighbours
    scale: float = hyper(1.0, gt=0, search=(0.1, 10.0, "log"))  # of squared distances, in units of the number of features
    tuned: bool = hyper(True)  # each client chooses its lambda_i
    lam: float = hyper(0.5, ge=0, le=1)  # lambda_i of all clients where tuned is false

    label = "kNN-Per"

    def check_model(self, model: Model) -> None:
        check_features(self, model)

    def init(self, fed: Fed) -> Vector:
        return fed.model.init(fed.key())

    def round(self, w: Vector, fed: Fed) -> Vector:
        S = fed.sample()
        up = fed.ask(S, self.update, w, reduce=mean)
        return up.w  # w <- sum_i n_i / n w_i

    def update(self, i: Client, w: Vector) -> Reply:
        w, _ = sgd(i, w, self.lr, epochs=self.epochs, batch=self.batch)
        return Reply(w, i.n.astype("float32"))

    def personalize(self, i: Client, w: Vector) -> Any:
        store = Store(*i.map(lambda rows: (i.model.features(w, rows.x), rows.y)))  # {(phi(x), y)} of the client's rows
        return Mixture(w, store, self._tuned(i, w, store) if self.tuned else jnp.float32(self.lam))

    def global_model(self, i: Client, w: Vector) -> Any:
        return w

    def predict(self, i: Client, w: Mixture | Vector, x: Array) -> Array:
        if isinstance(w, Vector):
            return i.model.apply(w, x)
        phi = i.model.features(w.w, x)
        near = neighbours(phi, w.store, i.n, i.outputs, self.k, self.scale)
        h = w.lam * near + (1 - w.lam) * jax.nn.softmax(i.model.head(w.w, phi))  # h_i(x) = lambda_i kNN_i(x) + (1 - lambda_i) h(x)
        return jnp.log(jnp.maximum(h, TINY))

    def _tuned(self, i: Client, w: Vector, store: Store) -> Array:
        """The lambda on the grid under which the client's rows are likeliest, each predicted from the others."""
        grid = jnp.linspace(0, 1, 101)

        def of_numbers(at: Array) -> tuple[Array, Array]:
            return i.train.take(at).x, at  # rows whose label is their number

        def likelihood(rows: Batch) -> Array:
            phi, y = i.model.features(w, rows.x), store.y[rows.y][:, None]
            near = neighbours(phi, store, i.n, i.outputs, self.k, self.scale, but=rows.y)
            a, b = (jnp.take_along_axis(p, y, axis=1) for p in (near, jax.nn.softmax(i.model.head(w, phi))))
            return rows.mask @ jnp.log(jnp.maximum(grid * a + (1 - grid) * b, TINY))

        total = i.train.instead(of_numbers, i.n, i.train.room).sum(likelihood)  # [101]
        return jnp.where(i.n > 1, grid[jnp.argmax(total)], 0)  # a single row has no neighbour


def neighbours(phi: Array, store: Store, n: Array, labels: int, k: int, scale: float, but: Array | None = None) -> Array:
    """[batch, labels] shares of labels among the k nearest of the n stored rows, each weighted by exp(-d^2 / (dim scale)). but: [batch] a row to leave out."""
    d2 = jnp.square(phi).sum(1)[:, None] + jnp.square(store.phi).sum(1) - 2 * phi @ store.phi.T  # [batch, room]
    number = jnp.arange(len(store.y))
    there = number < n if but is None else (number < n) & (number != but[:, None])
    d2 = jnp.where(there, jnp.maximum(d2, 0), jnp.inf)
    nearest, at = jax.lax.top_k(-d2, min(k, len(store.y)))
    power = jnp.exp((nearest - nearest[:, :1]) / (phi.shape[1] * scale))  # the nearest has weight 1: shares are the same, and none is 0 / 0
    power = jnp.where(jnp.isfinite(nearest), power, 0)
    votes = (power[:, :, None] * jax.nn.one_hot(store.y[at], labels)).sum(axis=1)
    return votes / jnp.maximum(power.sum(axis=1), 1)[:, None]
