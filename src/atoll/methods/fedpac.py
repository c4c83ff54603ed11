"""FedPAC."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.adaptation import feature_size
from atoll.core.client import Client
from atoll.core.cloud import mix
from atoll.core.federation import Fed
from atoll.core.local import masked_mean, row_losses, sgd_part
from atoll.core.method import hyper, method
from atoll.core.model import Model
from atoll.core.prototypes import Prototypes, check_features, distance, prototypes
from atoll.core.rows import Batch
from atoll.core.simplex import least


class Server(NamedTuple):
    phi: Vector  # feature extractor
    common: Prototypes  # c^k, mean feature of each label


class Reply(NamedTuple):
    phi: Vector  # phi_i after local training
    head: Vector  # of the client after local training
    own: Prototypes  # c_i^k under phi_i, and n_i,k
    mu: Array  # [L, d] share of each label times its mean feature, under the phi that was sent
    V: Array  # float32, variance of mu's estimate


@method
class FedPAC:
    """FedPAC: clients learn one feature extractor with features of equal labels held together, and combine their heads, each as is best for itself.

    A client whose features and labels are like another's can use the other's head. How much of each head to take is a small problem that the server solves for
    every client: few rows make the own head uncertain (variance), unlike clients make the others' wrong (bias).

    Xu, Tong, Huang, "Personalized Federated Learning with Feature Alignment and Classifier Collaboration", ICLR 2023.

    Kept: server phi and the common prototypes; client its head.
    Traffic per round and client: phi, L prototypes and counts down, then its mixed head; phi_i, its head, as many prototypes and counts, L x d statistics and
    their variance up.
    Identity: alike clients with equal variances take the mean of all heads; without variance a client unlike all others keeps its own; lam=0 with heads that
    are not combined trains as FedRep does with weights n_i. a_i is compared with another solver's.
    Departures from the paper: (1) No momentum and no weight decay; the authors' code has 0.5 and 0.0005. (2) A label without a common prototype is not aligned;
    in their code it is drawn to the client's own. (3) Small weights stay; theirs below 0.001 are set to 0. (4) The problem is solved for any statistics; their
    code drops eigenvalues below 0.01, or leaves a client its own head. (5) A client that has never been asked has the first head. head_lr, head_epochs and lam
    are the authors'; lr, epochs and batch are FedAvg's here.
    """

    lr: float = hyper(0.05, gt=0)  # eta_f, of phi
    epochs: int = hyper(1, ge=1)  # of phi
    batch: int = hyper(20, ge=0)  # 0 = all rows of the client
    head_lr: float = hyper(0.1, gt=0, search=(0.01, 1.0, "log"))  # eta_g
    head_epochs: int = hyper(1, ge=0)
    lam: float = hyper(1.0, ge=0, search=(0.1, 10.0, "log"))  # lambda, of the alignment
    combine: bool = hyper(True)  # heads; False: each client keeps its own

    def check_model(self, model: Model) -> None:
        check_features(self, model)

    def init(self, fed: Fed) -> Server:
        w = fed.model.init(fed.key())
        return Server(fed.model.split(w, 1)[0], Prototypes.none(fed.outputs, feature_size(fed.model, w)))

    def join(self, i: Client, s: Server) -> Vector:
        return i.model.split(i.model.init(i.common_key), 1)[1]

    def round(self, s: Server, fed: Fed) -> Server:
        S = fed.sample()
        up = fed.ask(S, self.update, s)  # send phi and c^k
        n = up.own.n.sum(axis=1)
        phi = mix(n / n.sum(), up.phi)  # phi <- sum_i n_i / n phi_i
        n_k = up.own.n.sum(axis=0)
        c = jnp.einsum("il,ild->ld", up.own.n, up.own.C) / jnp.maximum(n_k, 1)[:, None]  # c^k <- sum_i n_i,k / n_k c_i^k
        if self.combine:
            a = jnp.asarray(weights(np.asarray(up.mu, np.float64), np.asarray(up.V, np.float64)), jnp.float32)
            fed.ask(up.ids, self.take, each=mix(a, up.head))  # head_i <- sum_j a_ij head_j
        return Server(phi, s.common.renewed(Prototypes(c, n_k)))

    def update(self, i: Client, s: Server) -> tuple[Reply, Vector]:
        mu, V = statistics(i, s.phi)
        head = sgd_part(i, i.state, s.phi, self.head_lr, epochs=self.head_epochs, batch=self.batch, key=i.key_for(1))  # head first, phi fixed

        def aligned(i: Client, w: Vector, rows: Batch) -> tuple[Array, Vector]:
            z, buffered = i.model.train_features(w, rows.x, rows.mask, rows.key)
            losses = row_losses(i.model.task, i.model.head(w, z), rows.y) + self.lam * distance(z, rows.y, s.common)
            return masked_mean(losses, rows.mask), buffered

        phi = sgd_part(i, s.phi, head, self.lr, epochs=self.epochs, batch=self.batch, loss=aligned)  # then phi, head fixed
        return Reply(phi, head, prototypes(i, phi), mu, V), head

    def take(self, i: Client, _: None, head: Vector) -> tuple[None, Vector]:
        return None, head

    def personalize(self, i: Client, s: Server) -> Any:
        return i.model.join(s.phi, i.state)


def statistics(i: Client, phi: Vector) -> tuple[Array, Array]:
    """(mu [L, d], V): of the vectors 1{y = k} phi(x) the mean over the client's rows, and the variance of that mean summed over k and d:
    V = (sum_k p_k E||phi(x)||^2 - p_k^2 ||E phi(x)||^2) / n, expectations over rows of label k."""
    p = prototypes(i, phi)
    mu = (p.n / i.n)[:, None] * p.C
    square = i.mean(lambda rows: masked_mean(jnp.square(i.model.features(phi, rows.x)).sum(axis=-1), rows.mask))
    return mu, (square - jnp.square(mu).sum()) / i.n


def weights(mu: np.ndarray, V: np.ndarray) -> np.ndarray:
    """[m, m] row i = argmin over the simplex of sum_j a_j^2 V_j + ||sum_j a_j (mu_i - mu_j)||^2: variance and bias of the mixture for client i."""
    m = len(V)
    apart = (mu[:, None] - mu).reshape(m, m, -1)
    return np.stack([least(np.diag(np.maximum(V, 0)) + b @ b.T) for b in apart])
