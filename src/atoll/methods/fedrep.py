"""FedRep."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import sgd_part
from atoll.core.method import blocks, hyper, method


class Reply(NamedTuple):
    phi: Vector  # phi_i, the client's copy of the representation after local training
    weight: Array  # 1: the paper averages clients uniformly


@method
class FedRep:
    """FedRep: clients learn one representation together, and each puts a head of its own on it, which it fits anew before it touches the representation.

    As in FedPer the last layers never leave the client. Here a client first trains its head for many epochs on the representation as it is, then the
    representation under the head it found. So the representation is moved by what good heads are missing, not by heads that are behind.

    Collins, Hassani, Mokhtari, Shakkottai, "Exploiting Shared Representations for Personalized Federated Learning", ICML 2021.

    Kept: server phi; client its head h_i.
    Traffic per round and client: phi down, phi_i and a weight up; BatchNorm statistics go with their layer.
    Identity: head_epochs=0 never moves a head and is FedBABU's training where clients are equally large; with everything personal it is Local. In the paper's
    linear model y = x' B w_i the distance of the learned subspace from that of B falls geometrically.
    Departures from the paper: (1) No momentum and no weight decay; the authors' code has 0.5 and 0.0001. (2) One block is personal by default, the head; which
    layers are depends on the data in their code. (3) Every client begins with the same head, drawn from the common key. (4) A client fits its head to the
    newest phi for `last` epochs whenever it predicts, also one that was never asked; the authors' code does so once, for all clients in the end. (5) While
    one part trains, the other's BatchNorm statistics stay, but both normalise by the batch. Clients count equally, as in the paper; the authors' code weighs
    them by rows on some data. The epochs are the authors' for CIFAR-10; lr and batch are ours.
    """

    lr: float = hyper(0.05, gt=0)  # alpha
    head_epochs: int = hyper(10, ge=0, search=[1, 5, 10])  # tau_h
    epochs: int = hyper(1, ge=0)  # tau_phi, of the representation
    batch: int = hyper(10, ge=0)  # 0 = all rows of the client
    personal: int | tuple[str, ...] = blocks(1)  # how many last blocks are the head; or the names of blocks, anywhere in the model
    last: int = hyper(10, ge=0)  # epochs of the head before it predicts

    def init(self, fed: Fed) -> Vector:
        return fed.model.split(fed.model.init(fed.key()), self.personal)[0]  # phi

    def join(self, i: Client, phi: Vector) -> Vector:
        return i.model.split(i.model.init(i.common_key), self.personal)[1]  # h_i

    def round(self, phi: Vector, fed: Fed) -> Vector:
        I = fed.sample()  # noqa: E741 - server receives a batch of clients I_t, sends phi
        up = fed.ask(I, self.update, phi, reduce=mean)
        return up.phi  # phi <- 1 / |I_t| sum_i phi_i

    def update(self, i: Client, phi: Vector) -> tuple[Reply, Vector]:
        h = self._head(i, phi, self.head_epochs)  # tau_h times: h_i <- GRD(f_i(h_i, phi), h_i, alpha)
        phi = sgd_part(i, phi, h, self.lr, epochs=self.epochs, batch=self.batch, key=i.key_for(1))  # phi_i <- GRD(f_i(h_i, phi_i), phi_i, alpha)
        return Reply(phi, jnp.float32(1)), h

    def personalize(self, i: Client, phi: Vector) -> Any:
        return i.model.join(phi, self._head(i, phi, self.last))

    def _head(self, i: Client, phi: Vector, epochs: int) -> Vector:
        return sgd_part(i, i.state, phi, self.lr, epochs=epochs, batch=self.batch)
