"""Data sharing."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.keys import host_generator
from atoll.core.local import sgd
from atoll.core.method import hyper, method


class Rows(NamedTuple):
    """Rows of the shared set, as the model sees them."""

    x: Array  # [rows, ...]
    y: Array  # [rows, ...]


class Shared(NamedTuple):
    """What every client is sent."""

    w: Vector
    room: Array  # [g, 0]: no bytes; its shape tells clients how many shared rows are theirs


class Server(NamedTuple):
    """The server's state."""

    shared: Shared
    given: Array  # bool [n], which clients have their rows


class Reply(NamedTuple):
    w: Vector  # the client's model after local training
    weight: Array  # number of rows, shared ones included


@method
class DataSharing:
    """Every client gets a random share of a small public set once, and trains on its own rows and these together.

    The rows that clients have in common make their label distributions more alike, which is what FedAvg suffers from; the price is a public set of the right
    kind, and sending it.

    Zhao, Li, Lai, Suda, Civin, Chandra, "Federated Learning with Non-IID Data", arXiv 1806.00582, 2018.

    Kept: server w, the shared set G (the federation's public rows); clients their share G_k of it.
    Traffic per round and client: w down, w and the number of rows up: FedAvg's; and once alpha |G| rows down.
    Identity: on one client without warm-up it is SGD on the client's and its shared rows; the label distribution of these lies nearer to that of all rows: with
    a uniform G and uniform labels by the factor n_k / (n_k + |G_k|).
    Departures from the paper: (1) Rows are sent as the model sees them (normalised, float32), so an image of bytes costs four times its size. (2) Which rows a
    client gets is drawn without replacement. (3) beta, the size of G against the clients' rows, is chosen with the federation: --public. (4) The defaults are
    ours.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)  # E
    batch: int = hyper(20, ge=0)  # B; 0 = all rows
    alpha: float = hyper(0.5, gt=0, le=1, search=(0.1, 1.0))  # share of G that a client gets
    warmup: int = hyper(5, ge=0)  # epochs on G at the server, before all

    label = "Data sharing"
    needs_public = True

    def init(self, fed: Fed) -> Server:
        w = fed.model.init(fed.key())
        if self.warmup:
            w = fed.at_server(self.warm, w)
        g = round(self.alpha * len(fed.public[1]))
        if g == 0:
            public = f"{len(fed.public[1])} public rows"
            raise AtollError(f"DataSharing(alpha={self.alpha:g}): that share of {public} is none. Give more rows away, or take a larger share.")
        return Server(Shared(w, jnp.zeros((g, 0))), jnp.zeros(fed.n, bool))

    def share(self, s: Server) -> Shared:
        return s.shared

    def join(self, k: Client, s: Shared) -> Rows:
        like = jax.eval_shape(lambda: k.draw(len(s.room), k.key))
        return Rows(jnp.zeros(like.x.shape, like.x.dtype), jnp.zeros(like.y.shape, like.y.dtype))

    def round(self, s: Server, fed: Fed) -> Server:
        S = fed.sample()
        given, g, nothing = np.asarray(s.given), len(s.shared.room), Rows(*(part[:0] for part in fed.public))
        rows = [nothing if given[k] else self._rows(fed, k, g) for k in S.tolist()]  # newcomers get alpha |G| random rows of G
        up = fed.ask(S, self.update, s.shared, each=rows, reduce=mean)
        return Server(s.shared._replace(w=up.w), s.given.at[up.ids].set(True))  # w <- sum_k n_k / n w_k

    def update(self, k: Client, s: Shared, new: Rows) -> tuple[Reply, Rows]:
        G = new if len(new.y) else k.state
        both = k.with_rows(G.x, G.y, len(G.y))  # D_k and G_k
        w, _ = sgd(both, s.w, self.lr, epochs=self.epochs, batch=self.batch)
        return Reply(w, both.n.astype("float32")), G

    def warm(self, k: Client, w: Vector) -> Vector:
        return sgd(k, w, self.lr, epochs=self.warmup, batch=self.batch)[0]  # here k's rows are G

    def global_model(self, k: Client, s: Shared) -> Any:
        return s.w

    def _rows(self, fed: Fed, k: int, g: int) -> Rows:
        x, y = fed.public
        chosen = host_generator(fed.seed, f"share {k}", 0).permutation(len(y))[:g]
        return Rows(x[chosen], y[chosen])
