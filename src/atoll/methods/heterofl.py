"""HeteroFL."""

from __future__ import annotations

from dataclasses import dataclass
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
from atoll.core.fold import ElementMean
from atoll.core.keys import host_generator
from atoll.core.local import masked_mean, row_losses
from atoll.core.method import hyper, method
from atoll.core.model import Model
from atoll.core.norm import blank_buffers, shapes, with_own_statistics
from atoll.core.rows import Batch

LEVELS = {"a": 1.0, "b": 0.5, "c": 0.25, "d": 0.125, "e": 0.0625}  # the paper's computation complexity levels: width rates r


class Corner(NamedTuple):
    """What a client is sent."""

    W: Vector  # the corner of its width
    level: Array  # [i, 0] where its width is that of levels[i]: no bytes; its shape tells the program


class Part(NamedTuple):
    """A client's part of the model: its reply, and what it predicts with."""

    W: Vector  # the corner of its width; to predict, with BatchNorm statistics of its own rows
    labels: Array  # [outputs] 1 for labels that it has train rows of, 0 for the others


@method
class HeteroFL:
    """HeteroFL: weak clients train a narrower corner of the common model, and every weight is averaged over the clients that hold it.

    Diao, Ding, Tarokh, "HeteroFL: Computation and Communication Efficient Federated Learning for Heterogeneous Clients", ICLR 2021.

    Kept: server the widest model W_g; clients nothing.
    Traffic per round and client: the corner of its width, about r^2 of the model, each way; which labels it has up; no buffers.
    Identity: with levels="a" (dynamic or not), no mask, momentum, decay or clipping and equally large clients it is FedAvg, bit for bit.
    Departures from the paper: (1) the BatchNorm statistics that prediction needs are each client's own, taken over its train rows when it predicts; in the
    paper the server queries all clients once, after training (its code reads their pooled rows). (2) The personal model is the corner of the client's own
    width, logits of absent labels set to 0; the paper's "local" accuracy masks the widest model in this way, and so does dynamic=True here, where clients have
    no width of their own. The global model is the widest without a mask, as in the paper. (3) Fixed widths are the default; with dynamic=True every client
    draws a letter of `levels` in every round, each as likely. (4) A constant rate; the authors' code divides it by ten at two milestones.
    """

    lr: float = hyper(0.01, gt=0)
    epochs: int = hyper(5, ge=1)  # E
    batch: int = hyper(10, ge=1)  # B
    momentum: float = hyper(0.9, ge=0, lt=1)  # begins anew every round
    decay: float = hyper(5e-4, ge=0)  # weight decay
    clip: float = hyper(1.0, gt=0)  # largest norm of a gradient
    mask: bool = hyper(True)  # leave out the labels that a client has no rows of
    levels: str = hyper("abcde")  # widths: a = all, b = half, c = a quarter, d, e; clients take the letters in turn
    dynamic: bool = hyper(False)  # instead, every client draws one of the letters in every round

    def architectures(self, model: Model) -> tuple[Model, ...]:
        if not self.levels or not set(self.levels) <= set(LEVELS):
            raise AtollError(f"HeteroFL(levels={self.levels!r}): levels are letters from a (full width) to e (a sixteenth), as in abbe.")
        return (self._widest(model),) if self.dynamic else tuple(model.narrow(LEVELS[level]) for level in self.levels)

    def init(self, fed: Fed) -> Vector:
        full = self._widest(fed.models[0])
        return full.parameters(full.init(fed.key()))

    def round(self, W_g: Vector, fed: Fed) -> Vector:
        S = fed.sample()
        full, at = self._widest(fed.models[0]), self._drawn(fed, S).tolist()
        W_l = {i: Corner(corner(W_g, self._width(full, i)), jnp.zeros((i, 0))) for i in set(at)}  # W_l <- W_g[: r d_out, : r d_in]
        W, count = fed.ask(S, self.update, each=[W_l[i] for i in at], reduce=ElementMean(Place(full))).reply  # mean over those that hold an element
        return jax.tree.map(lambda new, n, old: jnp.where(n > 0, new, old), W, count, W_g)  # held by nobody: it keeps its value

    def update(self, m: Client, _: None, sent: Corner) -> Part:
        model, labels = self._width(m.model, len(sent.level)), self._labels(m)
        clip, decay = optax.clip_by_global_norm(self.clip), optax.add_decayed_weights(self.decay)
        sgd: Any = optax.chain(clip, decay, optax.sgd(self.lr, self.momentum))
        buffers = blank_buffers(model)

        def loss(W: Vector, rows: Batch) -> Array:
            out, _ = model.train(Vector({**W.tree, **buffers}), rows.x, rows.mask, rows.key)  # with scaler; static BN: statistics of the batch
            out = jnp.where(labels > 0, out, 0)  # masked cross-entropy
            return masked_mean(row_losses(m.model.task, out, rows.y), rows.mask)

        def one(carry: Any, rows: Batch) -> Any:
            W, velocity = carry
            u, velocity = sgd.update(jax.grad(loss)(W, rows), velocity, W)
            return W + u, velocity

        (W, _), _ = m.fold(one, (sent.W, sgd.init(sent.W)), batch=self.batch, epochs=self.epochs)
        return Part(W, labels)

    def personalize(self, m: Client, W_g: Vector) -> Part:
        return Part(with_own_statistics(m, m.model, corner(W_g, m.model)), self._labels(m))

    def global_model(self, m: Client, W_g: Vector) -> Vector:
        return with_own_statistics(m, self._widest(m.model), W_g)

    def predict(self, m: Client, w: Part | Vector, x: Array) -> Array:
        if isinstance(w, Part):
            return jnp.where(w.labels > 0, m.model.apply(w.W, x), 0)
        return self._widest(m.model).apply(w, x)

    def _drawn(self, fed: Fed, S: np.ndarray) -> np.ndarray:
        """[len(S)] which of the levels each client has in this round."""
        if not self.dynamic:
            return fed.architecture[S]
        return host_generator(fed.seed, "widths", fed.round).integers(len(self.levels), size=fed.n)[S]

    def _width(self, model: Model, i: int) -> Model:
        return model.narrow(LEVELS[self.levels[i]])

    def _widest(self, model: Model) -> Model:
        return model.narrow(LEVELS[min(self.levels)])

    def _labels(self, m: Client) -> Array:
        """[outputs] float32, 1 for labels that the client has train rows of; all 1 without the mask and for regression."""
        if not self.mask or m.model.task != "classification":
            return jnp.ones(m.outputs)
        counts = m.train.sum(lambda rows: jnp.zeros(m.outputs).at[rows.y].add(rows.mask))
        return (counts > 0).astype(jnp.float32)


@dataclass(frozen=True)
class Place:
    """Puts a reply into the full model: (values, held), zeros outside its corner. Of the head, a client holds its labels' outputs only."""

    full: Model

    def __call__(self, reply: Part) -> tuple[Vector, Vector]:
        def pad(part: Array, whole: Any) -> Array:
            return jnp.pad(part, [(0, n - mine) for n, mine in zip(whole.shape, part.shape, strict=True)])

        held, head = jax.tree.map(jnp.ones_like, reply.W.tree), self.full.blocks[-1]
        held[head] = jax.tree.map(lambda leaf: leaf * reply.labels, held[head])  # outputs are the last axis
        full = self.full.parameters(shapes(self.full))
        return jax.tree.map(pad, reply.W, full), jax.tree.map(pad, Vector(held), full)


def corner(W: Vector, model: Model) -> Vector:
    """The leading corner of every array, as large as in `model`: clients of one width always hold the same channels."""
    return jax.tree.map(lambda whole, part: whole[tuple(slice(n) for n in part.shape)], W, model.parameters(shapes(model)))
