"""FedAMP and HeurFedAMP."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.fold import stack
from atoll.core.local import data_loss, sgd, with_proximal
from atoll.core.method import hyper, method


class Cloud(NamedTuple):
    W: Vector  # [n, ...] the model w_i that each client uploaded last; the common first model where it has not yet
    known: Array  # [n] bool, has the client uploaded one?


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
    lam: float = hyper(0.1, ge=0)  # lambda, how strongly models attract each other; its unit is sigma / m
    alpha: float = hyper(1.0, gt=0, le=1)  # alpha_k, the server's step; its unit is sigma / m
    sigma: float = hyper(0.3, gt=0)  # squared distance over which attraction fades; its unit is the mean over all pairs

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
        w = towards(i, u, self.lam / self.alpha, self.lr, self.epochs, self.batch)  # w_i <- argmin F_i(w) + lambda / (2 alpha_k) ||w - u_i||^2
        return Reply(w), w

    def personalize(self, i: Client, _: None) -> Any:
        return i.state


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
    sigma: float = hyper(1000.0, ge=0)  # how much the cosine counts
    own: float = hyper(0.3, ge=0, le=1)  # xi_ii, a client's weight of its own model; 0 = 1 / m

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
        w = towards(i, u, self.lam, self.lr, self.epochs, self.batch)  # w_i <- argmin F_i(w) + lambda / (2 alpha_k) ||w - u_i||^2
        return Reply(w), w

    def personalize(self, i: Client, _: None) -> Any:
        return i.state


def first_models(fed: Fed) -> Cloud:
    w = fed.model.init(fed.key())
    return Cloud(jax.tree.map(lambda leaf: jnp.repeat(leaf[None], fed.n, axis=0), w), jnp.zeros(fed.n, bool))


def received(s: Cloud, ids: np.ndarray, w: Vector) -> Cloud:
    """The models w [cohort, ...] of `ids` take the places of their last ones."""
    return Cloud(jax.tree.map(lambda all, new: all.at[ids].set(new), s.W, w), s.known.at[ids].set(True))


def towards(i: Client, u: Vector, mu: float, lr: float, epochs: int, batch: int) -> Vector:
    """SGD from u on F_i(w) + mu/2 ||w - u||^2."""
    return sgd(i, u, lr, epochs=epochs, batch=batch, loss=with_proximal(data_loss, mu, u))[0]


@jax.jit
def squared_distances(W: Vector) -> Array:
    """[n, n] ||w_i - w_j||^2 of models W [n, ...]; exactly 0 for equal ones, which ||w_i||^2 + ||w_j||^2 - 2 <w_i, w_j> is not."""
    return jax.lax.map(lambda w: sum_rows(jax.tree.map(lambda all, one: jnp.square(all - one), W, w)), W)


@jax.jit
def cosines(W: Vector) -> Array:
    """[n, n] cosine of the angle between w_i and w_j."""
    products = jax.lax.map(lambda w: sum_rows(jax.tree.map(lambda all, one: all * one, W, w)), W)
    length = jnp.sqrt(jnp.diag(products))
    return products / jnp.maximum(length[:, None] * length, jnp.finfo(jnp.float32).tiny)


def sum_rows(W: Vector) -> Array:
    """[n] the sum of all entries of each model."""
    return jax.tree.reduce(jnp.add, jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0], -1).sum(axis=1), W))


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


def cosine_attention(cosine: Array, known: Array, own: float, sigma: float) -> Array:
    """[n, n] xi of HeurFedAMP: xi_ij = (1 - xi_ii) exp(sigma cos_ij) / sum_{h != i} exp(sigma cos_ih) for j != i; `own` = xi_ii, 0 for 1 / m."""
    others = pairs(known)
    nearest = jnp.where(others, cosine, -1).max(axis=1, keepdims=True)
    power = jnp.where(others, jnp.exp(sigma * (cosine - nearest)), 0)
    rest = jnp.where(others.any(axis=1), 1 - (own or 1 / jnp.maximum(known.sum(), 1)), 0)
    return (rest / jnp.maximum(power.sum(axis=1), 1))[:, None] * power + jnp.diag(1 - rest)  # the sum is at least 1 where there are others


def pairs(known: Array) -> Array:
    """[n, n] bool: i != j and both have uploaded a model."""
    return known[:, None] & known & ~jnp.eye(len(known), dtype=bool)


@jax.jit
def mix(xi: Array, W: Vector) -> Vector:
    """[cohort, ...] the sums over j of xi[i, j] w_j."""
    return jax.tree.map(lambda leaf: jnp.tensordot(xi, leaf, axes=1), W)
