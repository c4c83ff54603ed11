"""FedHome."""

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
from atoll.core.smote import encoded, smote
from atoll.models.decoder import decoder

D = "(decoder)"  # a block beside the model's; no block of a model can be named so


class Reply(NamedTuple):
    w: Vector  # the client's model after local training, with its decoder
    weight: Array  # n_k


@method
class FedHome:
    """All learn a common autoencoder that classifies too; each client then trains the last layer on its rows' codes, evened out by new codes between them.

    Codes (the features, which the last layer classifies) from which rows can be made again keep what rows are like. A point between two codes of one label
    is the code of a likely row of that label, where the mean of two rows may be none: so SMOTE fills up a client's scarce labels among the codes.

    Wu, Chen, Zhou, Zhang, "FedHome: Cloud-Edge Based Personalized Federated Learning for In-Home Health Monitoring", IEEE TMC 21(8), 2022, arXiv 2012.07450.

    Kept: server w: encoder e, decoder d, classifier h; clients nothing: they refine h anew whenever they predict.
    Traffic per round and client: w down, w and n_k up, each with the decoder. To predict, every client needs the newest e and h once, which is not counted.
    Identity: with mu=0 e and h are FedAvg's; ft_epochs=0 predicts with the common model; refining leaves e as it is; new codes lie between codes of one label,
    and labels are even with them.
    Departures from the paper: (1) The encoder is the model below its last block, and h is that block; the paper has one network, for its windows of motion
    sensors. The decoder is a small one of convolutions for images, of dense layers for vectors. (2) The squared error of d(e(x)) is a mean over the values of
    a row, not a sum, so that mu means the same for rows of any size. (3) A label of which a client has one row is not filled up: there is nothing to draw
    between. (4) Refining trains h alone, on codes as the common model predicts. (5) The defaults are ours, but for SMOTE's five neighbours.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)  # E
    batch: int = hyper(20, ge=0)  # B, also of refining; 0 = all rows
    mu: float = hyper(1.0, ge=0, search=(0.01, 10.0, "log"))  # weight of the reconstruction
    ft_epochs: int = hyper(5, ge=0)  # of refining
    ft_lr: float = hyper(0.0, ge=0)  # 0 = as lr
    neighbours: int = hyper(5, ge=1)

    def check_model(self, model: Model) -> None:
        if model.task != "classification" or len(model.blocks) < 2:
            raise AtollError(
                f"FedHome evens out labels among the codes that hidden layers make of rows; model {model.name!r} for {model.task} has no codes or no labels. "
                "Take one with a hidden layer (mlp) for classification."
            )
        _ = _decoder(model)  # refused here where there is none

    def init(self, fed: Fed) -> Vector:
        w, d = fed.model.init(fed.key()), _decoder(fed.model).init(fed.key("decoder"))
        return Vector({**w.tree, D: d.tree})

    def share(self, w: Vector) -> Vector:
        return _without_decoder(w)

    def round(self, w: Vector, fed: Fed) -> Vector:
        S = fed.sample()
        up = fed.ask(S, self.update, w, reduce=mean)
        return up.w  # w <- sum_k n_k / n w_k

    def update(self, k: Client, w: Vector) -> Reply:
        w, _ = sgd(k, w, self.lr, epochs=self.epochs, batch=self.batch, loss=self._loss)
        return Reply(w, k.n.astype("float32"))

    def _loss(self, k: Client, w: Vector, rows: Batch) -> tuple[Array, Vector]:
        if rows.x.dtype == jnp.int32:
            raise AtollError("FedHome learns to make rows again from their codes, as numbers, and these are tokens.")
        z, buffered = k.model.train_features(_without_decoder(w), rows.x, rows.mask, rows.key)  # z <- e(x)
        loss = row_losses(k.model.task, k.model.head(_without_decoder(w), z), rows.y)  # CE(h(z), y)
        again = _decoder(k.model).apply(Vector(w.tree[D]), z).reshape(rows.x.shape)  # d(z)
        error = jnp.square(again - rows.x).reshape(len(z), -1).mean(axis=1)
        return masked_mean(loss + self.mu * error, rows.mask), buffered  # E CE(h(e(x)), y) + mu ||d(e(x)) - x||^2

    def personalize(self, k: Client, w: Vector) -> Any:
        e, h = k.model.split(w, 1)
        codes = encoded(k, lambda rows: k.model.features(e, rows.x))  # Z <- e(D_k)
        even = smote(codes, k.key_for(0), self.neighbours)  # Z', y' <- SMOTE(Z, y)

        def loss(k: Client, h: Vector, rows: Batch) -> tuple[Array, Vector]:
            return masked_mean(row_losses(k.model.task, k.model.head(h, rows.x), rows.y), rows.mask), h

        h, _ = sgd(even, h, self.ft_lr or self.lr, epochs=self.ft_epochs, batch=self.batch, loss=loss)  # h_k <- min CE(h(z'), y')
        return k.model.join(e, h)  # h_k(e(x))

    def global_model(self, k: Client, w: Vector) -> Any:
        return w


def _decoder(model: Model) -> Model:
    w, x = jax.eval_shape(model.init, jax.random.key(0)), jax.ShapeDtypeStruct((1, *model.input_shape), jnp.float32)
    try:
        z: Any = jax.eval_shape(model.features, w, x)
    except (TypeError, ValueError):
        raise AtollError(f"FedHome learns to make rows of numbers again from their codes, and model {model.name!r} takes none.") from None
    if z.ndim != 2:
        raise AtollError(f"FedHome draws between codes that are vectors; those of model {model.name!r}, the input of its last block, have shape {z.shape[1:]}.")
    return decoder(z.shape[1], model.input_shape)


def _without_decoder(w: Vector) -> Vector:
    return Vector({block: part for block, part in w.tree.items() if block != D})
