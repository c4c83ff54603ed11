"""FedRoD."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.balance import label_counts
from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import masked_mean, row_losses, step
from atoll.core.method import hyper, method
from atoll.core.model import Model
from atoll.core.norm import shapes
from atoll.core.rows import Batch


class Pair(NamedTuple):
    """What a client predicts with."""

    w: Vector  # body f and generic head g
    h: Vector  # personal head h_i


class Reply(NamedTuple):
    w: Vector  # f and g after local training
    weight: Array  # n_i


@method
class FedRoD:
    """FedRoD: one body with two heads. The generic one is trained as if every client had all labels alike; the personal one adds what the own mix says.

    Balanced softmax takes a client's label counts into its loss, so that the common model f, g learns what labels look like and not how frequent they are
    here. The personal head learns the rest on the same features, and its loss never reaches f and g.

    Chen, Chao, "On Bridging Generic and Personalized Federated Learning for Image Classification", ICLR 2022.

    Kept: server f, g; client h_i (as large as the last block).
    Traffic per round and client: f, g down, f, g and n_i up: FedAvg's.
    Identity: f, g do not depend on personal heads; with equal label counts they are FedAvg's; h_i = 0 predicts with the common model; the gradient of balanced
    softmax in the logits is softmax(logits + gamma log n) - onehot(y).
    Departures from the paper: (1) Personal heads are linear and trained, not made by a hypernetwork of the label counts. (2) They begin at 0, so that who has
    not trained predicts with the common model. (3) A client predicts with the newest f and g below its own head. (4) Labels that a client has no rows of drop
    out of its balanced softmax; log 0 leaves no other choice. The authors published no code. The defaults are FedAvg's here, and gamma = 1.
    """

    lr: float = hyper(0.05, gt=0)  # eta, of all three
    epochs: int = hyper(1, ge=1)
    batch: int = hyper(20, ge=1)
    gamma: float = hyper(1.0, gt=0)  # how much label counts weigh in the balanced softmax

    label = "FedRoD"

    def check_model(self, model: Model) -> None:
        if model.task != "classification":
            raise AtollError(f"FedRoD counts labels, and model {model.name!r} is for {model.task}. It works for classification only.")
        matrices = [leaf for leaf in jax.tree.leaves(model.split(shapes(model), 1)[1]) if leaf.ndim > 1]
        if len(matrices) != 1:
            raise AtollError(f"FedRoD adds a personal head to the last block of model {model.name!r}, which must be one linear layer.")

    def init(self, fed: Fed) -> Vector:
        return fed.model.init(fed.key())

    def join(self, i: Client, w: Vector) -> Vector:
        return 0.0 * i.model.split(w, 1)[1]  # h_i

    def round(self, w: Vector, fed: Fed) -> Vector:
        S = fed.sample()
        up = fed.ask(S, self.update, w, reduce=mean)  # send f and g
        return up.w  # f, g <- sum_i n_i / n (f_i, g_i)

    def update(self, i: Client, w: Vector) -> tuple[Reply, Vector]:
        n = label_counts(i)

        def one(carry: tuple[Vector, Vector], D: Batch) -> tuple[Vector, Vector]:
            w, h = carry

            def generic(w: Vector) -> tuple[Array, Any]:
                z, buffered = i.model.train_features(w, D.x, D.mask, D.key)  # z <- f(x)
                out = i.model.head(w, z)  # g(z)
                return _loss(i, balanced(out, n, self.gamma), D), (z, out, buffered)

            g_w, (z, out, buffered) = jax.grad(generic, has_aux=True)(w)
            g_h = jax.grad(lambda h: _loss(i, out + i.model.head(h, z), D))(h)  # of the loss of g(z) + h_i(z), with z and g(z) as they are
            return step(i, w, g_w, buffered, self.lr), h - self.lr * g_h

        (w, h), _ = i.fold(one, (w, i.state), batch=self.batch, epochs=self.epochs)
        return Reply(w, i.n.astype("float32")), h

    def personalize(self, i: Client, w: Vector) -> Any:
        return Pair(w, i.state)

    def global_model(self, i: Client, w: Vector) -> Any:
        return w

    def predict(self, i: Client, w: Pair | Vector, x: Array) -> Array:
        if isinstance(w, Vector):
            return i.model.apply(w, x)
        z = i.model.features(w.w, x)
        return i.model.head(w.w, z) + i.model.head(w.h, z)


def _loss(i: Client, out: Array, D: Batch) -> Array:
    return masked_mean(row_losses(i.model.task, out, D.y), D.mask)


def balanced(out: Array, n: Array, gamma: float) -> Array:
    """Logits [batch, L] whose cross-entropy is balanced softmax: out + gamma log n_c, and -inf for labels without rows (n_c = 0)."""
    return out + jnp.where(n > 0, gamma * jnp.log(jnp.maximum(n, 1).astype(jnp.float32)), -jnp.inf)
