"""IFCA."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.candidates import losses, smallest
from atoll.core.client import Client
from atoll.core.clusters import one, per_model, side_by_side, trained
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.fold import GroupMean
from atoll.core.local import full_gradient, sgd, step
from atoll.core.method import blocks, hyper, method
from atoll.core.model import Model


class Models(NamedTuple):
    common: Vector  # blocks that all clusters have in common; by default none
    theta: Vector  # [k, ...] the other blocks of the k models


class Reply(NamedTuple):
    common: Vector  # blocks of theta~_i after local steps; for averaging="gradient" of the step - gamma grad F_i(theta_j) alone
    theta: Vector
    group: Array  # int32, j_i
    weight: Array  # 1: means are uniform


@method
class IFCA:
    """IFCA: there are k models; each client takes the one that fits its own rows best and helps to train it, so that clusters of clients form.

    A client predicts with the model of the smallest loss on its train rows; one that has never been asked does too.

    Ghosh, Chung, Yin, Ramchandran, "An Efficient Framework for Clustered Federated Learning", NeurIPS 2020.

    Kept: server k models; clients nothing: they choose anew each time. Means are uniform over clients as in the paper, whatever their rows.
    Traffic per round and client: k models down (common blocks once); one model, or its gradient, its number and a weight up.
    Identity: k=1 is FedAvg for equally large clients, bit for bit; averaging="gradient" with k=1 is gradient descent on the mean loss; a model that
    nobody chose keeps its value.
    Departures from the paper: (1) Gradients of averaging="gradient" are of all rows of a client; the paper allows a part of them. (2) Several random
    starts with the best taken in the end, as in the paper's synthetic experiments, are several runs here. (3) The authors' FEMNIST code trains common
    layers beforehand and freezes them; here they are averaged over all participants in every round, as in the paper. (4) Losses are compared
    in evaluation mode. The defaults are the paper's for rotated MNIST.
    """

    lr: float = hyper(0.1, gt=0)  # gamma
    epochs: int = hyper(10, ge=1)  # with batch=0 these are tau, the number of local steps; averaging="gradient" uses neither
    batch: int = hyper(0, ge=0)  # 0 = all rows of the client
    k: int = hyper(4, ge=1, search=[2, 3, 4, 6])  # models
    averaging: str = hyper("model", choices=("model", "gradient"))  # option II or I
    shared: int | tuple[str, ...] = blocks(0)  # weight sharing: how many first blocks all clusters have in common; or the names of blocks

    def init(self, fed: Fed) -> Models:
        # The first model is that of all other methods; equal ones would never part.
        models = [fed.model.init(fed.key("init" if j == 0 else f"init {j}")) for j in range(self.k)]
        theta = [fed.model.split(w, self._own(fed.model))[1] for w in models]
        return Models(fed.model.split(models[0], self._own(fed.model))[0], side_by_side(theta))

    def round(self, s: Models, fed: Fed) -> Models:
        S = fed.sample()  # M <- participating machines
        up = fed.ask(S, self.update, s, reduce=GroupMean(self.k))  # broadcast theta_j, j = 1..k
        share = up.weight / up.weight.sum()  # [k] |{i: j_i = j}| / |M|
        if self.averaging == "gradient":
            theta = jax.tree.map(lambda old, d: old + per_model(share, old) * d, s.theta, up.theta)  # theta_j <- theta_j - gamma / |M| sum_i g_i
            return Models(s.common + total(share, up.common), theta)
        return Models(total(share, up.common), trained(s.theta, up.theta, share))  # theta_j <- mean of its theta~_i

    def update(self, i: Client, s: Models) -> Reply:
        j = self.cluster(i, s)  # j_i <- argmin_j F_i(theta_j)
        w = i.model.join(s.common, one(s.theta, j))
        if self.averaging == "gradient":
            w = step(i, w, *full_gradient(i, w), self.lr) - w  # - gamma g_i, g_i <- grad F_i(theta_j)
        else:
            w, _ = sgd(i, w, self.lr, epochs=self.epochs, batch=self.batch)  # theta~_i <- LocalUpdate(theta_j, gamma, tau)
        common, theta = i.model.split(w, self._own(i.model))
        return Reply(common, theta, j, jnp.float32(1))

    def personalize(self, i: Client, s: Models) -> Any:
        return i.model.join(s.common, one(s.theta, self.cluster(i, s)))

    def cluster(self, i: Client, s: Models) -> Array:
        """The number (int32) of the model with the smallest loss on the client's train rows."""
        return i.once("j", lambda: smallest(losses(i, [i.model.join(s.common, one(s.theta, j)) for j in range(self.k)])))

    def _own(self, model: Model) -> tuple[str, ...]:
        """Names of the blocks that every cluster has for itself."""
        if isinstance(self.shared, int):
            if self.shared > len(model.blocks):
                raise AtollError(f"IFCA(shared={self.shared}): model {model.name!r} has {len(model.blocks)} blocks ({', '.join(model.blocks)}).")
            return model.blocks[self.shared :]
        common = model.personal_blocks(self.shared)
        return tuple(block for block in model.blocks if block not in common)


def total(share: Array, parts: Vector) -> Vector:
    """The mean over all participants, from the means per model [k, ...]."""
    return jax.tree.map(lambda leaf: (per_model(share, leaf) * leaf).sum(axis=0), parts)
