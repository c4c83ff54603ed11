"""FedProto."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.adaptation import feature_size
from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.local import masked_mean, row_losses, sgd
from atoll.core.method import hyper, method
from atoll.core.model import Model
from atoll.core.norm import shapes
from atoll.core.prototypes import Prototypes, check_features, distance, pooled, prototypes
from atoll.core.rows import Batch


class Predictor(NamedTuple):
    """What a client predicts with."""

    w: Vector  # its model
    common: Prototypes


@method
class FedProto:
    """FedProto: clients share no weights, only what each label looks like to them: the mean feature of its rows, its prototype.

    Each has a model of its own, of any architecture whose features have the same size. The server averages prototypes; while a client trains, its features are
    drawn to the common prototype of their label.

    Tan, Long, Liu, Zhou, Lu, Jiang, Zhang, "FedProto: Federated Prototype Learning across Heterogeneous Clients", AAAI 2022.

    Kept: server the prototypes C^(j) of all labels; client its model w_i.
    Traffic per round and client: L prototypes of d numbers and L counts, each way; whatever the model's size.
    Identity: lam=0 trains as Local does, bit for bit; the common prototypes are the mean features of all rows of the round's clients, each under its own model;
    one that nobody has rows of keeps its value.
    Departures from the paper: (1) Every row's feature is drawn to its prototype, in the mean over d and over rows, as in the authors' code; the paper draws the
    client's own prototype. (2) Prototypes are taken after local training, with the model as it then is; the authors' code collects them from the moving model
    of the last epoch. (3) C^(j) is weighted by rows, as in the paper; in their code clients count equally. (4) No momentum; theirs is 0.5. (5) Labels without
    a prototype are never predicted by the nearest one; while there is none at all, clients predict with their heads. lam is the authors' for MNIST (0.1 for
    CIFAR-10); lr, epochs and batch are ours.
    """

    lr: float = hyper(0.05, gt=0)  # eta
    epochs: int = hyper(1, ge=1)  # E
    batch: int = hyper(10, ge=0)  # 0 = all rows of the client
    lam: float = hyper(1.0, ge=0, search=(0.01, 10.0, "log"))  # lambda
    inference: str = hyper("prototype", choices=("prototype", "head"))  # by the nearest prototype, as in the paper, or by the model's last block

    many_architectures = True

    def check_model(self, model: Model) -> None:
        check_features(self, model)

    def init(self, fed: Fed) -> Prototypes:
        sizes = {feature_size(model, shapes(model)) for model in fed.models}
        if len(sizes) > 1:
            raise AtollError(
                f"FedProto averages features, and those of the models have different sizes ({', '.join(map(str, sorted(sizes)))}). "
                "Take models whose last block has an input of the same size, such as mlp:200,64 and mlp:64."
            )
        return Prototypes.none(fed.outputs, sizes.pop())

    def join(self, i: Client, _: Prototypes) -> Vector:
        return i.model.init(i.common_key)  # w_i

    def round(self, C: Prototypes, fed: Fed) -> Prototypes:
        S = fed.sample()
        up = fed.ask(S, self.update, C, reduce=pooled)  # send C^(j) to the clients
        return C.renewed(up.reply)  # C^(j) <- sum_i |D_i,j| / N_j C_i^(j)

    def update(self, i: Client, C: Prototypes) -> tuple[Prototypes, Vector]:

        def loss(i: Client, w: Vector, rows: Batch) -> tuple[Array, Vector]:
            z, buffered = i.model.train_features(w, rows.x, rows.mask, rows.key)
            L_S = row_losses(i.model.task, i.model.head(w, z), rows.y)
            return masked_mean(L_S + self.lam * distance(z, rows.y, C), rows.mask), buffered  # L <- L_S + lambda L_R

        w, _ = sgd(i, i.state, self.lr, epochs=self.epochs, batch=self.batch, loss=loss)
        return prototypes(i, w), w  # C_i^(j) <- mean of f_i(x) over D_i,j

    def personalize(self, i: Client, C: Prototypes) -> Any:
        return Predictor(i.state, C)

    def predict(self, i: Client, w: Predictor, x: Array) -> Array:
        z = i.model.features(w.w, x)
        by_head = i.model.head(w.w, z)
        if self.inference == "head":
            return by_head
        known = w.common.n > 0
        near = -jnp.square(z[:, None] - w.common.C).sum(axis=-1)  # argmin_j ||f(x) - C^(j)||
        worst = jnp.where(known, near, jnp.inf).min(axis=-1, keepdims=True)
        return jnp.where(known.any(), jnp.where(known, near, worst - 1), by_head)
