"""FedBN."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import sgd
from atoll.core.method import hyper, method
from atoll.core.model import BUFFERS, Model
from atoll.core.norm import join_norm, shapes, split_norm, with_own_statistics


class Reply(NamedTuple):
    w: Vector  # the client's layers after local training, without BatchNorm
    weight: Array  # n_k


@method
class FedBN:
    """FedBN: FedAvg that leaves the BatchNorm layers at the clients, so that each normalises by what its own rows are like.

    Where clients see the same things differently (other scanners, pens, cameras), the shift and scale between them is what these layers take out. Averaged
    over clients they would fit none.

    Li, Jiang, Zhang, Kamp, Dou, "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization", ICLR 2021.

    Kept: server all layers but BatchNorm; client its BatchNorm layers: scale, shift and running statistics.
    Traffic per round and client: the model without BatchNorm layers down, the same and n_k up.
    Identity: on a model without BatchNorm it is FedAvg, bit for bit, and such a model is refused; no message carries a BatchNorm parameter or statistic.
    Departures from the paper: (1) A client begins with scale 1, shift 0 and the statistics of its own train rows under the model it is sent; the authors' code
    begins at mean 0 and variance 1. So a client that was never asked has usable layers, too. (2) Layers are known by their running statistics, wherever they
    are in a block, not by the text "bn" in their names. (3) Work is counted in epochs; the authors' code takes one step per round. The defaults are
    FedAvg's here.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)  # E
    batch: int = hyper(20, ge=0)  # 0 = all rows of the client

    def check_model(self, model: Model) -> None:
        if BUFFERS not in shapes(model).tree:
            raise AtollError(
                f"FedBN on model {model.name!r} would be FedAvg: it has no BatchNorm layers. Take a model with some (mlp:200,norm=batch, resnet:norm=batch)."
            )

    def init(self, fed: Fed) -> Vector:
        return split_norm(fed.model.init(fed.key()))[0]

    def join(self, k: Client, w: Vector) -> Vector:
        whole = join_norm(w, split_norm(k.model.init(k.common_key))[1])
        return split_norm(with_own_statistics(k, k.model, whole))[1]

    def round(self, w: Vector, fed: Fed) -> Vector:
        S = fed.sample()
        up = fed.ask(S, self.update, w, reduce=mean)
        return up.w  # for each layer l that is not BatchNorm: w^(l) <- sum_k n_k / n w_k^(l)

    def update(self, k: Client, w: Vector) -> tuple[Reply, Vector]:
        whole, _ = sgd(k, join_norm(w, k.state), self.lr, epochs=self.epochs, batch=self.batch)  # w_k <- SGD on all layers
        w, norm = split_norm(whole)
        return Reply(w, k.n.astype("float32")), norm  # BatchNorm stays

    def personalize(self, k: Client, w: Vector) -> Any:
        return join_norm(w, k.state)
