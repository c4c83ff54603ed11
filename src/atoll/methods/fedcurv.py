"""FedCurv."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.fold import Sum
from atoll.core.importance import importance
from atoll.core.local import data_loss, sgd
from atoll.core.method import hyper, method
from atoll.core.rows import Batch


class Curvature(NamedTuple):
    """The penalty theta' diag(u) theta - 2 theta' v; parameters only."""

    u: Vector  # I_j, the diagonal Fisher information at a client's last model, or a sum of several
    v: Vector  # I_j theta_j


class Server(NamedTuple):
    theta: Vector  # common model
    sum: Curvature  # over all clients that have trained: sum_j u_j and sum_j v_j


class Reply(NamedTuple):
    w: Vector  # theta_s after local training
    du: Vector  # how u_s has changed; in its first round from 0
    dv: Vector
    weight: Array  # n_s


@method
class FedCurv:
    """FedCurv: while a client learns from its own rows, it does not forget what matters to the others.

    Besides its model every client sends how much each parameter matters to it (the diagonal Fisher information I_j at its model theta_j). The others' penalty
    lam sum_j (theta - theta_j)' diag(I_j) (theta - theta_j) is elastic weight consolidation over clients instead of tasks: a parameter that matters to many is
    held where they had it, one that matters to nobody is free.

    Shoham, Avidor, Keren, Israel, Benditkis, Mor-Yosef, Zeitak, "Overcoming Forgetting in Federated Learning on Non-IID Data", NeurIPS 2019 workshop on
    federated learning.

    Kept: server theta, sum u_j and sum v_j; client its own u_s = I_s and v_s = I_s theta_s.
    Traffic per round and client: theta and both sums down, theta_s, the changes of u_s and v_s and n_s up: three times FedAvg's each way (BatchNorm statistics
    once). Measuring I_s takes the gradient of every row by itself, once a round.
    Identity: lam=0 is FedAvg, and so is the first round, in which nobody has measured anything; one client has nobody to remember. On quadratics with I_j their
    curvatures and theta_j their optima, lam=1/2 makes every client's minimum that of all.
    Departures from the paper: (1) The server's sums keep what an absent client sent last; the paper asks everyone in every round. So changes of u_s and v_s are
    sent, which amounts to the same. (2) The Fisher information is the empirical one: squared gradients of single rows with their labels, in evaluation mode.
    (3) Models are averaged by rows as in FedAvg. (4) BatchNorm statistics are averaged and not penalised. The defaults are ours. The penalty sums over
    clients, and its steps diverge where lr * lam * u exceeds 1 for any entry u of sum u_j: many clients want a smaller lam or lr.
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)  # E
    batch: int = hyper(20, ge=0)  # 0 = all rows of the client
    lam: float = hyper(1.0, ge=0, search=(0.01, 1e4, "log"))  # lambda

    def init(self, fed: Fed) -> Server:
        theta = fed.model.init(fed.key())
        return Server(theta, nothing(fed.model.parameters(theta)))

    def join(self, s: Client, shared: Server) -> Curvature:
        return nothing(shared.sum.u)  # u_s, v_s

    def round(self, s: Server, fed: Fed) -> Server:
        S = fed.sample()
        up = fed.ask(S, self.update, s, reduce=Sum(weighed))  # send theta, sum_j u_j, sum_j v_j
        theta = up.w / up.weight  # theta <- mean of theta_s, by rows
        return Server(theta, Curvature(s.sum.u + up.du, s.sum.v + up.dv))  # the sums of everyone's last u_j, v_j

    def update(self, s: Client, shared: Server) -> tuple[Reply, Curvature]:
        own = s.state
        u, v = shared.sum.u - own.u, shared.sum.v - own.v  # of the others, j != s

        def loss(s: Client, theta: Vector, rows: Batch) -> tuple[Array, Vector]:
            value, buffered = data_loss(s, theta, rows)
            w = s.model.parameters(theta)
            return value + self.lam * (u @ (w * w) - 2 * (v @ w)), buffered  # F_s + lambda sum_j (theta - theta_j)' diag(I_j) (theta - theta_j) - a constant

        theta, _ = sgd(s, shared.theta, self.lr, epochs=self.epochs, batch=self.batch, loss=loss)
        fisher = importance(s, theta)  # I_s <- diagonal Fisher information at theta_s
        new = Curvature(fisher, fisher * s.model.parameters(theta))
        return Reply(theta, new.u - own.u, new.v - own.v, s.n.astype("float32")), new

    def global_model(self, s: Client, shared: Server) -> Any:
        return shared.theta


def nothing(parameters: Vector) -> Curvature:
    return Curvature(0.0 * parameters, 0.0 * parameters)


def weighed(reply: Reply) -> Reply:
    """With the model times its rows, so that a sum of replies is one of weighted models."""
    return reply._replace(w=reply.weight * reply.w)
