"""Fair LG-FedAvg: local representations that do not tell a protected attribute."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import masked_mean, row_losses, step
from atoll.core.method import blocks, hyper, method
from atoll.core.model import Model
from atoll.core.rows import Batch
from atoll.models.zoo import mlp, size

WIDTHS = (32, 32, 32)  # of the adversary: four linear layers, as in the authors' code


class Own(NamedTuple):
    """What stays at a client."""

    l: Vector  # noqa: E741 - local layers; the paper's letter
    a: Vector  # adversary


class Reply(NamedTuple):
    g: Vector
    weight: Array  # 1: the mean is uniform


@method
class LGFair:
    """LG-FedAvg, in which each client's local layers also learn to hide a protected attribute (as sex) from an adversary that sees their output.

    The adversary a_i sees the representation H = l_i(x) and learns to tell the attribute z; the local layers learn the task and to make a_i fail. What is
    built on H, at the server too, then knows little of z. The model never sees z itself, the adversary finds it in what goes with it.

    Liang, Liu, Ziyin, Salakhutdinov, Morency, "Think Locally, Act Globally: Federated Learning with Local and Global Representations",
    NeurIPS workshop on federated learning, 2019 (arXiv 2001.01523), its experiment on fairness.

    Kept: server the global layers g; client its local layers l_i and adversary a_i.
    Traffic per round and client: LG-FedAvg's: g down, g and a weight up; the adversary and z stay at the client.
    Identity: lam=0 is LG-FedAvg on rows without z; a's gradient is that of its own loss alone, g's that of the task alone.
    Departures from the paper: (1) One attribute of two values; the authors' code has two, sex and race. (2) For each batch the adversary takes adversary_steps
    steps and then the model takes one; the authors pretrain both for ten epochs, then train the adversary for an epoch and the classifier on one batch in turn,
    with a weight of 30, dropout, Adam in the common layers. Their released code does not run, so that its figures can't be compared with. (3) Under the global
    layers there is no classifier of the client's own beside them. (4) A client that never joined predicts with the untrained first local layers. lam and the
    other defaults are ours.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)
    batch: int = hyper(20, ge=1)
    shared: int | tuple[str, ...] = blocks(1)  # how many last blocks are global; or the names of blocks that are last
    protected: int = hyper(-1)  # which value of a row is z, counted from 0, or from the end: -1, ...; z: is it above 0, as models get it?
    lam: float = hyper(1.0, ge=0, search=(0.1, 10.0, "log"))  # lambda, weight of hiding z
    adversary_lr: float = hyper(0.1, gt=0)
    adversary_steps: int = hyper(1, ge=1)  # of the adversary per batch

    label = "LG-FedAvg fair"

    def check_model(self, model: Model) -> None:
        values = size(model.input_shape)
        if not -values <= self.protected < values:
            raise AtollError(f"LGFair(protected={self.protected}): a row has {values} values, so it lies between {-values} and {values - 1}.")
        if model.task == "sequence":
            raise AtollError("LGFair needs rows of numbers, one of which is the protected attribute; rows of tokens have none.")
        top = model.personal_blocks(self.shared)
        if not top or top != model.blocks[-len(top) :] or top == model.blocks:
            raise AtollError(f"LGFair(shared={self.shared!r}): shared must be last blocks of model {model.name!r} ({', '.join(model.blocks)}), and not all.")
        model.check_cut(top[0])

    def init(self, fed: Fed) -> Vector:
        return fed.model.split(fed.model.init(fed.key()), self.shared)[1]  # g

    def join(self, i: Client, g: Vector) -> Own:
        l_i, _ = i.model.split(i.model.init(i.common_key), self.shared)
        H, _ = jax.eval_shape(lambda: self._below(i, l_i, jnp.zeros((1, *i.model.input_shape)), None, None))
        return Own(l_i, _adversary(size(H.shape[1:])).init(i.key))

    def round(self, g: Vector, fed: Fed) -> Vector:
        return fed.ask(fed.sample(), self.update, g, reduce=mean).g  # g <- 1/|S| sum_i g_i

    def update(self, i: Client, g: Vector) -> tuple[Reply, Own]:
        (w, a), _ = i.fold(lambda wa, rows: self._step(i, wa[0], wa[1], rows), (i.model.join(i.state.l, g), i.state.a), batch=self.batch, epochs=self.epochs)
        l_i, g_i = i.model.split(w, self.shared)
        return Reply(g_i, jnp.float32(1)), Own(l_i, a)  # g_i to the server; l_i and a_i stay

    def _step(self, i: Client, w: Vector, a: Vector, rows: Batch) -> tuple[Vector, Vector]:
        z, x = self._protected(rows.x), self.hidden(rows.x)

        def guess(a: Vector, H: Array) -> Array:  # BCE(a(H), z)
            H = H.reshape(len(H), -1)
            return masked_mean(optax.sigmoid_binary_cross_entropy(_adversary(H.shape[1]).apply(a, H)[:, 0], z), rows.mask)

        H, _ = self._below(i, w, x, rows.mask, rows.key)
        for _ in range(self.adversary_steps):
            a = a - self.adversary_lr * jax.grad(guess)(a, jax.lax.stop_gradient(H))  # min_a BCE(a(H), z)

        def loss(w: Vector) -> tuple[Array, Vector]:  # min_{l,g} CE(g(H), y) - lambda BCE(a(H), z)
            H, w = self._below(i, w, x, rows.mask, rows.key)
            out, w = i.model.above(w, H, self._cut(i.model), train=True, mask=rows.mask, key=rows.key)
            return masked_mean(row_losses(i.model.task, out, rows.y), rows.mask) - self.lam * guess(a, H), w

        direction, buffered = jax.grad(loss, has_aux=True)(w)
        return step(i, w, direction, buffered, self.lr), a

    def personalize(self, i: Client, g: Vector) -> Any:
        return i.model.join(i.state.l, g)

    def predict(self, i: Client, w: Vector, x: Array) -> Array:
        return i.model.apply(w, self.hidden(x))

    def hidden(self, x: Array) -> Array:
        """Rows x [batch, ...] without z: its place holds 0."""
        return x.reshape(len(x), -1).at[:, self.protected].set(0).reshape(x.shape)

    def _protected(self, x: Array) -> Array:
        return (x.reshape(len(x), -1)[:, self.protected] > 0).astype(jnp.float32)

    def _below(self, i: Client, w: Vector, x: Array, mask: Array | None, key: Array | None) -> tuple[Array, Vector]:
        return i.model.below(w, x, self._cut(i.model), train=mask is not None, mask=mask, key=key)

    def _cut(self, model: Model) -> str:
        return model.personal_blocks(self.shared)[0]


@functools.cache
def _adversary(d: int) -> Model:
    """d values of a representation -> one logit."""
    return mlp((d,), 1, "regression", hidden=WIDTHS)
