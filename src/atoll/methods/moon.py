"""MOON."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import masked_mean, row_losses, sgd
from atoll.core.method import hyper, method
from atoll.core.model import Model
from atoll.core.rows import Batch


class State(NamedTuple):
    """What a client remembers."""

    past: Vector  # its last trained models, newest first, each leaf [buffer, ...]
    n: Array  # int32, how many of them there are


class Reply(NamedTuple):
    w: Vector  # the client's model after local training
    weight: Array  # n_k


@method
class MOON:
    """Model-contrastive learning: while a client trains, its features are drawn to those of the common model and away from those of its own last one.

    The common model has seen more kinds of rows than any client, so its features are better; a client that keeps near them drifts less.

    Li, He, Song, "Model-Contrastive Federated Learning", CVPR 2021.

    Kept: server w; clients their last trained models, `buffer` of them.
    Traffic per round and client: w down, w and n_k up: FedAvg's.
    Identity: mu=0 is FedAvg; so is a client's first round, when it has no past; where its past is w itself the contrastive loss is log 2 and has no gradient.
    Departures from the paper: (1) Features are the input of the model's last block. The paper puts a projection head of two layers before it; a model that ends
    so (mlp:512,256) has one. (2) With buffer > 1 a client's past models are its last ones, newest first; the authors' code repeats some and loses others.
    (3) The defaults are those of the paper's code but for its optimizer: SGD here has no momentum and no weight decay, and lr, epochs and batch are FedAvg's.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)  # E
    batch: int = hyper(20, ge=0)  # B; 0 = all rows of the client
    mu: float = hyper(1.0, ge=0, search=[0.1, 1.0, 5.0, 10.0])  # weight of the contrastive loss
    tau: float = hyper(0.5, gt=0)  # temperature
    buffer: int = hyper(1, ge=1)  # past models that a client keeps

    def check_model(self, model: Model) -> None:
        if len(model.blocks) < 2:
            raise AtollError(f"MOON compares features, and model {model.name!r} has none: its one layer is its output. Take one with a hidden layer (mlp).")

    def init(self, fed: Fed) -> Vector:
        return fed.model.init(fed.key())

    def join(self, k: Client, w: Vector) -> State:
        return State(jax.tree.map(lambda leaf: jnp.zeros((self.buffer, *leaf.shape), leaf.dtype), w), jnp.int32(0))

    def round(self, w: Vector, fed: Fed) -> Vector:
        S = fed.sample()
        up = fed.ask(S, self.update, w, reduce=mean)  # send w^t to each party P_i; w_i <- PartyLocalTraining(i, w^t)
        return up.w  # w^{t+1} <- sum_i |D^i| / |D| w_i

    def update(self, k: Client, w: Vector) -> tuple[Reply, State]:
        past, n = k.state

        def loss(k: Client, v: Vector, rows: Batch) -> tuple[Array, Vector]:
            z, buffered = k.model.train_features(v, rows.x, rows.mask, rows.key)  # z <- R_{w_i}(x)
            out = k.model.head(v, z)
            l_sup = row_losses(k.model.task, out, rows.y)  # l_sup <- CrossEntropyLoss(F_{w_i}(x), y)
            z_glob = k.model.features(w, rows.x)  # z_glob <- R_{w^t}(x)
            z_prev = jax.vmap(lambda one: k.model.features(one, rows.x))(past)  # z_prev <- R_{w_i^{t-1}}(x), [buffer, batch, d]
            l_con = contrast(z, z_glob, z_prev, n, self.tau)
            return masked_mean(l_sup + self.mu * l_con, rows.mask), buffered  # l <- l_sup + mu l_con

        v, _ = sgd(k, w, self.lr, epochs=self.epochs, batch=self.batch, loss=loss)  # w_i <- w_i - eta grad l
        newest = jax.tree.map(lambda all, one: jnp.concatenate([one[None], all[:-1]]), past, v)
        return Reply(v, k.n.astype("float32")), State(newest, jnp.minimum(n + 1, self.buffer))

    def global_model(self, k: Client, w: Vector) -> Any:
        return w


def contrast(z: Array, z_glob: Array, z_prev: Array, n: Array, tau: float) -> Array:
    """Per row [batch]: -log of the share of e^{cos(z, z_glob)/tau} in itself plus e^{cos(z, z_prev)/tau} of the `n` newest z_prev [buffer, batch, ..., d]."""
    near, far = cosine(z, z_glob) / tau, cosine(z, z_prev) / tau
    exists = jnp.arange(len(far)).reshape(-1, *(1,) * near.ndim) < n
    logits = jnp.concatenate([near[None], jnp.where(exists, far, -jnp.inf)])
    loss = jax.nn.logsumexp(logits, axis=0) - near
    return loss.reshape(len(loss), -1).mean(axis=1)  # sequences: over positions


def cosine(a: Array, b: Array) -> Array:
    """Cosine of the angle between vectors along the last axis; 0 where one is zero."""
    lengths = jnp.sqrt(jnp.sum(a * a, -1) * jnp.sum(b * b, -1) + 1e-16)
    return jnp.sum(a * b, -1) / lengths
