"""HypCluster."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.candidates import losses, smallest
from atoll.core.client import Client
from atoll.core.clusters import one, side_by_side, trained
from atoll.core.federation import Fed
from atoll.core.fold import GroupMean
from atoll.core.keys import host_generator
from atoll.core.local import sgd
from atoll.core.method import hyper, method


class Begun(NamedTuple):
    h: Vector  # what a candidate's rows make of the first model


class Loss(NamedTuple):
    loss: Array  # L_k(h), of one hypothesis


class Reply(NamedTuple):
    h: Vector  # the client's hypothesis after local training
    group: Array  # int32, f(k)
    weight: Array  # m_k


@method
class HypCluster:
    """HypCluster: there are q hypotheses (models); each client takes the one that fits its own rows best, and those who took the same one train it by FedAvg.

    It minimises the sum over clients of m_k min_i L_k(h_i): every row counts alike, whoever has it. A client predicts with the hypothesis of the smallest loss
    on its train rows; one that has never been asked does too.

    Mansour, Mohri, Ro, Suresh, "Three Approaches for Personalization with Applications to Federated Learning", arXiv:2002.10619, 2020.

    Kept: server q hypotheses; clients nothing: they choose anew each time.
    Traffic per round and client: q models down; one model, its number and m_k up. Before the first round, candidates: the first model and q - 1 others down; a
    model and q - 1 losses up, and the server sees these models one by one.
    Identity: q=1 with candidates=0 is FedAvg, bit for bit; with batch=0, one epoch and a small rate the objective never rises; a hypothesis that nobody chose
    keeps its value. It is IFCA with means by rows instead of uniform ones, and with a start of its own.
    Departures from the paper: (1) How hypotheses begin is that of a co-author's code: candidates train the first model, one of theirs at random is the first
    hypothesis, and the next is always that of the candidate whom those there serve worst (farthest first, as k-means++ draws in proportion). candidates=0 or
    too few: random models. Equal hypotheses would never part. (2) That start does not search for the best of several; these are several runs here. (3) Losses
    are compared in evaluation mode. q was swept in the paper; the defaults are ours.
    """

    lr: float = hyper(0.1, gt=0)
    epochs: int = hyper(1, ge=1)  # E
    batch: int = hyper(20, ge=0)  # 0 = all rows of the client
    q: int = hyper(4, ge=1, search=[2, 3, 4, 6])  # hypotheses
    candidates: int = hyper(20, ge=0)  # clients of whose models the first hypotheses are chosen, all if they are fewer; 0 = q random models
    start_epochs: int = hyper(5, ge=1)  # of candidates

    def init(self, fed: Fed) -> Vector:
        first = [fed.model.init(fed.key("init" if i == 0 else f"init {i}")) for i in range(self.q)]
        if not self.candidates:
            return side_by_side(first)
        random = host_generator(fed.seed, "candidates", 0)
        C = np.sort(random.choice(fed.n, min(self.candidates, fed.n), replace=False))
        up = fed.ask(C, self.begin, first[0])
        C = up.ids
        served = np.full(len(C), np.inf)  # how well: min_i L_k(h_i) of the hypotheses so far
        chosen = [int(random.integers(len(C)))]
        while len(chosen) < min(self.q, len(C)):
            said = fed.ask(C, self.loss, one(up.h, chosen[-1]))
            there = np.isin(C, said.ids)
            served[there] = np.minimum(served[there], np.where(np.isnan(said.loss), np.inf, said.loss))
            served[chosen] = -np.inf
            chosen.append(int(np.argmax(served)))
        return side_by_side([one(up.h, j) for j in chosen] + first[len(chosen) :])

    def round(self, h: Vector, fed: Fed) -> Vector:
        P = fed.sample()  # randomly sample P clients
        up = fed.ask(P, self.update, h, reduce=GroupMean(self.q))
        return trained(h, up.h, up.weight)  # h_i <- sum_k m_k h_k / sum_k m_k over those with f(k) = i

    def begin(self, k: Client, h: Vector) -> Begun:
        return Begun(sgd(k, h, self.lr, epochs=self.start_epochs, batch=self.batch)[0])

    def loss(self, k: Client, h: Vector) -> Loss:
        return Loss(losses(k, [h])[0])

    def update(self, k: Client, h: Vector) -> Reply:
        f = self.cluster(k, h)  # f(k) <- argmin_i L_k(h_i)
        mine, _ = sgd(k, one(h, f), self.lr, epochs=self.epochs, batch=self.batch)  # a few steps of SGD from h_f(k)
        return Reply(mine, f, k.n.astype(jnp.float32))

    def personalize(self, k: Client, h: Vector) -> Any:
        return one(h, self.cluster(k, h))

    def cluster(self, k: Client, h: Vector) -> Array:
        """The number (int32) of the hypothesis with the smallest loss on the client's train rows."""
        return k.once("f", lambda: smallest(losses(k, [one(h, i) for i in range(self.q)])))
