"""ARUBA."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.fold import Sum
from atoll.core.local import gradient, step
from atoll.core.method import hyper, method
from atoll.core.rows import Batch


class Server(NamedTuple):
    """The server's state."""

    phi: Vector
    B: Vector  # how far clients move, squared, summed
    G: Vector  # their squared gradients, summed
    t: Array  # float32, clients that have answered so far


class Shared(NamedTuple):
    """What the server sends to be trained."""

    phi: Vector
    eta: Vector


class Reply(NamedTuple):
    moved: Vector  # theta_k - phi
    g2: Vector  # sum of squared gradients over the steps
    weight: Array  # n_k


class Totals(NamedTuple):
    """Of all replies."""

    moved: Vector  # sum of n_k (theta_k - phi)
    n: Array
    B: Vector
    G: Vector


@method
class ARUBA:
    """FedAvg whose rate is learned across clients, for every parameter its own: large where clients move far, small where gradients are large.

    The rate is eta = sqrt(B / G), with B the squared distances that clients have moved and G their squared gradients. So a parameter that is to be personal
    learns fast at a client, a common one slowly, and nobody has to choose the rate of personalization.

    Khodak, Balcan, Talwalkar, "Adaptive Gradient-Based Meta-Learning Methods", NeurIPS 2019.

    Kept: server phi, B, G; clients nothing.
    Traffic per round and client: phi and eta down; theta_k (as its difference from phi), squared gradients and n_k up. Personalizing with plus > 0 needs phi,
    B and G.
    Identity: before any client has answered eta is lr everywhere, so the first round is FedAvg with this rate; a parameter without gradient keeps it; where
    B and G are the same for all parameters isotropic=true changes nothing; plus=0 personalizes with eta as it is.
    Departures from the paper: (1) Clients in one round all start from the round's phi and eta, and are then counted one after another: the authors' federated
    code. (2) `epochs` passes and `ft_epochs` passes of personalization are ours to choose; the paper's clients make one pass. (3) zeta, p and the start of
    B and G are the authors' code's, with eps = lr zeta.
    """

    lr: float = hyper(0.05, gt=0)  # the rate of the first round
    epochs: int = hyper(1, ge=1)
    batch: int = hyper(20, ge=1)
    zeta: float = hyper(1.0, gt=0, search=(0.01, 1.0, "log"))  # weight of the first rate against what is learned
    p: float = hyper(1.0, ge=0)  # with which power of the number of clients that weight fades
    isotropic: bool = hyper(False)  # one rate for all parameters
    plus: float = hyper(0.0, ge=0)  # c of ARUBA++: while a client personalizes, c times its squared gradients join G
    ft_epochs: int = hyper(5, ge=0)  # passes of personalization

    def init(self, fed: Fed) -> Server:
        phi = fed.model.init(fed.key())
        ones = 0 * fed.model.parameters(phi) + 1
        return Server(phi, (self.lr * self.zeta) ** 2 * ones, self.zeta**2 * ones, jnp.float32(0))  # B_1 <- eps^2, G_1 <- zeta^2

    def round(self, s: Server, fed: Fed) -> Server:
        S = fed.sample()
        up = fed.ask(S, self.update, Shared(s.phi, self.rate(s.B, s.G)), reduce=Sum(totals))
        m = len(up.ids)
        fading = ((s.t + 1 + jnp.arange(1, m + 1)) ** -self.p).sum()  # sum over these clients of (t + 1)^-p
        B = s.B + up.B + (self.lr * self.zeta) ** 2 * fading  # B <- B + 1/2 (theta - phi)^2 + eps^2 / (t + 1)^p
        G = s.G + up.G + self.zeta**2 * fading  # G <- G + sum_i g_i^2 + zeta^2 / (t + 1)^p
        return Server(s.phi + up.moved / up.n, B, G, s.t + m)  # phi <- sum_k n_k / n theta_k

    def update(self, k: Client, s: Shared) -> Reply:
        def one(carry: tuple[Vector, Vector], rows: Batch) -> tuple[Vector, Vector]:
            theta, g2 = carry
            g, buffered = gradient(k, theta, rows)
            d = k.model.parameters(g)
            return step(k, theta, g, buffered, s.eta), g2 + d * d  # theta <- theta - eta g, each parameter with its own eta

        (theta, g2), _ = k.fold(one, (s.phi, 0 * s.eta), batch=self.batch, epochs=self.epochs)
        return Reply(theta - s.phi, g2, k.n.astype("float32"))

    def rate(self, B: Vector, G: Vector) -> Vector:
        """eta = sqrt(B / G)"""
        if self.isotropic:
            ones = 0 * B + 1
            return jnp.sqrt((B @ ones) / (G @ ones)) * ones
        return (B / G) ** 0.5

    def personalize(self, k: Client, s: Server) -> Any:
        def one(carry: tuple[Vector, Vector], rows: Batch) -> tuple[Vector, Vector]:
            theta, G = carry
            g, buffered = gradient(k, theta, rows)
            d = k.model.parameters(g)
            return step(k, theta, g, buffered, self.rate(s.B, G)), G + self.plus * (d * d)

        return k.fold(one, (s.phi, s.G), batch=self.batch, epochs=self.ft_epochs)[0][0]

    def global_model(self, k: Client, s: Server) -> Any:
        return s.phi


def totals(reply: Reply) -> Totals:
    """One reply's part of the sums. Buffers are averaged, but have no rate."""
    d = Vector({block: reply.moved.tree[block] for block in reply.g2.tree})
    return Totals(reply.weight * reply.moved, reply.weight, 0.5 * (d * d), reply.g2)
