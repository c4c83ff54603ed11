"""Work done by a client program: floating-point operations and steps.

XLA's cost analysis says what one pass of a loop body costs; the loop says how often it ran. XLA counts the body of an inner loop once, so the
inner loops of known length found in the traced body are multiplied out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer, eval_jaxpr


class Work:
    """Collects, while a program is traced or run, what its loops cost. One per program call; `sites` may be shared to analyse each loop once."""

    def __init__(self, sites: list[float] | None = None):
        self.sites = [] if sites is None else sites
        self.flops: Array = jnp.float32(0)
        self.steps: Array = jnp.int32(0)
        self._site = 0
        self._inside = False
        self._inner: Inner | None = None

    def loop(self, body: Callable[..., Any], args: tuple[Any, ...], trips: Array | int, steps: Array | int | None = None) -> None:
        """Count `trips` passes of `body(*args)`. `steps` of them are optimisation steps (default: all). Nested loops belong to the outer one."""
        if self._inside:
            return
        if self._site == len(self.sites):
            self._inside = True
            try:
                self.sites.append(body_flops(body, args))
            finally:
                self._inside = False
        per_pass = self.sites[self._site]
        self._site += 1
        self.flops = self.flops + jnp.float32(per_pass) * jnp.asarray(trips, jnp.float32)
        self.steps = self.steps + jnp.asarray(trips if steps is None else steps, jnp.int32)

    def run(self, body: Callable[..., Any], carry: Any, trips: Array | int, steps: Array | int | None = None, *, fixed: bool = False) -> Any:
        """`carry = body(t, carry)` for t = 0, 1, ..., trips - 1, counted as in `loop`.

        fixed: `trips` was known before any loop around this one began, so that such a loop can count the passes of this one too.
        """
        if self._inside:
            if fixed and self._inner is not None and isinstance(trips, Tracer):  # a number of passes that is known is in the cost already
                self._inner.count(body, (jnp.int32(0), carry), trips)
            return jax.lax.fori_loop(0, trips, body, carry)
        self.loop(body, (jnp.int32(0), carry), trips, steps)
        inner = Inner()
        self._inside = True
        try:
            carry = jax.lax.fori_loop(0, trips, self._counting(inner, body), carry)
        finally:
            self._inside, self._inner = False, None
        self.flops = self.flops + inner.flops() * jnp.asarray(trips, jnp.float32)
        return carry

    def run_until(self, body: Callable[..., Any], carry: Any, trips: Array, every: Array | int, done: Callable[[Any], Array]) -> tuple[Any, Array]:
        """As `run`, but after every `every` passes, and after the last, `done(carry)` is asked, and True ends the loop. Returns (carry, passes made)."""
        inside, of_body, of_done = self._inside, Inner(), Inner()
        body_, done_ = (body, done) if inside else (self._counting(of_body, body), self._counting(of_done, done))

        def some(state: tuple[Array, Any, Array]) -> tuple[Array, Any, Array]:
            t, carry, _ = state
            end = jnp.minimum(t + every, trips)
            carry = jax.lax.fori_loop(t, end, body_, carry)
            return end, carry, done_(carry)

        self._inside = True
        try:
            t, after, _ = jax.lax.while_loop(lambda state: (state[0] < trips) & ~state[2], some, (jnp.int32(0), carry, jnp.bool_(False)))
        finally:
            self._inside, self._inner = inside, self._inner if inside else None
        if not inside:
            asked = jnp.where(t > 0, (t + every - 1) // jnp.maximum(every, 1), 0)
            self.loop(body, (jnp.int32(0), carry), t)
            self.loop(done, (carry,), asked, steps=0)
            self.flops = self.flops + of_body.flops() * t + of_done.flops() * asked
        return after, t

    def _counting(self, inner: Inner, traced: Callable[..., Any]) -> Callable[..., Any]:
        """`traced`, noting its inner loops in `inner`; JAX may trace it more than once."""

        def counted(*args: Any) -> Any:
            inner.trips.clear()
            self._inner = inner
            return traced(*args)

        return counted


class Inner:
    """The loops inside one pass of a loop whose own passes are known outside of it. One pass of each is in the outer loop's cost already."""

    def __init__(self) -> None:
        self.per_pass: list[float] = []
        self.trips: list[Array | int] = []

    def count(self, body: Callable[..., Any], args: tuple[Any, ...], trips: Array | int) -> None:
        if len(self.trips) == len(self.per_pass):
            self.per_pass.append(body_flops(body, args))
        self.trips.append(trips)

    def flops(self) -> Array:
        """What the passes beyond the first cost."""
        more = [per * (jnp.asarray(n, jnp.float32) - 1) for per, n in zip(self.per_pass, self.trips, strict=True)]
        return sum(more, jnp.float32(0))


_known: dict[bytes, float] = {}  # FLOPs by a hash of the traced program: numbers that depend on nothing else, and dear to find


def body_flops(body: Callable[..., Any], args: tuple[Any, ...]) -> float:
    """Floating-point operations of one call, by XLA's cost analysis of the unoptimised program. `args` may be tracers: only shapes are used."""
    with jax.disable_jit(False):
        closed = jax.make_jaxpr(body)(*jax.tree.map(_shape, args))
        return _jaxpr_flops(closed.jaxpr, closed.consts)


def _jaxpr_flops(jaxpr: Any, consts: Any) -> float:
    """XLA's count, in which every inner loop has one pass, plus the passes that it leaves out."""
    key = hashlib.sha256(str(jaxpr).encode()).digest()  # the text has all operations, their shapes and types, those of constants too
    if key not in _known:
        total = _counted_once(jaxpr, consts)
        for inner, length in _inner_loops(jaxpr):
            total += length * _jaxpr_flops(inner.jaxpr, inner.consts) - _counted_once(inner.jaxpr, inner.consts)
        _known[key] = total
    return _known[key]


def _counted_once(jaxpr: Any, consts: Any) -> float:
    structs = ([_shape(c) for c in consts], [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in jaxpr.invars])
    traced = jax.jit(lambda c, a: eval_jaxpr(jaxpr, c, *a)).trace(*structs)
    lowered = traced.lower(lowering_platforms=("tpu",))  # nothing runs there: on a CPU the models' convolution fills up channels, which is no work asked for
    cost: Any = lowered.cost_analysis()
    return float((cost or {}).get("flops", 0.0))


def _inner_loops(jaxpr: Any) -> Iterator[tuple[Any, int]]:
    """The outermost scans (loops of known length) in a traced program."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation.params["jaxpr"], equation.params["length"]
            continue
        for value in equation.params.values():
            for item in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(item, "jaxpr", item)
                if hasattr(inner, "eqns"):
                    yield from _inner_loops(inner)


def _shape(leaf: Any) -> Any:
    leaf = leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
