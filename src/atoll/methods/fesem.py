"""FeSEM."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.clusters import alike, count, distances_to, gram, k_means, means, one, placed, points, trained
from atoll.core.federation import Fed
from atoll.core.keys import host_generator
from atoll.core.local import sgd
from atoll.core.method import hyper, method


class Server(NamedTuple):
    """The server's state."""

    theta: Vector  # [n, ...] the model theta_c that each client uploaded last; the common first one where it has not yet
    W: Vector  # [centres, ...]; none before the first upload, and as many as clients that have uploaded while these are fewer than K
    r: np.ndarray  # int32 [n], the centre of each client; -1: it has not uploaded yet


class Shared(NamedTuple):
    """What clients may see."""

    W: Vector  # [centres, ...], and as the last the mean of all clients' models, from which newcomers start
    r: np.ndarray


class Reply(NamedTuple):
    theta: Vector  # theta_c


@method
class FeSEM:
    """FeSEM: K centres, each the mean of the models nearest to it; every client trains from its centre, and then moves to the centre nearest to what it got.

    It minimises the sum of the squared distances between clients' models and their centres by expectation-maximization, in turn with local training.

    Xie, Long, Shen, Zhou, Wang, Jiang, Zhang, "Multi-Center Federated Learning", arXiv:2005.01026, 2020.

    Kept: server K centres and the last model of every client (n models: meant for up to some hundred clients); clients nothing.
    Traffic per round and client: its centre down, its model up; no secure aggregation, for the server must see single models.
    Identity: K=1 is FedAvg with uniform means; as many centres as clients is training alone; neither the E step nor the M step raises the objective, and
    together they are one step of Lloyd's K-means.
    Departures from the paper: (1) All clients start from one model, and the first K centres are found by k-means++ on what they upload: centres that begin
    apart are nearest to nobody for the right reasons, as networks' units can be permuted. While fewer clients than K have uploaded, centres are found anew in
    every round. (2) One E and one M step per round, on the last upload of all clients, asked or not; means are not weighted, as in the authors' code. (3) A
    client that has uploaded nothing starts from the mean of all clients' models, and after its training takes the centre nearest to what it got; so does an
    unseen client before it predicts. (4) Distances are of all parameters (not of BatchNorm statistics); the authors' code takes one layer's. (5) An empty
    centre stays. (6) Clients predict with their centre; fesem+ft fine-tunes it. K, E, batch and lr are the authors' code's.
    """

    lr: float = hyper(0.01, gt=0)
    epochs: int = hyper(10, ge=1)  # E
    batch: int = hyper(10, ge=0)  # 0 = all rows of the client
    K: int = hyper(3, ge=1, search=[2, 3, 4, 6])  # centres

    def init(self, fed: Fed) -> Server:
        theta = alike(fed.model.init(fed.key()), fed.n)
        return Server(theta, jax.tree.map(lambda leaf: leaf[:0], theta), np.full(fed.n, -1, np.int32))

    def share(self, s: Server) -> Shared:
        there = np.flatnonzero(s.r >= 0)
        middle = jax.tree.map(lambda leaf: leaf[there].mean(axis=0) if len(there) else leaf[0], s.theta)
        return Shared(jax.tree.map(lambda all, m: jnp.concatenate([all, m[None]]), s.W, middle), s.r)

    def round(self, s: Server, fed: Fed) -> Server:
        S = fed.sample()
        up = fed.ask(S, self.update, each=one(self.share(s).W, s.r[S]))  # send each client its centre; number -1 is the last, the mean
        theta = jax.tree.map(lambda all, new: all.at[up.ids].set(new), s.theta, up.theta)
        there = np.flatnonzero((s.r >= 0) | np.isin(np.arange(fed.n), up.ids))
        known = one(theta, there)
        r = s.r.copy()
        if count(s.W) < self.K:
            seed = int(host_generator(fed.seed, "centres", fed.round).integers(1 << 31))
            r[there] = k_means(points(gram(fed.model.parameters(known))), self.K, seed)
            return Server(theta, means(known, r[there]), r)
        r[there] = e_step(fed.model.parameters(s.W), fed.model.parameters(known))
        return Server(theta, m_step(s.W, known, r[there]), r)

    def update(self, c: Client, _: None, w: Vector) -> Reply:
        return Reply(sgd(c, w, self.lr, epochs=self.epochs, batch=self.batch)[0])  # theta_c <- E epochs from the centre

    def personalize(self, c: Client, s: Shared) -> Any:
        return one(s.W, self.cluster(c, s))  # -1, where there are no centres yet, is the common model

    def cluster(self, c: Client, s: Shared) -> Array:
        k = count(s.W) - 1
        if not k:
            return jnp.int32(-1)

        def nearest() -> Array:
            theta = c.model.parameters(self.update(c, None, one(s.W, k)).theta)
            return jnp.argmin(distances_to(c.model.parameters(one(s.W, slice(k))), theta, "l2"))

        return placed(c, s.r, nearest)


def e_step(W: Vector, theta: Vector) -> np.ndarray:
    """[m] r_c <- argmin_k ||theta_c - W^(k)||^2 of theta [m, ...]."""
    return np.argmin(np.array([distances_to(theta, one(W, k), "l2") for k in range(count(W))]), axis=0)


def m_step(W: Vector, theta: Vector, r: np.ndarray) -> Vector:
    """W^(k) <- mean of theta [m, ...] with r = k; a centre of nobody stays."""
    members = np.bincount(r, minlength=count(W))
    share = (r == np.arange(len(members))[:, None]) / np.maximum(members, 1)[:, None]
    new = jax.tree.map(lambda leaf: jnp.tensordot(jnp.asarray(share, jnp.float32), leaf, axes=1), theta)
    return trained(W, new, members)
