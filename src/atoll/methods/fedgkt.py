"""FedGKT."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.fold import apart, by_client
from atoll.core.local import descend, masked_mean, row_losses, stepped
from atoll.core.method import hyper, method
from atoll.core.model import Model
from atoll.core.rows import Batch

C = "(classifier)"  # a block beside the lower ones; no block of a model can be named so


class Edge(NamedTuple):
    """What a client keeps."""

    w: Vector  # lower blocks e_k, and the small classifier c_k on their features
    z: Array  # [room, L] the server's scores of its rows
    taught: Array  # float32, 0 before the first scores came


class Knowledge(NamedTuple):
    """What a client sends: of whole batches, the last filled up with zeros."""

    h: Any  # [rows, ...] features e_k(x)
    z: Any  # [rows, L] scores c_k(h)
    y: Any  # [rows] labels


@method
class FedGKT:
    """FedGKT: clients train a model's lower blocks with a small classifier, the server the large rest on their features; each learns from the other's scores.

    An edge device can't train a large network, but it can train its first blocks if a small classifier closes them off. Its features of all rows, scores and
    labels go to the server, which trains the upper blocks on everybody's features and sends its scores of each row back, as a teacher. Nobody sends weights.

    He, Annavaram, Avestimehr, "Group Knowledge Transfer: Federated Learning of Large CNNs at the Edge", NeurIPS 2020, arXiv 2007.14513.

    Kept: server the upper blocks s; client e_k, c_k and the server's scores of its rows.
    Traffic per round and client: for each of its rows d features, L scores and the label up, L scores down; rows count in whole batches.
    Identity: with alpha_c=0 clients train alone and the server changes nothing at them; with alpha_s=0 the server's training is that of s on given features;
    equal scores have no distance.
    Departures from the paper: (1) The two networks are one model, cut behind its `lower` first blocks, and c_k is one linear layer on the features; the paper
    has a ResNet-8 at the edge, whose first blocks feed a ResNet-55 or 109. (2) alpha weighs the distance of scores on both sides, as in the paper; in the
    authors' code it weighs the labels' loss at the server. (3) Features, and the scores that the server sends, are those after training, as the model
    predicts; theirs come from batches while it trains. (4) The server trains on the features of those who took part in the round, by whole batches of one
    client in random order. (5) Momentum begins anew every round. (6) To predict, a client is given s, which is not counted; in use its features would cross
    the cut once more. The numbers are those of their code.
    """

    lr: float = hyper(1e-3, gt=0)  # of clients and server
    momentum: float = hyper(0.9, ge=0, lt=1)  # Nesterov's
    decay: float = hyper(1e-3, ge=0)  # weight decay
    batch: int = hyper(100, ge=1)
    epochs: int = hyper(2, ge=0)  # of a client
    server_epochs: int = hyper(2, ge=0)
    alpha_c: float = hyper(0.5, ge=0, search=(0.0, 2.0))  # weight of the server's scores at clients
    alpha_s: float = hyper(0.5, ge=0)  # and of theirs at the server
    T: float = hyper(100.0, gt=0)  # temperature
    lower: int = hyper(1, ge=1)  # how many first blocks are at the edge

    def check_model(self, model: Model) -> None:
        if model.task != "classification":
            raise AtollError(f"FedGKT exchanges scores of labels, and model {model.name!r} is for {model.task}. It works for classification only.")
        model.check_cut(self._upper(model)[0])

    def init(self, fed: Fed) -> Vector:
        return fed.model.split(fed.model.init(fed.key()), self._upper(fed.model))[1]  # s

    def welcome(self, s: Vector) -> None:
        return None

    def join(self, k: Client, _: None) -> Edge:
        upper = self._upper(k.model)
        e = k.model.split(k.model.init(k.common_key), upper)[0]
        d = int(np.prod(jax.eval_shape(lambda: k.model.below(e, k.train.take(jnp.zeros(1, jnp.int32)).x, upper[0])[0]).shape))
        c = {"kernel": jax.nn.initializers.lecun_normal()(jax.random.fold_in(k.common_key, 1), (d, k.outputs)), "bias": jnp.zeros(k.outputs)}
        return Edge(Vector({**e.tree, C: c}), jnp.zeros((k.train.room or 0, k.outputs)), jnp.float32(0))

    def round(self, s: Vector, fed: Fed) -> Vector:
        S = fed.sample()
        up = fed.ask(S, self.update)
        sizes = [jnp.zeros((-(-int(fed.rows[k]) // self.batch) * self.batch, 0)) for k in up.ids]  # no bytes: how many rows are wanted
        up = fed.ask(up.ids, self.upload, each=sizes, reduce=apart)  # get h, z_k, y
        found = by_client(up.ids, up.reply)
        ids = sorted(found)
        h, z, y = (np.concatenate([np.asarray(leaf) for leaf in leaves]) for leaves in zip(*(found[k] for k in ids), strict=True))
        mask = np.concatenate([np.arange(len(found[k].y)) < fed.rows[k] for k in ids]).astype(np.float32)
        cache = jax.tree.map(lambda leaf: leaf.reshape(-1, self.batch, *leaf.shape[1:]), (Knowledge(h, z, y), mask))
        s, z_s = _learn(self, fed.model, s, *cache, fed.key("learn"))
        ends = np.cumsum([len(found[k].y) for k in ids])
        back = dict(zip(ids, np.split(np.asarray(z_s).reshape(-1, fed.outputs), ends[:-1]), strict=True))
        fed.ask(ids, self.receive, each=[back[k] for k in ids])  # send z_s
        return s

    def update(self, k: Client, _: None) -> tuple[None, Edge]:
        w, z_s, taught = k.state

        def make(i: Array) -> tuple[Array, Array]:  # rows whose target is (label, the server's scores)
            rows = k.train.take(i)
            return rows.x, jnp.concatenate([rows.y[:, None].astype(jnp.float32), z_s[i]], axis=1)

        def loss(k: Client, w: Vector, rows: Batch) -> tuple[Array, Vector]:
            z_k, w, _h = self._edge(k, w, rows, train=True)
            CE = row_losses(k.model.task, z_k, rows.y[:, 0].astype(jnp.int32))
            return masked_mean(CE + self.alpha_c * taught * divergence(rows.y[:, 1:], z_k, self.T), rows.mask), w  # CE(z_k, y) + alpha KL(z_s || z_k)

        sgd, both = self._optimizer(), k.train.instead(make, k.n, k.train.room)
        (w, _), _steps = both.fold(lambda carry, rows: descend(k, sgd, carry, rows, loss), (w, sgd.init(w)), batch=self.batch, epochs=self.epochs)
        return None, Edge(w, z_s, taught)

    def upload(self, k: Client, _: None, wanted: Array) -> tuple[Knowledge, Edge]:
        def of(rows: Batch) -> Knowledge:
            z, _w, h = self._edge(k, k.state.w, rows, train=False)
            return Knowledge(h, z, rows.y)

        return jax.tree.map(lambda leaf: _sized(leaf, len(wanted)), k.map(of)), k.state

    def receive(self, k: Client, _: None, z_s: Array) -> tuple[None, Edge]:
        return None, Edge(k.state.w, _sized(z_s, len(k.state.z)), jnp.float32(1))

    def personalize(self, k: Client, s: Vector) -> Any:
        return k.model.join(_lower(k.state.w), s)  # s o e_k

    def _edge(self, k: Client, w: Vector, rows: Batch, train: bool) -> tuple[Array, Vector, Array]:
        """(scores, w with the batch's buffers, features) of a batch at the edge."""
        h, buffered = k.model.below(_lower(w), rows.x, self._upper(k.model)[0], train=train, mask=rows.mask, key=rows.key)
        c = w.tree[C]
        return h.reshape(len(h), -1) @ c["kernel"] + c["bias"], Vector({**buffered.tree, C: c}), h

    def _upper(self, model: Model) -> tuple[str, ...]:
        return model.above_first(self.lower, "FedGKT")

    def _optimizer(self) -> Any:
        return optax.chain(optax.add_decayed_weights(self.decay), optax.sgd(self.lr, self.momentum or None, nesterov=self.momentum > 0))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _learn(gkt: FedGKT, model: Model, s: Vector, cache: Knowledge, mask: Array, key: Array) -> tuple[Vector, Array]:
    """(s after epochs over all batches, its scores z_s); cache and mask [batches, batch, ...]."""
    sgd, cut = gkt._optimizer(), gkt._upper(model)[0]

    def one(carry: Any, given: Any) -> tuple[Any, None]:
        s, velocity = carry
        (h, z_k, y), real, key = given

        def loss(s: Vector) -> tuple[Array, Vector]:
            z_s, s = model.above(s, h, cut, train=True, mask=real, key=key)
            return masked_mean(row_losses(model.task, z_s, y) + gkt.alpha_s * divergence(z_k, z_s, gkt.T), real), s  # CE(z_s, y) + alpha KL(z_k || z_s)

        g, buffered = jax.grad(loss, has_aux=True)(s)
        u, velocity = sgd.update(g, velocity, s)
        return (stepped(model, s, u, buffered, -1.0), velocity), None

    orders = jax.vmap(lambda n: jax.random.permutation(jax.random.fold_in(key, n), len(mask)))(jnp.arange(gkt.server_epochs)).reshape(-1)
    keys = jax.random.split(jax.random.fold_in(key, gkt.server_epochs), len(orders))
    picked = jax.tree.map(lambda leaf: jnp.asarray(leaf)[orders], (cache, mask))
    (s, _), _ = jax.lax.scan(one, (s, sgd.init(s)), (*picked, keys))
    return s, jax.lax.map(lambda h: model.above(s, h, cut)[0], cache.h)


def divergence(teacher: Array, student: Array, T: float) -> Array:
    """[batch] T^2 KL(softmax(teacher / T) || softmax(student / T)) of scores [batch, L]."""
    p, q = jax.nn.log_softmax(teacher / T), jax.nn.log_softmax(student / T)
    return T**2 * jnp.sum(jnp.exp(p) * (p - q), axis=-1)


def _lower(w: Vector) -> Vector:
    return Vector({block: part for block, part in w.tree.items() if block != C})


def _sized(leaf: Array, size: int) -> Array:
    """The first `size` entries, with zeros behind where there are fewer."""
    n = min(size, len(leaf))
    return jnp.zeros((size, *leaf.shape[1:]), leaf.dtype).at[:n].set(leaf[:n])
