"""FedGen."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from tree_math import Vector

from atoll.core.adaptation import feature_size
from atoll.core.balance import label_counts
from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.local import data_loss, row_losses, sgd
from atoll.core.method import hyper, method
from atoll.core.model import Model
from atoll.core.norm import shapes
from atoll.core.prototypes import check_features
from atoll.core.rows import Batch
from atoll.models.zoo import mlp


class Server(NamedTuple):
    """The server's state, all of which clients are sent."""

    theta: Vector
    w: Vector  # of the generator
    p: Array  # [L] share of each label among what the generator is asked for; zeros before it has learnt anything


class Reply(NamedTuple):
    theta: Vector  # the client's model after local training
    counts: Array  # [L] its rows of each label


@method
class FedGen:
    """FedGen: the server learns to make features that clients' last layers take for a wanted label; clients train on them beside their own rows.

    Nobody sends rows, and none are needed at the server: a small generator is trained until the clients' heads together agree that what it makes for a label
    is of that label. It holds what all clients know about labels, and teaches it to the heads of clients that lack some.

    Zhu, Hong, Zhou, "Data-Free Knowledge Distillation for Heterogeneous Federated Learning", ICML 2021, arXiv 2105.10056.

    Kept: server theta and the generator w; clients nothing.
    Traffic per round and client: theta, w and L shares down, theta and L counts up.
    Identity: alpha=0 is FedAvg; the weights of the heads sum to 1 for each label, and are 1 for one client; training the generator changes no model; the
    diversity of rows that are alike is 1, its largest.
    Departures from the paper: (1) The generator's loss is the mean of the heads' losses, of which head i counts by its share of the rows of a label, as in the
    authors' code; the paper has the loss of the mean of their scores. (2) Labels are drawn evenly from those that someone in the round has rows of. (3) Of
    their code's terms at clients we have the paper's one: not the distance between outputs for made and own features of a label, nor an end after 20 steps.
    (4) Its rate does not decay, and the generator has no BatchNorm and no weight decay; Adam's moments begin anew every round. The numbers are those of
    their code for MNIST, noise uniform in [0, 1) too.
    """

    lr: float = hyper(0.01, gt=0)
    steps: int = hyper(20, ge=1)  # T, mini-batches of a round
    batch: int = hyper(32, ge=1)
    alpha: float = hyper(10.0, ge=0, search=(0.1, 10.0, "log"))  # weight of the made features
    decay: float = hyper(0.98, gt=0, le=1)  # of alpha, per round
    gen_steps: int = hyper(50, ge=1)
    gen_lr: float = hyper(3e-4, gt=0)  # of Adam
    gen_batch: int = hyper(32, ge=2)  # made features per step, at clients too
    eta: float = hyper(1.0, ge=0)  # weight of the diversity
    noise: int = hyper(32, ge=1)
    hidden: int = hyper(256, ge=1)  # units of the generator

    def check_model(self, model: Model) -> None:
        check_features(self, model)

    def init(self, fed: Fed) -> Server:
        return Server(fed.model.init(fed.key()), self._generator(fed.model).init(fed.key("generator")), jnp.zeros(fed.outputs))

    def round(self, s: Server, fed: Fed) -> Server:
        S = fed.sample()
        up = fed.ask(S, self.update, s)  # broadcast theta, w, p
        counts = jnp.asarray(up.counts)  # [m, L]
        share = counts.sum(axis=1) / counts.sum()
        theta = jax.tree.map(lambda leaf: jnp.tensordot(share, jnp.asarray(leaf), axes=1), up.theta)  # theta <- sum_i n_i / n theta_i
        there = counts.sum(axis=0) > 0
        heads = Vector({fed.model.blocks[-1]: up.theta.tree[fed.model.blocks[-1]]})
        p = there / there.sum()
        w = _learn(self, fed.model, s.w, heads, counts / jnp.maximum(counts.sum(axis=0), 1), p, fed.key("generate"))
        return Server(theta, w, p)

    def update(self, i: Client, s: Server) -> Reply:
        alpha = self.alpha * self.decay ** (i.round - 1) * (s.p.sum() > 0)

        def loss(i: Client, theta: Vector, rows: Batch) -> tuple[Array, Vector]:
            F, buffered = data_loss(i, theta, rows)
            _eps, y, z = self.made(i.model, s.w, s.p, jax.random.fold_in(rows.key, 1))  # y ~ p, z ~ G_w(y)
            return F + alpha * row_losses(i.model.task, i.model.head(theta, z), y).mean(), buffered  # F_i + alpha E CE(h_p(z), y)

        theta, _ = sgd(i, s.theta, self.lr, batch=self.batch, steps=self.steps, loss=loss)
        return Reply(theta, label_counts(i).astype(jnp.float32))

    def global_model(self, i: Client, s: Server) -> Any:
        return s.theta

    def made(self, model: Model, w: Vector, p: Array, key: Array) -> tuple[Array, Array, Array]:
        """(noise [gen_batch, noise], labels drawn from p, features made of both)."""
        draw, noise = jax.random.split(key)
        y = jax.random.categorical(draw, jnp.log(jnp.where(p.sum() > 0, p, 1)), shape=(self.gen_batch,))
        eps = jax.random.uniform(noise, (self.gen_batch, self.noise))
        told = jnp.concatenate([eps, jax.nn.one_hot(y, model.outputs)], axis=1)
        return eps, y, self._generator(model).apply(w, told)

    def _generator(self, model: Model) -> Model:
        return mlp((self.noise + model.outputs,), feature_size(model, shapes(model)), "regression", hidden=self.hidden)


def generator_loss(model: Model, heads: Vector, weight: Array, eta: float, eps: Array, y: Array, z: Array) -> Array:
    """mean over rows of sum_i weight_iy CE(h_i(z), y), plus eta times the diversity; heads [m, ...], weight [m, L]."""
    losses = jax.vmap(lambda h: row_losses(model.task, model.head(h, z), y))(heads)  # [m, batch]
    return (weight[:, y] * losses).sum(axis=0).mean() + eta * diversity(eps, z)


def diversity(eps: Array, z: Array) -> Array:
    """exp(- mean over pairs of ||eps_a - eps_b||^2 |z_a - z_b|_1), both as means over their entries: 1 where different noise gives the same."""
    apart = jnp.square(eps[:, None] - eps).mean(axis=2)
    return jnp.exp(-(apart * jnp.abs(z[:, None] - z).mean(axis=2)).mean())


@functools.partial(jax.jit, static_argnums=(0, 1))
def _learn(gen: FedGen, model: Model, w: Vector, heads: Vector, weight: Array, p: Array, key: Array) -> Vector:
    """The generator after its steps of Adam."""
    adam: Any = optax.adam(gen.gen_lr)

    def one(carry: Any, key: Array) -> tuple[Any, None]:
        w, moments = carry
        g = jax.grad(lambda w: generator_loss(model, heads, weight, gen.eta, *gen.made(model, w, p, key)))(w)
        u, moments = adam.update(g, moments)
        return (w + u, moments), None

    (w, _), _ = jax.lax.scan(one, (w, adam.init(w)), jax.random.split(key, gen.gen_steps))
    return w
