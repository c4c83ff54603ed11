"""FedDF."""

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
from atoll.core.fold import apart
from atoll.core.local import descend, masked_mean, sgd
from atoll.core.method import hyper, method
from atoll.core.model import Model
from atoll.core.norm import shapes
from atoll.core.rows import Batch

ROUNDING = 1e-5  # probabilities that differ by less agree

Prototypes = dict[str, Vector]  # number of an architecture among the federation's -> its common model x_p


class Reply(NamedTuple):
    x: Vector  # the client's model after local training, of its architecture


class Lesson(NamedTuple):
    x: Vector  # the student
    f: Array  # [public rows, ..., outputs] mean scores of all teachers


@method
class FedDF:
    """FedDF: the server averages the models of each architecture, and then teaches these averages what all clients' models together say about public rows.

    Averaging is only possible within an architecture, and loses where clients have learnt different things. An ensemble does not: the mean of all
    models' scores, whatever their architectures, is the teacher of every average. The public rows need no labels, and stay at the server.

    Lin, Kong, Stich, Jaggi, "Ensemble Distillation for Robust Model Fusion in Federated Learning", NeurIPS 2020, arXiv 2006.07242.

    Kept: server one prototype x_p of each architecture, and the public rows; clients nothing.
    Traffic per round and client: the prototype of its architecture down, its model up: FedAvg's.
    Identity: steps=0 is FedAvg with equal weights within each architecture, whose averages know nothing of each other; so is any number of steps for
    linear models of one architecture, where the mean of scores is the score of the mean; one client has nothing to learn from itself; a number added to
    all scores of a row changes nothing.
    Departures from the paper: (1) A fixed number of distillation steps, on public rows alone. The paper holds labelled rows for validation at the server,
    takes up to 10,000 steps, stops after 1,000 without gain, and can leave out teachers that are no better than guessing. (2) Probabilities of student and
    teacher that differ by rounding agree: Adam would make full steps of its signs. (3) An architecture none of whose clients answered is taught as it was.
    Averages have equal weights, and the student's BatchNorm statistics follow the public rows, as in the authors' code. All numbers but steps are theirs
    for CIFAR-10.
    """

    lr: float = hyper(0.1, gt=0)
    epochs: int = hyper(40, ge=1)
    batch: int = hyper(64, ge=0)  # 0 = all rows of the client
    steps: int = hyper(1000, ge=0)  # N, of the distillation of each architecture
    distil_batch: int = hyper(128, ge=1)
    distil_lr: float = hyper(1e-3, gt=0, search=(1e-4, 1e-2, "log"))  # eta of Adam, along a cosine to 0
    clip: float = hyper(5.0, gt=0)  # largest norm of a gradient of the distillation

    many_architectures = True
    needs_public = True

    def check_model(self, model: Model) -> None:
        if model.task == "regression":
            raise AtollError(f"FedDF distils probabilities, and model {model.name!r} is for {model.task}. It works for classification and sequences.")

    def init(self, fed: Fed) -> Prototypes:
        _ = fed.public  # refused here where there are none
        kinds = np.unique(fed.architecture).tolist()
        forms = [_form(shapes(fed.models[p])) for p in kinds]
        if any(form in forms[:n] for n, form in enumerate(forms)):
            names = ", ".join(fed.models[p].name for p in kinds)
            raise AtollError(f"FedDF tells architectures by the shapes of their weights, and two of these have the same: {names}. Give other --model.")
        return {str(p): fed.models[p].init(fed.key()) for p in kinds}

    def round(self, x: Prototypes, fed: Fed) -> Prototypes:
        S = fed.sample()
        up = fed.ask(S, self.update, each=[x[str(p)] for p in fed.architecture[S]], reduce=apart)  # send x_p(k)
        x, f = {**x}, jnp.float32(0)
        for one in up.reply:
            p = int(fed.architecture[up.ids[one.at[0]]])
            x[str(p)] = jax.tree.map(lambda leaf: jnp.mean(jnp.asarray(leaf), axis=0), one.reply.x)  # x_p <- mean of x_k, k of S with p(k) = p
            f = f + fed.at_server(self.teach, one.reply.x, model=fed.models[p])
        f = f / len(up.ids)  # 1/|S| sum_k f(x_k, d) for all public rows d, of all architectures
        return {p: fed.at_server(self.distil, Lesson(x_p, f), model=fed.models[int(p)]) for p, x_p in x.items()}

    def update(self, k: Client, _: None, x: Vector) -> Reply:
        return Reply(sgd(k, x, self.lr, epochs=self.epochs, batch=self.batch)[0])

    def teach(self, server: Client, teachers: Vector) -> Array:
        """[public rows, ..., outputs] sum of the teachers' scores; here the rows are the public ones."""
        return server.map(lambda d: jax.lax.map(lambda x: server.model.apply(x, d.x), teachers).sum(axis=0))

    def distil(self, server: Client, given: Lesson) -> Vector:
        """The student after N steps: x_p <- x_p - eta d/dx_p KL(softmax f(d) || softmax f(x_p, d)) on batches d."""
        d = server.on(server.train.instead(lambda n: (server.train.take(n).x, given.f[n]), server.n, None))  # the teacher's scores are their targets
        adam: Any = optax.chain(optax.clip_by_global_norm(self.clip), optax.adam(optax.cosine_decay_schedule(self.distil_lr, max(1, self.steps))))

        def loss(server: Client, x: Vector, rows: Batch) -> tuple[Array, Vector]:
            f, x = server.model.train(x, rows.x, rows.mask, rows.key)
            error = jax.lax.stop_gradient(jax.nn.softmax(f) - jax.nn.softmax(rows.y))  # the gradient of KL in the student's scores
            error = jnp.where(jnp.abs(error) > ROUNDING, error, 0)
            return masked_mean((error * f).reshape(len(f), -1, f.shape[-1]).sum(axis=2).mean(axis=1), rows.mask), x  # a value that has this gradient

        start = given.x, adam.init(given.x)
        (x, _), _ = d.fold(lambda carry, rows: descend(server, adam, carry, rows, loss), start, batch=self.distil_batch, steps=self.steps)
        return x

    def global_model(self, k: Client, x: Prototypes) -> Any:
        mine = _form(shapes(k.model))
        return next(x_p for x_p in x.values() if _form(x_p) == mine)


def _form(x: Vector) -> Any:
    return jax.tree.structure(x), [leaf.shape for leaf in jax.tree.leaves(x)]
