"""HeurFedAMP."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.cloud import Cloud, cosines, first_models, mix, pairs, received
from atoll.core.federation import Fed
from atoll.core.fold import stack
from atoll.core.local import data_loss, sgd, with_proximal
from atoll.core.method import hyper, method


class Reply(NamedTuple):
    w: Vector  # w_i after local training


@method
class HeurFedAMP:
    """HeurFedAMP: FedAMP for deep networks, where the angle between two models says better than their distance how alike clients are.

    Huang, Chu, Zhou, Wang, Liu, Pei, Zhang, "Personalized Cross-Silo Federated Learning on Non-IID Data", AAAI 2021.

    Kept: server the last model of every client (n models: meant for up to some hundred clients); client its model w_i.
    Traffic per round and client: its own u_i down, w_i up; no secure aggregation, for the server must see single models.
    Identity: with sigma=0 and own=0 every u_i is the plain mean of all models, and the clients do FedProx towards it.
    Departures from the paper: (1) The own weight xi_ii is a fixed number; the paper sets it by how many clients are alike, which is not known.
    (2) The client takes epochs of SGD from u_i, not the exact minimiser; the paper leaves the start open. (3) lam is lambda / alpha_k in one number,
    for nothing else depends on alpha_k here, and constant. (4) Clients that are not asked stay in the mixture with the model they sent last; one
    that has sent none is in nobody's mixture and begins with the common first model. (5) BatchNorm statistics are mixed like parameters but
    count neither in the cosine nor in the pull. The defaults are ours: networks that began alike have cosines that differ in the third digit, so that
    sigma must be large to tell clients apart.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)
    batch: int = hyper(20, ge=0)  # 0 = all rows of the client
    lam: float = hyper(0.1, ge=0)  # lambda / alpha_k
    sigma: float = hyper(1000.0, ge=0, search=(1.0, 1000.0, "log"))  # how much the cosine counts
    own: float = hyper(0.3, ge=0, le=1, search=(0.1, 0.9))  # xi_ii, a client's weight of its own model; 0 = 1 / m

    def init(self, fed: Fed) -> Cloud:
        return first_models(fed)

    def share(self, s: Cloud) -> None:
        return None  # nobody sees the others' models

    def join(self, i: Client, _: None) -> Vector:
        return i.model.init(i.common_key)  # w_i

    def round(self, s: Cloud, fed: Fed) -> Cloud:
        S = fed.sample()
        xi = cosine_attention(cosines(fed.model.parameters(s.W)), s.known, self.own, self.sigma)
        up = fed.ask(S, self.update, each=mix(xi[S], s.W), reduce=stack)  # send u_i = sum_j xi_ij w_j to client i
        return received(s, up.ids, up.w)

    def update(self, i: Client, _: None, u: Vector) -> tuple[Reply, Vector]:
        # w_i <- argmin F_i(w) + lambda / (2 alpha_k) ||w - u_i||^2
        w, _steps = sgd(i, u, self.lr, epochs=self.epochs, batch=self.batch, loss=with_proximal(data_loss, self.lam, u))
        return Reply(w), w

    def personalize(self, i: Client, _: None) -> Any:
        return i.state


def cosine_attention(cosine: Array, known: Array, own: float, sigma: float) -> Array:
    """[n, n] xi of HeurFedAMP: xi_ij = (1 - xi_ii) exp(sigma cos_ij) / sum_{h != i} exp(sigma cos_ih) for j != i; `own` = xi_ii, 0 for 1 / m."""
    others = pairs(known)
    nearest = jnp.where(others, cosine, -1).max(axis=1, keepdims=True)
    power = jnp.where(others, jnp.exp(sigma * (cosine - nearest)), 0)
    rest = jnp.where(others.any(axis=1), 1 - (own or 1 / jnp.maximum(known.sum(), 1)), 0)
    return (rest / jnp.maximum(power.sum(axis=1), 1))[:, None] * power + jnp.diag(1 - rest)  # the sum is at least 1 where there are others
