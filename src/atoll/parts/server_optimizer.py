"""Server optimizers around any method with a common model: what a round changes is a pseudo-gradient, and the server takes a step of its own along it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from tree_math import Vector

from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.method import hyper, label, shown
from atoll.core.model import BUFFERS, Model
from atoll.parts.around import Around, Wrapping, completed, passed_on, title_of

PASSED_ON = ("personalize", "global_model", "predict", "before", "join", "welcome", "cluster")  # what a method may define beside init, round and share


class State(NamedTuple):
    """The server's state."""

    inner: Any  # the method's
    m: Vector  # momentum
    v: Vector  # second moments; zeros where the rule keeps none


class Rule(NamedTuple):
    """One server optimizer. second: the new second moment of (old one, square of the change, beta2), None = plain momentum."""

    name: str
    title: str
    second: Callable[[Array, Array, float], Array] | None
    lr: float


RULES = {
    rule.name: rule
    for rule in (
        Rule("momentum", "M", None, 1.0),
        Rule("adagrad", "Adagrad", lambda v, d, _: v + d, 0.1),
        Rule("adam", "Adam", lambda v, d, beta: beta * v + (1 - beta) * d, 0.1),
        Rule("yogi", "Yogi", lambda v, d, beta: v - (1 - beta) * d * jnp.sign(v - d), 0.1),
    )
}


def momentum(kind: type[Any]) -> type[Any]:
    """The class of a method's class with momentum at the server."""
    return _optimized(kind, "momentum")


def adagrad(kind: type[Any]) -> type[Any]:
    """The class of a method's class with Adagrad at the server."""
    return _optimized(kind, "adagrad")


def adam(kind: type[Any]) -> type[Any]:
    """The class of a method's class with Adam at the server."""
    return _optimized(kind, "adam")


def yogi(kind: type[Any]) -> type[Any]:
    """The class of a method's class with Yogi at the server."""
    return _optimized(kind, "yogi")


@functools.cache
def _optimized(kind: type[Any], name: str) -> type[Any]:
    rule, inside, title = RULES[name], dataclasses.fields(kind), title_of(kind)
    if any(f.name.startswith("server_") for f in inside):
        raise AtollError(f"{title} has a server rate of its own: set that, and leave the wrapper +{name} out.")

    class Optimized(Wrapping):
        around = Around(kind, name)
        label = f"{title}+{rule.title}"

        def init(self, fed: Fed) -> State:
            s = self.inner.init(fed)
            x = _common(s, fed.models, label(self))
            zeros = jax.tree.map(jnp.zeros_like, x)
            tau2 = 0.0 if rule.second is None else self.server_tau**2
            return State(s, zeros, jax.tree.map(lambda leaf: jnp.full_like(leaf, tau2), x))  # v_(-1) = tau^2

        def share(self, s: State) -> Any:
            return shown(self.inner, s.inner)

        def round(self, s: State, fed: Fed) -> State:
            new = self.inner.round(s.inner, fed)
            x, after = (_common(state, fed.models, label(self)) for state in (s.inner, new))
            change = after - x  # Delta_t = mean of x_i - x_t
            beta = self.server_beta1
            m = jax.tree.map(lambda m, d: beta * m + (d if rule.second is None else (1 - beta) * d), s.m, change)
            if rule.second is None:
                v, step = s.v, m
            else:
                second = rule.second
                v = jax.tree.map(lambda v, d: second(v, jnp.square(d), self.server_beta2), s.v, change)
                step = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + self.server_tau), m, v)  # m_t / (sqrt(v_t) + tau)
            return State(_with_common(new, _stepped(x, after, step, self.server_lr)), m, v)  # x_(t+1) = x_t + eta m_t / ...

    for given in PASSED_ON:
        if hasattr(kind, given):
            setattr(Optimized, given, passed_on(given))
    more = {
        "server_lr": ("float", hyper(rule.lr, gt=0)),  # eta
        "server_beta1": ("float", hyper(0.9, ge=0, lt=1)),
    }
    if rule.second is not None:
        more |= {"server_tau": ("float", hyper(1e-3, gt=0))}
        more |= {"server_beta2": ("float", hyper(0.99, ge=0, lt=1))}
    return completed(Optimized, more, rule.title, _DOC.format(title=title, rule=rule.title))


def _common(state: Any, models: tuple[Model, ...], title: str) -> Vector:
    """The common model, or the part of it that clients share, in a method's server state: the state itself, or its first field. AtollError for others."""
    parts: tuple[Any, ...] = state if isinstance(state, tuple) else (state,)
    first = next(iter(parts), None)
    why = None
    model, *more = models
    if not isinstance(first, Vector):
        why = "its server keeps no common model"
    elif more:
        why = "its clients have several architectures"
    else:
        like = jax.eval_shape(model.init, jax.random.key(0)).tree
        known = [b for b in first.tree if b != BUFFERS]
        shapes = [jax.tree.map(jnp.shape, first.tree[b]) == jax.tree.map(jnp.shape, like[b]) for b in known if b in like]
        others = [part for part in parts[1:] if isinstance(part, Vector)]
        rest = {b for part in others for b in part.tree} - {*known, BUFFERS}
        if not known or not all(shapes) or len(shapes) < len(known) or rest:
            why = "its server keeps several models, or parts of them"
    if why:
        raise AtollError(f"{title}: a server optimizer steps along the change of one common model, and here {why}. Run the method without it.")
    return first  # type: ignore[return-value]


def _with_common(state: Any, w: Vector) -> Any:
    return w if isinstance(state, Vector) else state._replace(**{state._fields[0]: w})


def _stepped(x: Vector, after: Vector, step: Vector, lr: float) -> Vector:
    """x + lr * step for the parameters; buffers (BatchNorm statistics) are as after the round."""
    moved = (x + lr * step).tree
    return Vector({block: after.tree[block] if block == BUFFERS else moved[block] for block in after.tree})


_DOC = """{title}, and the server takes steps of its own: the change that a round brings is taken for a gradient, and {rule} goes along it.

    One step of plain averaging follows every swing of the clients that happened to be asked; momentum and rates per coordinate even them out.

    Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan, "Adaptive Federated Optimization", ICLR 2021 (Adagrad, Adam, Yogi); Hsu, Qi, Brown,
    "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification", 2019 (M, momentum). For {title}'s own paper see {title}.

    Kept: as in {title}, and at the server one or two more numbers per weight that is common.
    Traffic per round and client: {title}'s.
    Identity: momentum with server_beta1=0 and server_lr=1 is {title} up to rounding.
    Departures from the paper: (1) Those of {title}. (2) Moments are not corrected for their start, as in the paper; BatchNorm statistics are not stepped.
    (3) Only the common model takes steps, other server state ({title}'s control variates, moments, ...) is as after the round. The paper tunes its rates;
    ours are 0.1 for Adagrad, Adam and Yogi and 1 for momentum.
    """
