"""D-Distillation."""

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
from atoll.core.fold import apart, by_client
from atoll.core.graph import graph, metropolis
from atoll.core.keys import host_generator, shuffle
from atoll.core.local import masked_mean, row_losses, sgd
from atoll.core.method import hyper, method
from atoll.core.model import Model
from atoll.core.rows import Batch


class Device(NamedTuple):
    theta: Vector  # the device's own model, of any architecture
    z: Array  # [R, L] what it takes for the mean opinion of all devices on each reference row
    s: Array  # [R, L] its own opinion when that row was last exchanged
    B: Array  # [D_b] int32, the rows of the round


class Mail(NamedTuple):
    """What reaches a device from its neighbours."""

    W: Any  # [neighbours] float32, weights of the edges
    z: Any  # [neighbours, D_b, L]


class Letters(NamedTuple):
    z: Array  # [neighbours, D_b, L] what a device tells, once for each of its neighbours


@method
class DDistillation:
    """Distributed distillation: no server; devices tell their neighbours in a graph what all think of some reference rows, and learn to agree with that.

    Each device has a model of its own, of any architecture, and an estimate z_i of the mean opinion (probabilities) of all devices on common unlabelled rows.
    A round mixes its estimate with its neighbours' and adds what is new in its own opinion; so opinions travel over the whole graph, though everybody talks to
    its neighbours alone. While it trains, its outputs on reference rows are drawn to z_i.

    Bistritz, Mann, Bambos, "Distributed Distillation for On-Device Learning", NeurIPS 2020.

    Kept: device its model theta_i, z_i and its last opinion s_i on all reference rows (the federation's public rows); server nothing but the graph: it stands
    for the network, which hands letters over.
    Traffic per round and client: up, D_b x L probabilities for each neighbour; down, D_b row numbers and, for each neighbour, D_b x L probabilities and a
    weight.
    Identity: the mean of all z_i is the mean of all s_i in every round, for every graph and whoever takes part; with models at rest z_i goes to that mean as
    powers of W do; rho=0 is training alone.
    Departures from the paper: (1) Its exact recursion, distance and rates are not known to us. This is our reading: dynamic average consensus with Metropolis
    weights, the squared distance of probabilities, a constant rate. (2) A round is `epochs` of steps, each on a batch of own rows and one of reference rows,
    between two exchanges. (3) Who does not take part in a round is as if its edges were cut; other weights stay. (4) The defaults are ours.
    """

    lr: float = hyper(0.05, gt=0)  # eta
    epochs: int = hyper(1, ge=0)
    batch: int = hyper(20, ge=1)
    rho: float = hyper(10.0, ge=0, search=(0.1, 100.0, "log"))  # how strongly outputs are drawn to z_i
    exchanged: int = hyper(200, ge=1)  # D_b, reference rows of a round
    reference_batch: int = hyper(20, ge=1)  # reference rows of a step
    graph: str = hyper("ring")  # or grid, complete, random:0.3, a file with two client numbers per line

    label = "D-Distillation"
    many_architectures = True
    needs_public = True

    def check_model(self, model: Model) -> None:
        if model.task != "classification":
            raise AtollError(f"D-Distillation exchanges probabilities of labels, and model {model.name!r} is for {model.task}. Give it data with labels.")

    def init(self, fed: Fed) -> np.ndarray:
        _ = fed.public  # refused here where there are none
        return metropolis(graph(self.graph, fed.n, fed.seed))  # W

    def share(self, W: np.ndarray) -> None:
        return None

    def join(self, i: Client, _: None) -> Device:
        theta = i.model.init(i.common_key)
        s = i.public.map(lambda x: jax.nn.softmax(i.model.apply(theta, x.x)))
        return Device(theta, s, s, jnp.zeros(min(self.exchanged, len(s)), jnp.int32))  # z_i^0 = s_i(theta_i^0)

    def round(self, W: np.ndarray, fed: Fed) -> np.ndarray:
        S, R = fed.sample(), len(fed.public[1])
        B = host_generator(fed.seed, "reference", fed.round).permutation(R)[: self.exchanged].astype(np.int32)
        to = [jnp.zeros((len(neighbours(W, i, S)), 0)) for i in S]  # no bytes: how many letters a device writes
        sent = fed.ask(S, self.send, B, each=to, reduce=apart)
        z = {i: letters.z[0] for i, letters in by_client(sent.ids, sent.reply).items() if len(letters.z)}
        near = [neighbours(W, i, sent.ids) for i in sent.ids]
        nothing = np.zeros((0, len(B), fed.outputs), np.float32)
        mail = [Mail(W[i, N].astype(np.float32), np.stack([z[j] for j in N]) if len(N) else nothing) for i, N in zip(sent.ids, near, strict=True)]
        fed.ask(sent.ids, self.update, each=mail)
        return W

    def send(self, i: Client, B: Array, to: Array) -> tuple[Letters, Device]:
        z = i.state.z[B]
        return Letters(jnp.broadcast_to(z, (len(to), *z.shape))), i.state._replace(B=B)

    def update(self, i: Client, _: None, mail: Mail) -> tuple[None, Device]:
        theta, z, s, B = i.state
        size = min(self.reference_batch, len(z))

        def loss(i: Client, theta: Vector, rows: Batch) -> tuple[Array, Vector]:
            out, buffered = i.model.train(theta, rows.x, rows.mask, rows.key)
            at = shuffle(jnp.arange(size, dtype=jnp.int32), i.public.n, rows.key)  # x in R, at random
            opinion = jax.nn.softmax(i.model.train(theta, i.public.take(at).x, key=rows.key)[0])
            F = masked_mean(row_losses(i.model.task, out, rows.y), rows.mask)
            return F + self.rho * jnp.square(opinion - z[at]).sum(axis=1).mean(), buffered  # F_i + rho mean ||s_i(x; theta) - z_i(x)||^2

        theta, _steps = sgd(i, theta, self.lr, batch=self.batch, epochs=self.epochs, loss=loss)  # theta_i <- theta_i - eta g(L_i(.; z_i))
        new = jax.nn.softmax(i.model.apply(theta, i.public.take(B).x))
        mixed = (1 - mail.W.sum()) * z[B] + jnp.tensordot(mail.W, mail.z, axes=1)  # sum_j W_ij z_j
        return None, Device(theta, z.at[B].set(mixed + new - s[B]), s.at[B].set(new), B)  # z_i <- sum_j W_ij z_j + s_i(theta_i) - s_i(its old)

    def personalize(self, i: Client, _: None) -> Any:
        return i.state.theta


def neighbours(W: np.ndarray, i: int, among: np.ndarray) -> np.ndarray:
    """Of the devices `among` those that share an edge with i, in order."""
    return np.array([j for j in sorted(among.tolist()) if j != i and W[i, j] > 0], int)
