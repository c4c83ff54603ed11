"""FedPer."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import sgd
from atoll.core.method import blocks, hyper, method


class Reply(NamedTuple):
    W_B: Vector  # the client's base layers after local training
    weight: Array  # n_k


@method
class FedPer:
    """FedPer: the last layers of the model are each client's own and never leave it; the base below them is averaged as in FedAvg.

    Arivazhagan, Aggarwal, Singh, Choudhary, "Federated Learning with Personalization Layers", arXiv 1912.00818, 2019.

    Kept: server base W_B; client its personal layers W_P. A client that has never trained predicts with the common base under the first, untrained
    personal layers.
    Traffic per round and client: W_B down, W_B and n_k up; BatchNorm statistics go with their layer.
    Identity: personal=0 is FedAvg and everything personal is Local, bit for bit; one full-batch round moves W_B by the gradients weighted by n_k / n
    and W_P by the client's own gradient, unweighted.
    Departures from the paper: (1) One block is personal by default, the head; the paper takes 1 to 4, of ResNet-34 and MobileNet. As there, a residual
    pair with its norms and its shortcut counts as one block: personal=2 on model resnet is the head and the last pair. (2) Every client begins with the
    same personal layers, drawn from the common key; the paper leaves open whether each draws its own. The defaults lr, epochs and batch are ours.
    """

    lr: float = hyper(0.05, gt=0)  # eta
    epochs: int = hyper(1, ge=1)  # e
    batch: int = hyper(20, ge=0)  # b; 0 = all rows of the client
    personal: int | tuple[str, ...] = blocks(1)  # K_P, how many last blocks are personal; or the names of blocks, anywhere in the model

    def init(self, fed: Fed) -> Vector:
        W_B, _ = fed.model.split(fed.model.init(fed.key()), self.personal)
        return W_B

    def join(self, j: Client, W_B: Vector) -> Vector:
        _, W_P = j.model.split(j.model.init(j.common_key), self.personal)
        return W_P

    def round(self, W_B: Vector, fed: Fed) -> Vector:
        S = fed.sample()
        up = fed.ask(S, self.update, W_B, reduce=mean)  # send W_B to the clients
        return up.W_B  # W_B <- sum_j n_j / n W_B,j

    def update(self, j: Client, W_B: Vector) -> tuple[Reply, Vector]:
        w = j.model.join(W_B, j.state)  # merge W_B and W_Pj
        w, _ = sgd(j, w, self.lr, epochs=self.epochs, batch=self.batch)  # (W_B,j, W_Pj) <- SGD_j: all layers in the same backward pass
        W_B, W_P = j.model.split(w, self.personal)
        return Reply(W_B, j.n.astype("float32")), W_P  # W_B,j to the server, W_Pj stays

    def personalize(self, j: Client, W_B: Vector) -> Any:
        return j.model.join(W_B, j.state)
