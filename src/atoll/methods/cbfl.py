"""CBFL."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tree_math import Vector

from atoll.core.autoencoder import codes, denoise, fresh
from atoll.core.client import Client
from atoll.core.clusters import count, k_means, means, one, side_by_side, trained
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.fold import EachMean, mean
from atoll.core.keys import host_generator
from atoll.core.local import sgd
from atoll.core.method import hyper, method, stateless
from atoll.core.model import Model


class Coder(NamedTuple):
    """How a row's community is found; a client keeps it once it is there."""

    w: Vector  # the autoencoder
    c: Array | None  # [communities, code] centroids; None while the autoencoder learns


class Server(NamedTuple):
    """The server's state."""

    coder: Coder
    theta: Vector  # [communities, ...]


class Encoder(NamedTuple):
    w: Vector  # the autoencoder after the client's training
    weight: Array  # n_i


class Code(NamedTuple):
    mean: Array  # [code], of the client's rows


class Reply(NamedTuple):
    theta: Vector  # [communities, ...]
    weight: Array  # [communities] m_k, rows of each community at the client


@method
class CBFL:
    """Community-based FL: rows are put into communities by short codes of what they look like, and each community has a model of its own.

    An autoencoder is learned together first. K-means on the clients' mean codes gives the communities; then every client trains each community's model on
    its rows of that community, and a row is predicted by its community's model. So communities are of rows (patients), not of clients (hospitals).

    Huang, Shea, Qian, Masurkar, Deng, Liu, "Patient clustering improves efficiency of federated machine learning to predict mortality and hospital stay time
    using distributed electronic medical records", Journal of Biomedical Informatics 99, 2019.

    Kept: server autoencoder, centroids, K models; client autoencoder, centroids.
    Traffic per round and client: K models down; K models and K counts up. In the first A rounds the autoencoder down; it and n_i up; in the last of them once
    more the autoencoder down and a mean code up, from all clients. Once, in the first round after these, all that the server has down.
    Identity: K=1 is FedAvg after A rounds of nothing; where each client's rows are of one community the communities are FedAvg by themselves; sizes add up to
    the number of rows.
    Departures from the paper: (1) Its autoencoder is described in part only: here it has one layer of hidden units on each side of the code and learns by
    Adam; all its numbers are ours. Hidden values are set to 0, which in its rows of drugs given is "not given". (2) It takes the run's first A rounds; until
    they are over the K models are as at the start. (3) The whole autoencoder is averaged by n_i; the encoder alone is used after. (4) In the tables a client
    is in the community of most of its rows; each row is predicted by its own community. (5) K-means sees clients' means, as in the paper: centroids between
    which single rows do not differ give communities at random. All defaults are ours but K, which the paper varies (5, 10, ...).
    """

    lr: float = hyper(0.05, gt=0)
    epochs: int = hyper(1, ge=1)
    batch: int = hyper(20, ge=0)  # 0 = all rows of the community at the client
    K: int = hyper(5, ge=1, search=[2, 3, 5, 8])  # communities
    A: int = hyper(5, ge=1)  # rounds for the autoencoder
    ae_epochs: int = hyper(5, ge=1)
    ae_batch: int = hyper(20, ge=1)
    ae_lr: float = hyper(0.003, gt=0)  # of Adam
    hidden: int = hyper(64, ge=1)  # hidden units of encoder and decoder
    code: int = hyper(16, ge=1)
    noise: float = hyper(0.5, ge=0, lt=1)  # share of values hidden from the autoencoder while it learns

    def check_model(self, model: Model) -> None:
        if model.task == "sequence":
            raise AtollError("CBFL makes codes of rows of numbers, and this model reads tokens. Use a source whose rows are numbers.")

    def init(self, fed: Fed) -> Server:
        ae = fresh(fed.key("autoencoder"), int(np.prod(fed.model.input_shape)), self.hidden, self.code)
        return Server(Coder(ae, None), side_by_side([fed.model.init(fed.key())] * self.K))

    def join(self, i: Client, s: Server) -> Coder:
        return s.coder

    def round(self, s: Server, fed: Fed) -> Server:
        if s.coder.c is not None:
            up = fed.ask(fed.sample(), self.update, s.theta, reduce=EachMean())  # 3. every client trains every model on its rows of that community
            return s._replace(theta=trained(s.theta, up.theta, up.weight))  # theta_k <- sum_i m_ik / m_k theta_ik
        ae = fed.ask(fed.sample(), self.encode, s.coder.w, reduce=mean).w  # 1. federated denoising autoencoder
        if fed.round < self.A:
            return s._replace(coder=Coder(ae, None))
        up = fed.ask(fed.everyone(), self.mean_code, ae)  # 2. clients' mean codes; K-means
        label = k_means(np.asarray(up.mean), self.K, int(host_generator(fed.seed, "communities", 0).integers(1 << 31)))
        c = means(up.mean, label)
        return Server(Coder(ae, c), one(s.theta, slice(len(c))))

    @stateless
    def encode(self, i: Client, ae: Vector) -> Encoder:
        ae = denoise(i, ae, self.ae_lr, batch=self.ae_batch, epochs=self.ae_epochs, hidden=self.noise)
        return Encoder(ae, i.n.astype("float32"))

    @stateless
    def mean_code(self, i: Client, ae: Vector) -> Code:
        return Code(i.train.sum(lambda rows: (codes(ae, rows.x) * rows.mask[:, None]).sum(axis=0)) / i.n)

    def update(self, i: Client, theta: Vector) -> tuple[Reply, Coder]:
        at = i.map(lambda rows: community(i.state, rows.x))
        new, m = [], []
        for k in range(count(theta)):
            own = i.on(i.train.only(at == k))
            new.append(sgd(own, one(theta, k), self.lr, epochs=self.epochs, batch=self.batch)[0])
            m.append(own.n)
        return Reply(side_by_side(new), jnp.stack(m).astype("float32")), i.state

    def global_model(self, i: Client, s: Server) -> Any:
        return s

    def predict(self, i: Client, s: Server, x: Array) -> Array:
        if s.coder.c is None:
            return i.model.apply(one(s.theta, 0), x)  # they are all as at the start
        out = jnp.stack([i.model.apply(one(s.theta, k), x) for k in range(count(s.theta))])
        return out[community(s.coder, x), jnp.arange(len(x))]

    def cluster(self, i: Client, s: Server) -> Array:
        if s.coder.c is None:
            return jnp.int32(-1)
        members = i.train.sum(lambda rows: (jax.nn.one_hot(community(s.coder, rows.x), count(s.theta)) * rows.mask[:, None]).sum(axis=0))
        return jnp.argmax(members)


def community(coder: Coder, x: Array) -> Array:
    """int32 [batch], the centroid nearest to each row's code."""
    return jnp.square(codes(coder.w, x)[:, None] - jnp.asarray(coder.c)).sum(axis=2).argmin(axis=1).astype(jnp.int32)
