"""LG-FedAvg with the ensemble for new devices."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed, NobodyAnswered
from atoll.core.method import blocks, hyper, method, the_same
from atoll.core.model import Model
from atoll.methods.lg_fedavg import LGFedAvg, Shared


class Server(NamedTuple):
    """The server's state, and what predictions are made with."""

    lg: Shared  # LG-FedAvg's: global layers g and, after a warm start, the first local ones
    L: Vector  # leaves [n, ...], local layers of all clients as they sent them last
    has: Array  # bool [n], whose are there


class Copy(NamedTuple):
    l_i: Vector


class Mixed(NamedTuple):
    """What a client predicts with."""

    own: Vector  # its own model
    known: Array  # bool, it has trained; else it is a new device
    common: Server


@method
class LGEnsemble:
    """LG-FedAvg, in which a client that has never trained predicts with all the others' models: the mean of what they say.

    Training is LG-FedAvg's. A new device has no labels to learn local layers of its own from, and does not know whose would suit it, so it takes them all.

    Liang, Liu, Ziyin, Salakhutdinov, Morency, "Think Locally, Act Globally: Federated Learning with Local and Global Representations",
    NeurIPS workshop on federated learning, 2019 (arXiv 2001.01523).

    Kept: server the global layers g and a copy of everybody's local layers; client its local layers l_i.
    Traffic per round and client: as in LG-FedAvg, and l_i up: g down, the whole model and a weight up. To predict, a new device needs the local layers of all
    clients once, which is not counted.
    Identity: g and all l_i are LG-FedAvg's, bit for bit, and so are the predictions of who has trained; an ensemble of equal models is one of them.
    Departures from the paper: (1) Those of LG-FedAvg, but for its fifth. (2) The local layers travel, and are private no longer: what new devices gain is paid
    for with that, and with traffic. Otherwise the rows of the new device would have to go to everybody. (3) Models count alike, each by its softmax, those of
    clients that have sent none yet not at all; the authors' second way, the majority of votes, is not there. The defaults are LG-FedAvg's.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)
    batch: int = hyper(10, ge=0)  # 0 = all rows of the client
    shared: int | tuple[str, ...] = blocks(1)  # how many last blocks are global; or the names of blocks, anywhere in the model
    warmup: int = hyper(0, ge=0)  # first rounds: FedAvg on the whole model

    label = "LG-FedAvg ensemble"
    reads_rate = True  # its programs make a LG-FedAvg of it

    @property
    def lg(self) -> LGFedAvg:
        """LG-FedAvg as it is: training is its own business."""
        return the_same(LGFedAvg(lr=self.lr, epochs=self.epochs, batch=self.batch, shared=self.shared, warmup=self.warmup))

    def check_model(self, model: Model) -> None:
        if model.task == "regression":
            raise AtollError("LGEnsemble takes the mean of probabilities, and regression has none. Take lg-fedavg.")

    def init(self, fed: Fed) -> Server:
        l_0, _ = fed.model.split(fed.model.init(fed.key()), self.shared)
        return Server(self.lg.init(fed), jax.tree.map(lambda leaf: jnp.zeros((fed.n, *leaf.shape), leaf.dtype), l_0), jnp.zeros(fed.n, bool))

    def welcome(self, s: Server) -> Shared:
        return s.lg

    def join(self, i: Client, s: Shared) -> Vector:
        return self.lg.join(i, s)  # l_i

    def round(self, s: Server, fed: Fed) -> Server:
        s = s._replace(lg=self.lg.round(s.lg, fed))
        if fed.round <= self.warmup:
            return s  # nobody has local layers yet
        try:
            up = fed.ask(fed.sample(), self.lend)  # l_i of who has just trained
        except NobodyAnswered:
            return s
        return s._replace(L=jax.tree.map(lambda L, l_i: L.at[up.ids].set(l_i), s.L, up.l_i), has=s.has.at[up.ids].set(True))

    def lend(self, i: Client, _: None) -> tuple[Copy, Vector]:
        return Copy(i.state), i.state

    def personalize(self, i: Client, s: Server) -> Any:
        n = len(s.has)
        return Mixed(self.lg.personalize(i, s.lg), (i.id < n) & s.has[jnp.minimum(i.id, n - 1)], s)

    def predict(self, i: Client, w: Mixed, x: Array) -> Array:
        def ensemble() -> Array:  # log 1/m sum_j softmax(g(l_j(x)))
            def one(total: Array, j: Array) -> tuple[Array, None]:
                l_j = jax.tree.map(lambda leaf: leaf[j], w.common.L)
                z = jax.nn.log_softmax(i.model.apply(i.model.join(l_j, w.common.lg.g), x))
                return jnp.logaddexp(total, jnp.where(w.common.has[j], z, -jnp.inf)), None

            nothing = jnp.full(jax.eval_shape(i.model.apply, w.own, x).shape, -jnp.inf)
            return jax.lax.scan(one, nothing, jnp.arange(len(w.common.has)))[0] - jnp.log(w.common.has.sum())

        return jax.lax.cond(w.known | ~w.common.has.any(), lambda: i.model.apply(w.own, x), ensemble)
