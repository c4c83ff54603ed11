"""pFedHN."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.local import gradient
from atoll.core.method import hyper, method
from atoll.core.model import BUFFERS, Model
from atoll.core.norm import shapes
from atoll.core.rows import Batch


class Hyper(NamedTuple):
    """The hypernetwork H, and what it is fed with."""

    e: Array  # [n, embedding] e_i of each client
    layers: list[tuple[Array, Array]]  # of the perceptron: kernel [in, hidden], bias [hidden]
    W: Vector  # its linear heads, one for each array of the model: [hidden, ...]
    b: Vector  # [...]


class Server(NamedTuple):
    phi: Hyper
    velocity: Any  # state of the server's optimizer


class Reply(NamedTuple):
    delta: Vector  # theta_i - theta~_i, what local training took off


@method
class PFedHN:
    """pFedHN: the server learns to make models. A network that is fed with a vector for each client, learned as well, puts out that client's weights.

    Clients that are alike get vectors that are near, so what one teaches the hypernetwork serves the others. The client trains the model it is sent for K
    steps, and how it changed is the direction in which H(e_i) should move.

    Shamsian, Navon, Fetaya, Chechik, "Personalized Federated Learning using Hypernetworks", ICML 2021.

    Kept: server the hypernetwork (about `hidden` times the model), all e_i and their momentum; clients nothing.
    Traffic per round and client: theta_i down, delta_i up: the model each way, whatever the hypernetwork's size. To predict, a client needs its newest theta_i
    once, which is not counted; here it makes it from phi.
    Identity: the step is that of the gradient of sum_i <H(e_i; phi), delta_i>, which for K=1 without momentum and decay is lr times the gradient of
    F_i(H(e_i)); K=0 changes nothing but what decay does.
    Departures from the paper: (1) All of a round's clients move H in one step, by the mean of their gradients; in the paper one client is asked per round.
    alpha is larger for that; the authors' is 0.01. (2) The heads' biases begin as the common first model, so that all theta_i begin near it. (3) A client
    held out of training gets the model of the mean of all e_i; in the paper it would learn an e_i of its own. (4) No spectral normalisation, no variant with
    personal heads. All other numbers are those of the authors' code.
    """

    lr: float = hyper(5e-3, gt=0)  # of the clients
    K: int = hyper(50, ge=0)  # local steps
    batch: int = hyper(64, ge=1)
    momentum: float = hyper(0.9, ge=0, lt=1)  # of clients (begins anew every round) and server
    decay: float = hyper(5e-5, ge=0)  # weight decay of the clients
    alpha: float = hyper(0.03, gt=0, search=(1e-3, 0.3, "log"))  # rate of phi and e
    alpha_decay: float = hyper(1e-3, ge=0)  # weight decay of phi and e
    clip: float = hyper(50.0, gt=0)  # largest norm of the server's gradient
    embedding: int = hyper(0, ge=0)  # size of e_i; 0 = 1 + n / 4
    hidden: int = hyper(100, ge=1)  # width of the hypernetwork
    depth: int = hyper(3, ge=0)  # hidden layers after the first

    label = "pFedHN"

    def check_model(self, model: Model) -> None:
        if BUFFERS in shapes(model).tree:
            raise AtollError(f"pFedHN makes weights, and model {model.name!r} also has BatchNorm statistics, which nobody would make. Take one without.")

    def init(self, fed: Fed) -> Server:
        phi = hypernetwork(fed.model.init(fed.key()), fed.key("hypernetwork"), fed.n, self.embedding or 1 + fed.n // 4, self.hidden, self.depth)
        return Server(phi, self._optimizer().init(phi))

    def share(self, s: Server) -> Hyper:
        return s.phi

    def round(self, s: Server, fed: Fed) -> Server:
        S = fed.sample()
        theta, back = jax.vjp(lambda phi: jax.vmap(lambda e: made(phi, e))(phi.e[S]), s.phi)
        up = fed.ask(S, self.update, each=theta)  # send theta_i = H(e_i; phi)
        at = np.flatnonzero(np.isin(S, up.ids))  # who did not answer moves nothing
        delta = jax.tree.map(lambda leaf, got: jnp.zeros_like(leaf).at[at].set(got / len(up.ids)), theta, up.delta)
        (g,) = back(delta)  # (d theta_i / d phi, e_i)' (theta_i - theta~_i)
        change, velocity = self._optimizer().update(g, s.velocity, s.phi)
        return Server(jax.tree.map(jnp.add, s.phi, change), velocity)  # phi, e_i <- phi, e_i - alpha g

    def update(self, i: Client, _: Any, theta: Vector) -> Reply:
        sgd: Any = optax.chain(optax.add_decayed_weights(self.decay), optax.sgd(self.lr, self.momentum))

        def one(carry: Any, rows: Batch) -> Any:
            w, velocity = carry
            u, velocity = sgd.update(gradient(i, w, rows)[0], velocity, w)
            return w + u, velocity

        (w, _velocity), _steps = i.fold(one, (theta, sgd.init(theta)), batch=self.batch, steps=self.K)  # K steps of SGD on F_i
        return Reply(theta - w)

    def personalize(self, i: Client, phi: Hyper) -> Any:
        n = len(phi.e)
        return made(phi, jnp.where(i.id < n, phi.e[jnp.minimum(i.id, n - 1)], phi.e.mean(axis=0)))

    def _optimizer(self) -> Any:
        clip, decay = optax.clip_by_global_norm(self.clip), optax.add_decayed_weights(self.alpha_decay)
        return optax.chain(clip, decay, optax.sgd(self.alpha, self.momentum))


def made(phi: Hyper, e: Array) -> Vector:
    """H(e; phi): the weights of one client's model."""
    (kernel, bias), *deeper = phi.layers
    h = e @ kernel + bias
    for kernel, bias in deeper:
        h = jax.nn.relu(h) @ kernel + bias
    return jax.tree.map(lambda W, b: jnp.tensordot(h, W, axes=1) + b, phi.W, phi.b)


def hypernetwork(w: Vector, key: Array, clients: int, embedding: int, hidden: int, depth: int) -> Hyper:
    """A fresh one whose models lie around `w`; kernels and their biases are uniform within 1 / sqrt(inputs)."""
    keys = iter(jax.random.split(key, 2 * depth + 3 + len(jax.tree.leaves(w))))

    def uniform(inputs: int, *shape: int) -> Array:
        return jax.random.uniform(next(keys), shape, minval=-1, maxval=1) / jnp.sqrt(inputs)

    e = jax.random.normal(next(keys), (clients, embedding))
    layers = [(uniform(n, n, hidden), uniform(n, hidden)) for n in (embedding, *[hidden] * depth)]
    return Hyper(e, layers, jax.tree.map(lambda leaf: uniform(hidden, hidden, *leaf.shape), w), w)
