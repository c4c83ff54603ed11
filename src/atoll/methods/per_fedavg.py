"""Per-FedAvg."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.fold import mean
from atoll.core.local import gradient, sgd, step
from atoll.core.method import hyper, method
from atoll.core.rows import Batch


class Reply(NamedTuple):
    w: Vector  # the client's meta-model after tau local steps
    weight: Array  # 1: the paper averages clients uniformly


@method
class PerFedAvg:
    """Per-FedAvg: learns a common model that one gradient step on a client's own rows turns into a good model for that client.

    Every client minimises F_i(w) = f_i(w - alpha grad f_i(w)), its loss after that step. The gradient of F_i has the Hessian H of f_i in it. "exact" computes
    its product with a vector; "hf" (Hessian-free) takes it from the difference of two gradients, at w +- delta v; "fo" (first order) leaves it out,
    and so comes to rest where F is not least. HF is the default: it follows the gradient of F, as FO does not, without second derivatives.
    In nets with kinks (ReLU, pooling) it is noisy, as its difference sees the kinks and "exact" does not.

    Fallah, Mokhtari, Ozdaglar, "Personalized Federated Learning with Theoretical Guarantees: A Model-Agnostic Meta-Learning Approach", NeurIPS 2020.

    Kept: server the meta-model w; clients nothing: they adapt it anew whenever they predict.
    Traffic per round and client: w down, w_i up: FedAvg's.
    Identity: with alpha=0 and equally large clients it is FedAvg with lr=beta, bit for bit; on quadratics HF is exact for every delta, and the fixed points,
    which tell FO from the other two, are known.
    Departures from the paper: (1) D' is the next batch of shuffled epochs, the last of an epoch may be partial; D and D'' are drawn at random, each without
    regard to the others. (2) To predict, a client takes adapt_steps steps of rate alpha, each on the gradient over all its train rows, not over a
    batch. (3) BatchNorm statistics follow D' (when adapting, all train rows) and are averaged like parameters.
    The defaults of the rates, tau and the batch are ours. The rates keep the paper's names: an lr given to all methods changes neither of them.
    """

    alpha: float = hyper(0.05, ge=0, search=(1e-3, 0.3, "log"))  # rate of a client's adaptation, in training and when it predicts
    beta: float = hyper(0.05, gt=0, search=(1e-3, 1.0, "log"))  # rate of the meta-model
    steps: int = hyper(10, ge=1)  # tau
    batch: int = hyper(20, ge=1)  # rows in each of D, D', D''
    variant: str = hyper("hf", choices=("fo", "hf", "exact"))
    delta: float = hyper(1e-3, gt=0)  # of HF's difference of gradients
    adapt_steps: int = hyper(1, ge=0)

    label = "Per-FedAvg"

    def init(self, fed: Fed) -> Vector:
        return fed.model.init(fed.key())

    def round(self, w: Vector, fed: Fed) -> Vector:
        A = fed.sample()  # server chooses a set A_k of r n users
        up = fed.ask(A, self.update, w, reduce=mean)  # and sends w_k to them
        return up.w  # w_{k+1} <- 1 / (r n) sum_i w_i

    def update(self, i: Client, w: Vector) -> Reply:
        w, _ = i.fold(lambda w, D1: self._meta_step(i, w, D1), w, batch=self.batch, steps=self.steps)  # for t = 1 ... tau
        return Reply(w, jnp.float32(1))

    def _meta_step(self, i: Client, w: Vector, D1: Batch) -> Vector:
        D, D2 = (i.draw(self.batch, key) for key in jax.random.split(D1.key))
        g, _ = gradient(i, w, D)
        adapted = step(i, w, g, w, self.alpha)  # w~ <- w - alpha grad f(w, D)
        v, buffered = gradient(i, adapted, D1)
        if self.variant != "fo":
            v = v - self.alpha * self._hessian_times(i, w, v, D2)
        return step(i, w, v, buffered, self.beta)  # w <- w - beta (I - alpha H(w, D'')) grad f(w~, D')

    def _hessian_times(self, i: Client, w: Vector, v: Vector, D2: Batch) -> Vector:
        def grad(u: Vector) -> Vector:
            return gradient(i, u, D2)[0]

        if self.variant == "exact":
            return jax.jvp(grad, (w,), (v,))[1]
        return (grad(w + self.delta * v) - grad(w - self.delta * v)) / (2 * self.delta)

    def personalize(self, i: Client, w: Vector) -> Any:
        return sgd(i, w, self.alpha, batch=0, steps=self.adapt_steps)[0]  # w - alpha grad f_i(w) on the train rows

    def global_model(self, i: Client, w: Vector) -> Any:
        return w
