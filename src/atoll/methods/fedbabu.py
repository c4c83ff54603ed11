"""FedBABU."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import sgd, sgd_part
from atoll.core.method import blocks, hyper, method


class Reply(NamedTuple):
    body: Vector  # the client's body after local training
    weight: Array  # n_k


@method
class FedBABU:
    """FedBABU: only the body of the model is trained and averaged, under one random head that never changes; clients fine-tune the head to predict.

    Where clients have different labels, their heads pull the body apart. A fixed head is a common goal for all bodies; so they fit together, and are
    a good base for heads that are learned at last.

    Oh, Kim, Yun, "FedBABU: Toward Enhanced Representation for Federated Image Classification", ICLR 2022.

    Kept: server the body; clients nothing: everyone draws the same head from the common key, and fine-tunes anew whenever it predicts.
    Traffic per round and client: the body down, the body and n_k up. To predict, every client needs the newest body once, which is not counted.
    Identity: the head is the first model's at every time; head=0 (nothing fixed) trains as FedAvg does, and a body of no blocks never moves, bit for bit.
    Departures from the paper: (1) No momentum and no weight decay. (2) Of a part that is held still the BatchNorm statistics stay, too, but it normalises
    by the batch while the other part trains. The paper fine-tunes the head, and compares that with all (what="all"). The defaults are ours: five epochs at the
    rate of training.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)  # tau
    batch: int = hyper(20, ge=0)  # also of fine-tuning; 0 = all rows of the client
    head: int | tuple[str, ...] = blocks(1)  # how many last blocks are fixed; or the names of blocks, anywhere in the model
    ft_epochs: int = hyper(5, ge=0, search=[1, 2, 5, 10])
    ft_lr: float = hyper(0.0, ge=0)  # 0 = as lr
    what: str = hyper("head", choices=("head", "all"))  # is fine-tuned

    def init(self, fed: Fed) -> Vector:
        return fed.model.split(fed.model.init(fed.key()), self.head)[0]

    def round(self, body: Vector, fed: Fed) -> Vector:
        C = fed.sample()
        up = fed.ask(C, self.update, body, reduce=mean)  # send the body to the clients
        return up.body  # body <- sum_k n_k / n body_k

    def update(self, k: Client, body: Vector) -> Reply:
        body = sgd_part(k, body, self._head(k), self.lr, epochs=self.epochs, batch=self.batch)  # SGD with rate 0 for the head
        return Reply(body, k.n.astype("float32"))

    def personalize(self, k: Client, body: Vector) -> Any:
        head = self._head(k)
        how: Any = {"epochs": self.ft_epochs, "batch": self.batch}
        if self.what == "all":
            return sgd(k, k.model.join(body, head), self.ft_lr or self.lr, **how)[0]
        return k.model.join(body, sgd_part(k, head, body, self.ft_lr or self.lr, **how))

    def global_model(self, k: Client, body: Vector) -> Any:
        return k.model.join(body, self._head(k))

    def _head(self, k: Client) -> Vector:
        return k.model.split(k.model.init(k.common_key), self.head)[1]
