"""FedAMP."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.cloud import Cloud, first_models, mix, pairs, received, squared_distances
from atoll.core.federation import Fed
from atoll.core.fold import stack
from atoll.core.local import data_loss, sgd, with_proximal
from atoll.core.method import hyper, method


class Reply(NamedTuple):
    w: Vector  # w_i after local training


@method
class FedAMP:
    """FedAMP: every client has its own model, and the server pulls the models of similar clients towards each other.

    Huang, Chu, Zhou, Wang, Liu, Pei, Zhang, "Personalized Cross-Silo Federated Learning on Non-IID Data", AAAI 2021.

    Kept: server the last model of every client (n models: meant for up to some hundred clients); client its model w_i.
    Traffic per round and client: its own u_i down, w_i up; no secure aggregation, for the server must see single models.
    Identity: u_i is a half gradient step on the sum of A(||w_i - w_j||^2) over pairs, the paper's formula; equal models are left alone; where all
    models are far apart and lam=0 it is Local, bit for bit.
    Departures from the paper: (1) For m clients A(x) is sigma / m times the paper's 1 - exp(-x / sigma), with slope 1 / m at 0: lambda and alpha_k have another
    unit, and alpha <= 1 leaves every client the weight 1 / m of its own model at least, at any distances. In the paper's unit nothing
    keeps it from being negative. (2) sigma is in units of the mean ||w_i - w_j||^2 of the round: with a fixed one, exp(-x / sigma) is 0 or 1 for
    all pairs of deep networks. (3) The client takes epochs of SGD from u_i, not the exact minimiser; the paper leaves the start open. (4) alpha
    is constant; in the paper it may fall. (5) Clients that are not asked stay in the mixture with the model they sent last; one that has sent
    none is in nobody's mixture and begins with the common first model. (6) BatchNorm statistics are mixed like parameters but count neither in
    distances nor in the pull. The defaults are ours.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)
    batch: int = hyper(20, ge=0)  # 0 = all rows of the client
    lam: float = hyper(0.1, ge=0, search=(0.01, 10.0, "log"))  # lambda, how strongly models attract each other; its unit is sigma / m
    alpha: float = hyper(1.0, gt=0, le=1, search=(0.1, 1.0))  # alpha_k, the server's step; its unit is sigma / m
    sigma: float = hyper(0.3, gt=0, search=(0.03, 3.0, "log"))  # squared distance over which attraction fades; its unit is the mean over all pairs

    def init(self, fed: Fed) -> Cloud:
        return first_models(fed)

    def share(self, s: Cloud) -> None:
        return None  # nobody sees the others' models

    def join(self, i: Client, _: None) -> Vector:
        return i.model.init(i.common_key)  # w_i

    def round(self, s: Cloud, fed: Fed) -> Cloud:
        S = fed.sample()
        d = squared_distances(fed.model.parameters(s.W))
        xi = attention(d, s.known, self.alpha, self.sigma * mean_distance(d, s.known))
        up = fed.ask(S, self.update, each=mix(xi[S], s.W), reduce=stack)  # send u_i = sum_j xi_ij w_j to client i
        return received(s, up.ids, up.w)

    def update(self, i: Client, _: None, u: Vector) -> tuple[Reply, Vector]:
        # w_i <- argmin F_i(w) + lambda / (2 alpha_k) ||w - u_i||^2
        w, _steps = sgd(i, u, self.lr, epochs=self.epochs, batch=self.batch, loss=with_proximal(data_loss, self.lam / self.alpha, u))
        return Reply(w), w

    def personalize(self, i: Client, _: None) -> Any:
        return i.state


def mean_distance(d: Array, known: Array) -> Array:
    """Mean of d over the pairs of clients that have uploaded a model; 0 where there is no pair."""
    among = pairs(known)
    return jnp.where(among, d, 0).sum() / jnp.maximum(among.sum(), 1)


def attention(d: Array, known: Array, alpha: float, sigma: Array | float) -> Array:
    """[n, n] xi of FedAMP: xi_ij = alpha A'(d_ij) for j != i, A'(x) = exp(-x / sigma) / m, and a row's rest on the client itself.

    Among the m clients that have uploaded a model; the others keep to themselves.
    """
    near = jnp.where(d > 0, jnp.exp(-d / jnp.where(d > 0, sigma, 1)), 1)  # equal models have a mean distance of 0
    xi = jnp.where(pairs(known), alpha / jnp.maximum(known.sum(), 1) * near, 0)
    return xi + jnp.diag(1 - xi.sum(axis=1))
