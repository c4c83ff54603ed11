"""Astraea."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.augment import Strength, copies
from atoll.core.balance import complementary, label_counts, ratios, resampled
from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Answer, Fed, NobodyAnswered
from atoll.core.fold import mean
from atoll.core.local import sgd
from atoll.core.method import hyper, method
from atoll.core.model import Model


class Server(NamedTuple):
    """The server's state."""

    w: Vector
    counts: np.ndarray  # int32 [n, L], rows of each label at each client after resampling; -1: the client has not been reached yet
    R: Array | None  # float32 [L], how often a row of each label is there on average; None: labels are even enough


class Lesson(NamedTuple):
    """What a client is sent beside the model."""

    R: Array | None
    e: Any  # int32, which pass of the mediator


class Histogram(NamedTuple):
    y: Array  # int32 [L], rows of each label


class Reply(NamedTuple):
    w: Vector  # the mediator's model after this client's training
    weight: Array  # rows it trained on


@method
class Astraea:
    """Clients make more of the labels that are rare among all clients and drop some of the frequent; those that complete each other train one after another.

    Mediators have a few clients each, whose labels together are nearly uniform: a model that has passed through them in turn has seen all labels when models
    are averaged.

    Duan, Liu, Chen, Tan, Ren, Qiao, Liang, "Astraea", ICCD 2019, arXiv 1907.01132; the ratios are those of its journal version, "Self-Balancing Federated
    Learning with Global Imbalanced Data in Mobile Systems", IEEE TPDS 2021.

    Kept: server w, label counts of all clients; clients nothing: their copies are made anew from the same keys.
    Traffic per round and client: E_m times w, L ratios and the pass down, w and the number of rows up. Once: L counts up, L ratios down, L new counts up.
    Identity: gamma=1 and E_m=1 without resampling is FedAvg; one mediator of all clients is SGD through all of them in turn; even labels are not resampled;
    labels beyond a threshold T have m +- s sqrt(z T) rows afterwards, on average.
    Departures from the paper: (1) Mediators are parts of the server: the meter books what passes between them and the clients, not the model that each would
    get from the server and give back. (2) In every round mediators are built of that round's clients. (3) A client that does not answer is passed over. One
    not reached at the start is asked for its counts when it first can be; the ratios stay. A client whose rows were all dropped is left out. (4) One ratio per
    label is sent: beyond 1 a client makes copies, below 1 it drops rows. (5) s divides by L; the strengths of the augmentation and all defaults are ours.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)  # E
    batch: int = hyper(20, ge=0)  # B; 0 = all rows of the client
    gamma: int = hyper(3, ge=1)  # clients of a mediator
    E_m: int = hyper(1, ge=1)  # passes of a mediator through its clients
    T_a: float = hyper(-0.1, lt=0)  # labels with z below are augmented
    T_d: float = hyper(0.1, gt=0)  # labels with z above are down-sampled
    shift: float = hyper(0.1, ge=0, le=1)  # of copies: share of the side
    rotate: float = hyper(10.0, ge=0, le=180)  # degrees
    shear: float = hyper(0.1, ge=0, le=1)
    zoom: float = hyper(0.1, ge=0, lt=1)

    def check_model(self, model: Model) -> None:
        if model.task != "classification" or len(model.input_shape) not in (2, 3):
            shape = "x".join(map(str, model.input_shape))
            raise AtollError(f"Astraea evens out labels with shifted and turned images; rows of shape {shape} for {model.task} are none. Give it images.")

    def init(self, fed: Fed) -> Server:
        up = fed.ask(fed.everyone(), self.histogram)  # clients send label histograms
        R = ratios(np.asarray(up.y).sum(axis=0), self.T_a, self.T_d)  # z, Y_aug, Y_down, R_y
        R = None if (R == 1).all() else jnp.asarray(R, jnp.float32)
        unknown = np.full((fed.n, fed.outputs), -1, np.int32)
        return self._counted(Server(fed.model.init(fed.key()), unknown, R), fed, up)

    def share(self, s: Server) -> Vector:
        return s.w

    def round(self, s: Server, fed: Fed) -> Server:
        S = np.sort(fed.sample())  # c clients
        new = S[s.counts[S, 0] < 0]
        if len(new) and (up := _ask(fed, new, self.histogram)):
            s = self._counted(s, fed, up)
        S = S[s.counts[S].sum(axis=1) > 0]
        M = [S[group] for group in complementary(s.counts[S], self.gamma)]  # mediators, gamma clients each
        w, n = [s.w] * len(M), [jnp.float32(0)] * len(M)
        for e, p in np.ndindex(self.E_m, max(map(len, M), default=0)):  # E_m times, each mediator passes w through its clients in order; all mediators at once
            at = {int(clients[p]): m for m, clients in enumerate(M) if p < len(clients)}
            up = _ask(fed, list(at), self.update, Lesson(s.R, np.int32(e)), each=[w[m] for m in at.values()])
            if up is None:
                continue
            for j, k in enumerate(up.ids.tolist()):
                w[at[k]] = jax.tree.map(lambda leaf, j=j: leaf[j], up.w)
                n[at[k]] += up.weight[j]  # E_m n_m in the end
        total = mean.start(Reply(s.w, jnp.float32(0)))
        for reply in map(Reply, w, n):
            total = mean.add(total, reply)  # w <- w + sum_m n_m / n Delta_m, which is sum_m n_m / n w_m
        return s._replace(w=total.w) if total.weight else s

    def histogram(self, k: Client, _: None) -> Histogram:
        return Histogram(label_counts(k))

    def rebalance(self, k: Client, R: Array) -> Histogram:
        return Histogram(label_counts(self._resampled(k, R)))

    def update(self, k: Client, s: Lesson, w: Vector) -> Reply:
        key = jnp.where(s.e > 0, k.key_for(s.e), k.key)
        k = k if s.R is None else self._resampled(k, s.R)
        w, _ = sgd(k, w, self.lr, epochs=self.epochs, batch=self.batch, key=key)  # E epochs
        return Reply(w, k.n.astype("float32"))

    def global_model(self, k: Client, w: Vector) -> Any:
        return w

    def _counted(self, s: Server, fed: Fed, up: Answer) -> Server:
        """With the counts of clients whose histograms came, after resampling."""
        y = np.asarray(up.y)
        if s.R is not None:
            y = np.asarray(fed.ask(up.ids, self.rebalance, s.R).y)  # send R; new histograms
        counts = s.counts.copy()
        counts[up.ids] = y
        return s._replace(counts=counts)

    def _resampled(self, k: Client, R: Array) -> Client:
        return resampled(k, R, copies(k.lasting_key(1), Strength(self.shift, self.rotate, self.shear, self.zoom)))


def _ask(fed: Fed, clients: Any, *what: Any, **how: Any) -> Answer | None:
    """None where nobody answers: others may still do."""
    try:
        return fed.ask(clients, *what, **how)
    except NobodyAnswered:
        return None
