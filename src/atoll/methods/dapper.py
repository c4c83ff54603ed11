"""DAPPER."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.candidates import check_mixtures, kept_apart, losses, mixtures, smallest
from atoll.core.client import Client
from atoll.core.clusters import alike, count, one
from atoll.core.federation import Fed
from atoll.core.keys import host_generator
from atoll.core.local import gradient, sgd, step
from atoll.core.method import hyper, method
from atoll.core.rows import Batch


class Rows(NamedTuple):
    """C', some rows of the central sample, as the model sees them."""

    x: Array  # [rows, ...]
    y: Array  # [rows, ...]


class Server(NamedTuple):
    """The server's state."""

    h_C: Vector  # the model of the central sample
    done: np.ndarray  # bool [n], which clients have their personal model


class Own(NamedTuple):
    h: Vector  # h_k
    share: Array  # lambda_k


@method
class DAPPER:
    """DAPPER: a client fine-tunes a central model on a mixture of its own rows and some rows of a central sample, and chooses how much of each.

    It minimises lambda L_k(h) + (1 - lambda) L_C(h) for several shares lambda, each from the central model h_C, and keeps the one that is best on rows kept
    apart. Few rows of one's own mislead less with others beside them. Each client does this once; there are no rounds of averaging.

    Mansour, Mohri, Ro, Suresh, "Three Approaches for Personalization with Applications to Federated Learning", arXiv:2002.10619, 2020.

    Kept: server h_C, the central sample C (the federation's public rows); client its model and lambda.
    Traffic per round and client: once, when it is first asked, h_C and about r m_k rows down; nothing up. Nothing in other rounds.
    Identity: lambda=1 fine-tunes h_C on the client's rows alone, lambda=0 goes on with h_C on rows of C; on quadratics it ends where
    lambda grad L_k + (1 - lambda) grad L_C is 0.
    Departures from the paper: (1) C is public rows at the server, which trains h_C on them before the first round; the paper pools clients' rows. (2) A step
    takes a batch of each source and weighs their gradients by lambda and 1 - lambda; drawing single rows from either has the same mean and more noise. (3) How
    many rows a client is sent is r m_k rounded up to a power of two, so that programs are compiled for few sizes; at most all. (4) Rows for choosing lambda
    are drawn once, and not trained on. (5) A client that has not been asked predicts with h_C. (6) BatchNorm statistics are mixed as the gradients are.
    r, the shares tried and the rest of the defaults are ours.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(10, ge=1)  # over the client's rows, for each share
    batch: int = hyper(20, ge=1)  # of each source
    central_epochs: int = hyper(20, ge=1)  # of h_C on C
    r: float = hyper(1.0, gt=0)  # rows of C that a client gets, in its own
    grid: int = hyper(4, ge=1)  # shares lambda that are tried: from lowest to highest in so many parts
    lowest: float = hyper(0.0, ge=0, le=1)
    highest: float = hyper(1.0, ge=0, le=1)
    kept: float = hyper(0.2, gt=0, lt=1)  # share of the train rows by which lambda is chosen

    needs_public = True

    def check(self) -> None:
        check_mixtures(self)

    def init(self, fed: Fed) -> Server:
        h_C = fed.at_server(self.central, fed.model.init(fed.key()))
        return Server(h_C, np.zeros(fed.n, bool))

    def share(self, s: Server) -> Vector:
        return s.h_C

    def join(self, k: Client, h_C: Vector) -> Own:
        return Own(h_C, jnp.float32(0))

    def round(self, s: Server, fed: Fed) -> Server:
        S = fed.sample()
        new = S[~s.done[S]]
        if not len(new):
            return s
        got = fed.ask(new, self.adapt, s.h_C, each=[self._rows(fed, k) for k in new.tolist()])  # C' <- about r m_k random rows of C
        done = s.done.copy()
        done[got.ids] = True
        return s._replace(done=done)

    def central(self, k: Client, h: Vector) -> Vector:
        return sgd(k, h, self.lr, epochs=self.central_epochs, batch=self.batch)[0]  # here k's rows are C

    def adapt(self, k: Client, h_C: Vector, C: Rows) -> tuple[None, Own]:
        train, kept = kept_apart(k, self.kept)
        pool = k.on(k.train.instead(lambda at: (C.x.at[at].get(mode="clip"), C.y.at[at].get(mode="clip")), len(C.y), len(C.y)))
        shares = jnp.asarray(mixtures(self.lowest, self.highest, self.grid))  # for each lambda, side by side:

        def down(h: Vector, D: Batch) -> Vector:
            E = pool.draw(self.batch, D.key)

            def of(h: Vector, share: Array) -> Vector:
                (g, b), (g_C, b_C) = gradient(k, h, D), gradient(k, h, E)
                return step(k, h, share * g + (1 - share) * g_C, share * b + (1 - share) * b_C, self.lr)  # of lambda L_k(h) + (1 - lambda) L_C(h)

            return jax.vmap(of)(h, shares)

        h, _ = train.fold(down, alike(h_C, len(shares)), batch=self.batch, epochs=self.epochs)
        best = smallest(losses(kept, [one(h, j) for j in range(count(h))]))
        return None, Own(one(h, best), shares[best])

    def personalize(self, k: Client, h_C: Vector) -> Any:
        return k.state.h

    def global_model(self, k: Client, h_C: Vector) -> Any:
        return h_C

    def _rows(self, fed: Fed, k: int) -> Rows:
        x, y = fed.public
        size = 1 << math.ceil(math.log2(max(1.0, self.r * int(fed.rows[k]))))
        chosen = host_generator(fed.seed, f"sample {k}", 0).permutation(len(y))[:size]
        return Rows(x[chosen], y[chosen])
