"""VIRTUAL."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.fold import Sum
from atoll.core.gaussian import Natural, Spread, around, divergence, draw, factor, over, power, spread, times
from atoll.core.local import data_loss
from atoll.core.method import blocks, hyper, method
from atoll.core.model import BUFFERS, Model
from atoll.core.norm import shapes
from atoll.core.rows import Batch

EPS = 1e-4  # of Adam: where neither rows nor cavity pull, a gradient is rounding error, of which a smaller one would make whole steps


class Server(NamedTuple):
    s: Natural  # posterior of the shared blocks theta
    first: Array  # float32, the precision with which every client's factor begins


class Own(NamedTuple):
    s: Natural  # s_i, the client's factor of s
    c: Spread  # c_i, posterior of its private blocks phi_i


class Reply(NamedTuple):
    delta: Natural  # s_i new / s_i old


@method
class VIRTUAL:
    """VIRTUAL: a Bayesian network of which the clients share a part. Everyone has a distribution over weights instead of weights.

    s(theta), over the shared blocks, is the product of a prior and of one factor s_i per client: what its rows say about theta. A client takes its own factor
    out (the cavity s / s_i: what the others say), finds the distribution nearest to cavity times likelihood together with c_i(phi_i) over its private blocks,
    and sends by what its factor has changed. So nobody's rows count twice, however often he takes part, and who is sure of a weight moves it more.

    Corinzia, Beuret, Buhmann, "Variational Federated Multi-Task Learning", arXiv:1906.06268, 2019.

    Kept: server s; client s_i and c_i. All are independent Gaussians: two numbers per weight.
    Traffic per round and client: s and one number down, s_i new / s_i old up: twice the shared blocks each way.
    Identity: s = p prod_i s_i at all times; with a linear model, Gaussian noise and orthogonal designs one round with gamma=1 gives the posterior of all
    rows together, and a second one changes nothing; gamma=0 moves no shared block.
    Departures from the paper: (1) theta are the first blocks of a model and phi_i its last: the client's network gets the server's last layer, and there are no
    further lateral connections. (2) The prior is a factor of its own; the paper splits it among the s_i, which is the same. (3) All factors begin together as a
    Gaussian of std `start` around the common first model, as do all c_i, since from a wide prior no network learns; every client replaces its share of it.
    (4) A factor's precisions are never negative, so that no cavity is wider than the prior. (5) BatchNorm is refused. (6) Clients predict with the newest s.
    batch, epochs, beta and prior are those of the authors' example. Their gamma is 0.5 with five clients a round; many that all replace half of their
    factors at once overshoot, so that it is smaller here. Their lr is 0.001.
    """

    lr: float = hyper(0.01, gt=0)  # of Adam
    epochs: int = hyper(1, ge=1)
    batch: int = hyper(20, ge=1)
    gamma: float = hyper(0.1, ge=0, le=1)  # damping: 1 replaces s_i, 0 keeps it
    beta: float = hyper(0.01, gt=0, search=(1e-4, 1.0, "log"))  # weight of the divergences; 1 is Bayes' rule, less trusts the rows more
    prior: float = hyper(100.0, gt=0)  # std of every weight a priori
    start: float = hyper(0.05, gt=0)  # std of s and c_i before the first round
    personal: int | tuple[str, ...] = blocks(1)  # how many of the last blocks are private; or their names
    samples: int = hyper(10, ge=0)  # networks that are drawn to predict; 0 = the mean weights

    def check(self) -> None:
        if self.start >= self.prior:
            raise AtollError(f"VIRTUAL(start={self.start:g}, prior={self.prior:g}): factors narrow the prior, so start < prior.")

    def check_model(self, model: Model) -> None:
        if BUFFERS in shapes(model).tree:
            raise AtollError(f"VIRTUAL draws new weights for every batch, and BatchNorm statistics (model {model.name!r}) fit none of them. Take one without.")

    def init(self, fed: Fed) -> Server:
        theta, _ = fed.model.split(fed.model.init(fed.key()), self.personal)
        first = 1 / self.start**2 - 1 / self.prior**2  # of all factors together: with the prior's it makes `start`
        return Server(times(self._prior(theta), around(theta, first)), jnp.float32(first / fed.n))  # s = p prod_i s_i

    def join(self, i: Client, server: Server) -> Own:
        theta, phi = i.model.split(i.model.init(i.common_key), self.personal)
        return Own(around(theta, server.first), spread(around(phi, 1 / self.start**2)))

    def round(self, server: Server, fed: Fed) -> Server:
        S = fed.sample()
        up = fed.ask(S, self.update, server, reduce=Sum(changes))  # send s
        return server._replace(s=times(server.s, up.delta))  # s <- s prod_i delta_i

    def update(self, i: Client, server: Server) -> tuple[Reply, Own]:
        old, prior = i.state, self._prior(i.state.c.mean)
        cavity = over(server.s, old.s)  # s / s_i
        adam: Any = optax.adam(self.lr, eps=EPS)

        def loss(qc: tuple[Spread, Spread], rows: Batch) -> Array:
            """1/n_i of the free energy: E_q,c[-log p(D_i | theta, phi)] + KL(q || cavity) + KL(c || p), the first term of one draw."""
            q, c = qc
            key_q, key_c = jax.random.split(jax.random.fold_in(rows.key, 1))
            w = i.model.join(draw(q, key_q), draw(c, key_c))
            return data_loss(i, w, rows)[0] + self.beta / i.n * (divergence(q, cavity) + divergence(c, prior))

        def one(carry: Any, rows: Batch) -> Any:
            qc, moments = carry
            change, moments = adam.update(jax.grad(loss)(qc, rows), moments)
            return optax.apply_updates(qc, change), moments

        begin = (spread(server.s), old.c)  # q = s_i cavity
        ((q, c), _moments), _steps = i.fold(one, (begin, adam.init(begin)), batch=self.batch, epochs=self.epochs)
        new = times(power(factor(q, cavity), self.gamma), power(old.s, 1 - self.gamma))  # s_i <- (q / cavity)^gamma s_i^(1 - gamma)
        return Reply(over(new, old.s)), Own(new, c)

    def personalize(self, i: Client, server: Server) -> Any:
        return spread(server.s), i.state.c

    def predict(self, i: Client, qc: Any, x: Array) -> Array:
        q, c = qc
        if not self.samples:
            return i.model.apply(i.model.join(q.mean, c.mean), x)

        def once(key: Array) -> Array:
            key_q, key_c = jax.random.split(key)
            out = i.model.apply(i.model.join(draw(q, key_q), draw(c, key_c)), x)
            return out if i.model.task == "regression" else jax.nn.log_softmax(out)

        outs = jax.vmap(once)(jax.random.split(i.key_for(0), self.samples))
        return outs.mean(axis=0) if i.model.task == "regression" else jax.nn.logsumexp(outs, axis=0)  # of the mean probabilities

    def _prior(self, like: Vector) -> Natural:
        return around(0.0 * like, 1 / self.prior**2)


def changes(reply: Reply) -> Reply:
    """What is summed: in natural parameters a product is a sum."""
    return reply
