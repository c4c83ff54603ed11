"""FURL."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.adaptation import feature_shape
from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import masked_mean, row_losses, stepped
from atoll.core.method import hyper, method
from atoll.core.model import Model
from atoll.core.norm import shapes
from atoll.core.rows import Batch
from atoll.models.zoo import mlp, size


class Theta(NamedTuple):
    """The federated parameters."""

    e: Vector  # encoder: the model without its head
    m: Vector  # MLP on [encoded row; user's vector]


class Own(NamedTuple):
    """What stays at a client."""

    u: Array  # [d] the user's vector
    trained: Array  # bool, it has been trained in a round


class Reply(NamedTuple):
    theta: Theta
    weight: Array  # n_i


@method
class FURL:
    """FURL: every user has a vector of its own, which is never sent; the encoder of texts (or of any rows) and the layers on [text; user] are averaged.

    The vector learns from its user's rows alone, so that keeping it private changes nothing: a server that held the table of all vectors would train the same.

    Bui, Malik, Goetz, Liu, Moon, Kumar, Shin, "Federated User Representation Learning", arXiv 1909.12535, 2019. Their encoder of texts is a BiLSTM on
    characters: --model bilstm.

    Kept: server encoder e and MLP m; client its vector u_i.
    Traffic per round and client: e and m down, e, m and n_i up; of the vectors nothing.
    Identity: a full-batch round moves e and m by the gradients weighted by n_i / n, and u_i by the client's own gradient, unweighted: that is one step of a
    server with all vectors, and not FedAvg of the table, which would shrink it to n_i / n.
    Departures from the paper: (1) The head of the model is left out, and an MLP with one hidden layer takes its place. Where the vector joins, the sizes and
    rates are not known to us: defaults are ours. (2) Vectors begin at 0. (3) A client that never trained fits its vector on its train rows before it
    predicts, with all else frozen, for new_epochs.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)
    batch: int = hyper(20, ge=1)
    d: int = hyper(8, ge=1)  # length of the user's vector
    hidden: int = hyper(32, ge=1)  # units of the MLP
    new_epochs: int = hyper(5, ge=1)  # of a new user's vector

    def check_model(self, model: Model) -> None:
        if model.task == "sequence" or len(model.blocks) < 2:
            raise AtollError(f"FURL needs an encoder below the head and one output per row, and model {model.name!r} has none such. Take mlp or bilstm.")

    def init(self, fed: Fed) -> Theta:
        key = fed.key()
        e, _ = fed.model.split(fed.model.init(key), 1)
        return Theta(e, self._top(fed.model).init(jax.random.fold_in(key, 1)))

    def join(self, i: Client, _: Theta) -> Own:
        return Own(jnp.zeros(self.d), jnp.bool_(False))

    def round(self, theta: Theta, fed: Fed) -> Theta:
        return fed.ask(fed.sample(), self.update, theta, reduce=mean).theta  # theta <- sum_i n_i / n theta_i

    def update(self, i: Client, theta: Theta) -> tuple[Reply, Own]:
        def one(at: tuple[Theta, Array], rows: Batch) -> tuple[Theta, Array]:  # SGD on F_i(theta, u_i), both in the same backward pass
            theta, u = at
            (g, g_u), buffered = self._gradient(i, theta, u, rows)
            return Theta(stepped(i.model, theta.e, g.e, buffered, self.lr), theta.m - self.lr * g.m), u - self.lr * g_u

        (theta, u), _ = i.fold(one, (theta, i.state.u), batch=self.batch, epochs=self.epochs)
        return Reply(theta, i.n.astype("float32")), Own(u, jnp.bool_(True))  # theta_i to the server, u_i stays

    def personalize(self, i: Client, theta: Theta) -> Any:
        def one(u: Array, rows: Batch) -> Array:
            return u - self.lr * self._gradient(i, theta, u, rows)[0][1]

        steps = jnp.where(i.state.trained, 0, self.new_epochs * ((i.n + self.batch - 1) // self.batch))  # a new user: theta is frozen
        return theta, i.fold(one, i.state.u, batch=self.batch, steps=steps)[0]

    def predict(self, i: Client, w: tuple[Theta, Array], x: Array) -> Array:
        theta, u = w
        return self._outputs(i.model, theta.m, i.model.features(theta.e, x), u)

    def _gradient(self, i: Client, theta: Theta, u: Array, rows: Batch) -> tuple[tuple[Theta, Array], Vector]:
        def loss(at: tuple[Theta, Array]) -> tuple[Array, Vector]:
            theta, u = at
            h, e = i.model.train_features(theta.e, rows.x, rows.mask, rows.key)
            return masked_mean(row_losses(i.model.task, self._outputs(i.model, theta.m, h, u), rows.y), rows.mask), e

        return jax.grad(loss, has_aux=True)((theta, u))

    def _outputs(self, model: Model, m: Vector, h: Array, u: Array) -> Array:
        h = h.reshape(len(h), -1)
        return self._top(model).apply(m, jnp.concatenate([h, jnp.broadcast_to(u, (len(h), self.d))], axis=1))  # MLP([h; u_i])

    def _top(self, model: Model) -> Model:
        return _mlp(model, self.d, self.hidden)


@functools.lru_cache(maxsize=64)
def _mlp(model: Model, d: int, hidden: int) -> Model:
    """Features of the model and d values -> its outputs."""
    return mlp((size(feature_shape(model, shapes(model))) + d,), model.outputs, model.task, hidden=hidden)
