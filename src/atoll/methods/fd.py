"""FD."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.local import masked_mean, row_losses, step
from atoll.core.method import hyper, method
from atoll.core.model import Model
from atoll.core.rows import Batch


class Reply(NamedTuple):
    F: Array  # [L, L] mean output of the client's rows of each label; a row of zeros: it has none of that label


@method
class FD:
    """Federated distillation: clients tell each other what their models say, on average, about rows of each label, and learn from that.

    A device is a student, and all others together are its teacher: for a row of label y it learns the label, and the others' mean output for y. What is sent is
    one table of labels x labels, however large the models are, and they may all be different.

    Jeong, Oh, Kim, Park, Bennis, Kim, "Communication-Efficient On-Device Machine Learning: Federated Distillation and Augmentation under Non-IID Private Data",
    NeurIPS workshop 2018, arXiv 1811.11479. (Its other half, FAug, is a method of its own.)

    Kept: server the last table of each client; client its model, of any architecture.
    Traffic per round and client: 4 L^2 bytes down, 4 L^2 up, for L labels.
    Identity: gamma=0 is training alone; of two clients each has the other as its teacher; every row of a table sums to 1, or is 0; clients that are alike
    have a teacher that says what they say.
    Departures from the paper: (1) A label that a client has no rows of does not count in the mean over the others: it divides by those that have it, where the
    paper divides by M - 1. Where nobody else has it there is no teacher, and only the label is learnt. (2) Where not all clients are asked in every round, a
    teacher is made of the last table of each. (3) Outputs are added up as batches pass, so each is the one before the step on its batch. (4) The paper's gamma
    and rates are not known to us: the defaults are ours.
    """

    lr: float = hyper(0.05, gt=0)  # eta
    epochs: int = hyper(1, ge=1)
    batch: int = hyper(20, ge=1)
    gamma: float = hyper(1.0, ge=0, search=(0.01, 10.0, "log"))  # weight of the teacher

    many_architectures = True

    def check_model(self, model: Model) -> None:
        if model.task != "classification":
            raise AtollError(f"FD takes the mean output of each label, and model {model.name!r} is for {model.task}. Give it data with one label per row.")

    def init(self, fed: Fed) -> Array:
        return jnp.zeros((fed.n, fed.outputs, fed.outputs))  # nobody has said anything yet

    def share(self, F: Array) -> None:
        return None

    def join(self, i: Client, _: None) -> Vector:
        return i.model.init(i.common_key)

    def round(self, F: Array, fed: Fed) -> Array:
        S = fed.sample()
        up = fed.ask(S, self.update, each=leave_one_out(F, S))
        return F.at[up.ids].set(up.F)

    def update(self, i: Client, _: None, F_hat: Array) -> tuple[Reply, Vector]:
        def phi(w: Vector, rows: Batch) -> tuple[Array, tuple[Vector, Array]]:
            out, w = i.model.train(w, rows.x, rows.mask, rows.key)
            taught = optax.softmax_cross_entropy(out, F_hat[rows.y])  # 0 where there is no teacher
            loss = row_losses(i.model.task, out, rows.y) + self.gamma * taught  # phi(F, y) + gamma phi(F, F^_y)
            return masked_mean(loss, rows.mask), (w, jax.nn.softmax(out) * rows.mask[:, None])

        def one(carry: Any, rows: Batch) -> Any:
            w, F, cnt = carry
            g, (buffered, out) = jax.grad(phi, has_aux=True)(w, rows)
            w = step(i, w, g, buffered, self.lr)  # w <- w - eta g
            return w, F.at[rows.y].add(out), cnt.at[rows.y].add(rows.mask)  # F_y <- F_y + F(x), cnt_y <- cnt_y + 1

        L = i.outputs
        (w, F, cnt), _ = i.fold(one, (i.state, jnp.zeros((L, L)), jnp.zeros(L)), batch=self.batch, epochs=self.epochs)
        return Reply(F / jnp.maximum(cnt, 1)[:, None]), w  # F_l / cnt_l for each label l

    def personalize(self, i: Client, _: None) -> Any:
        return i.state


def leave_one_out(F: Array, S: Any) -> Array:
    """[|S|, L, L] for each client in S the mean of the others' tables F [n, L, L], label by label over those that have it; zeros where nobody has."""
    has = (F.sum(axis=2) > 0).astype(F.dtype)  # [n, L]: a mean of softmax outputs sums to 1
    total, count = F.sum(axis=0) - F[S], (has.sum(axis=0) - has[S])[:, :, None]
    return jnp.where(count > 0, total / jnp.maximum(count, 1), 0)
