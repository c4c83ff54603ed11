"""Split learning."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.federation import Fed, NobodyAnswered
from atoll.core.local import row_losses, step, stepped
from atoll.core.method import hyper, method
from atoll.core.model import Model


class Server(NamedTuple):
    """The server's state, and what predictions are made with."""

    c: Vector | None  # lower blocks as the last client handed them over; None where each client keeps its own
    s: Vector  # upper blocks


class Ask(NamedTuple):
    """What a client is sent for a batch, twice: before it is sent through the cut, and with what comes back."""

    t: Any  # int32, which batch of its turn
    rows: Array | None  # [rows of the batch, 0]: no bytes, its shape says how many are wanted
    da: Array | None  # [rows, ...] gradient of the loss in the activations


class Batch(NamedTuple):
    """What a client sends of a batch."""

    a: Array  # [rows, ...] activations at the cut, c(x)
    y: Array  # [rows, ...] labels


@method
class SplitLearning:
    """The model is cut: a client has its lower blocks and its rows, the server the upper blocks; for each batch they exchange activations and gradients.

    A comparison baseline. Clients take turns: the one whose turn it is sends what its lower blocks make of a batch, with the labels; the server takes a step of
    SGD and sends back the gradient at the cut, with which the client takes its own. Traffic grows with rows, not with the model, and nobody has all of it.

    Gupta, Raskar, "Distributed learning of deep neural network over multiple agents", J. Network and Computer Applications 2018, arXiv 1810.06060; Vepakomma,
    Gupta, Swedish, Raskar, "Split learning for health", arXiv 1812.00564, 2018.

    Kept: server upper blocks s and, with hand_off, the lower blocks c between turns; client lower blocks c_i.
    Traffic per round and client: for each of its rows and epochs the gradient at the cut down, activations and label up; two numbers per batch down.
    With hand_off the lower blocks once each way.
    Identity: with hand_off, SGD of the uncut model through the clients' batches in turn: one client is FedAvg of one client; without it, one client is the
    same, and of several each has its own lower blocks, which only its own rows move.
    Departures from the paper: (1) Lower blocks go from client to client through the server. With hand_off=False, as in a later library, they stay. (2) Labels
    are sent; the U-shaped variant that keeps them is not there. (3) A client works out its activations again when their gradient comes; they count
    once, and what the server computes does not. (4) To predict, a client is given s, which is not counted; in use, rows would cross the cut once more.
    (5) Who does not answer is passed over, and the next goes on from what was handed over last; a deadline holds for every message. No momentum; the
    defaults are ours.
    """

    lr: float = hyper(0.05, gt=0)  # eta
    epochs: int = hyper(1, ge=1)  # of a turn
    batch: int = hyper(20, ge=1)
    lower: int = hyper(1, ge=1)  # how many first blocks are below the cut
    hand_off: bool = hyper(True)  # clients pass the lower blocks on; False: each keeps its own

    label = "Split learning"

    def check_model(self, model: Model) -> None:
        model.check_cut(self._upper(model)[0])

    def init(self, fed: Fed) -> Server:
        c, s = fed.model.split(fed.model.init(fed.key()), self._upper(fed.model))
        return Server(c if self.hand_off else None, s)

    def welcome(self, v: Server) -> None:
        return None  # s does not leave the server, and c comes with a turn

    def join(self, i: Client, _: None) -> Vector:
        return i.model.split(i.model.init(i.common_key), self._upper(i.model))[0]  # c_i

    def round(self, v: Server, fed: Fed) -> Server:
        S, gone = np.sort(fed.sample()), 0
        for i in S:  # clients in a fixed cycle
            try:
                v = self._turn(v, fed, int(i))
            except NobodyAnswered:
                gone += 1
        if gone == len(S):
            raise NobodyAnswered
        return v

    def _turn(self, v: Server, fed: Fed, i: int) -> Server:
        if v.c is not None:
            fed.ask([i], self.take_over, v.c)  # the lower blocks of whose turn it was before
        for t, size in enumerate(self._sizes(int(fed.rows[i]))):
            up = fed.ask([i], self.update, Ask(np.int32(t), jnp.zeros((size, 0)), None))  # get a = c(x), y
            s, da = _learn(fed.model, self._upper(fed.model)[0], v.s, up.a[0], up.y[0], self.lr, jax.random.fold_in(fed.key(f"dropout {i}"), t))
            v = v._replace(s=s)
            fed.ask([i], self.update, Ask(np.int32(t), None, da))  # send dL/da
        return v if v.c is None else v._replace(c=jax.tree.map(lambda leaf: leaf[0], fed.ask([i], self.hand_over).reply))

    def take_over(self, i: Client, c: Vector) -> tuple[None, Vector]:
        return None, c

    def update(self, i: Client, m: Ask) -> tuple[Batch | None, Vector]:
        c = i.state
        if m.da is None:
            assert m.rows is not None
            rows = i.train.batch(m.t, self.batch, len(m.rows))
            return Batch(self._below(i, c, rows)[0], rows.y), c  # a = c(x)
        return None, i.repeat(lambda _, c: self._step(i, c, m.t, m.da), c, 1)[0]

    def hand_over(self, i: Client, _: None) -> tuple[Vector, Vector]:
        return i.state, i.state

    def personalize(self, i: Client, v: Server) -> Any:
        return i.model.join(i.state if v.c is None else v.c, v.s)

    def _step(self, i: Client, c: Vector, t: Array, da: Array | None) -> Vector:
        assert da is not None
        rows = i.train.batch(t, self.batch, len(da))
        _, pull, buffered = jax.vjp(lambda c: self._below(i, c, rows), c, has_aux=True)
        return step(i, c, pull(da)[0], buffered, self.lr)  # c <- c - eta (dc/dW)^T dL/da

    def _below(self, i: Client, c: Vector, rows: Any) -> tuple[Array, Vector]:
        return i.model.below(c, rows.x, self._upper(i.model)[0], train=True, mask=rows.mask, key=rows.key)

    def _sizes(self, n: int) -> list[int]:
        """Rows of each batch of a turn."""
        whole, rest = divmod(n, self.batch)
        return ([self.batch] * whole + [rest] * (rest > 0)) * self.epochs

    def _upper(self, model: Model) -> tuple[str, ...]:
        return model.above_first(self.lower, "SplitLearning")


@functools.partial(jax.jit, static_argnums=(0, 1))
def _learn(model: Model, cut: str, s: Vector, a: Array, y: Array, lr: float, key: Array) -> tuple[Vector, Array]:
    """The server's step on one batch: (s, dL/da), both at the s with which the batch came."""

    def loss(s: Vector, a: Array) -> tuple[Array, Vector]:
        out, buffered = model.above(s, a, cut, train=True, key=key)
        return row_losses(model.task, out, y).mean(), buffered  # L = CE(s(a), y)

    (ds, da), buffered = jax.grad(loss, argnums=(0, 1), has_aux=True)(s, a)
    return stepped(model, s, ds, buffered, lr), da  # s <- s - eta dL/ds
