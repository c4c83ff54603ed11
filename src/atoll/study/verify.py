"""Checks identities of methods on given data: both sides are trained with the same seed, and every client's scores are compared after every round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import polars as pl

from atoll.core.errors import AtollError, unknown
from atoll.core.method import configured
from atoll.core.model import Model
from atoll.data.federation import Federation
from atoll.engine.engines import make_engine
from atoll.methods import find
from atoll.parts.selection import Uniform
from atoll.study.identities import Identity, Settings, Value, filled, identities, is_partner, known
from atoll.study.models import choose_models
from atoll.study.named import class_of
from atoll.study.spec import Spec, load_data
from atoll.study.training import Training, check_method, facts_of
from atoll.study.verified import CANNOT, FAILS, Checked, Verification, compared

NUDGE = 1e-5  # of a rate: where that moves scores as much as two sides are apart, training is too unstable to tell rounding from a mistake
BLURRED = 10.0  # times as much, to be sure
COMMON = ("lr", "batch", "epochs")  # what both sides have alike
WORK: Settings = {"lr": 0.1, "batch": 10, "epochs": 1}  # where nothing else is said


def verify(
    spec: Spec,
    methods: Sequence[tuple[str, Settings]] | None = None,
    rounds: int = 2,
    *,
    federation: Federation | None = None,
    models: tuple[Model, ...] | None = None,
    told: Callable[[int, int, str], None] | None = None,
) -> Verification:
    """Checks the identities of methods on the data, the model and with the seed of a specification, and all clients asked in every round.

    methods: names, each with the rate, batch and epochs at which both sides work where they have them; None: the whole table, at those of spec.settings.
    federation and models take the place of what `spec` names. told(checked, of, title): called before the first identity and after each.
    An identity that does not hold or can't be checked, is a result. AtollError for unknown methods and settings, and data that can't be had.
    """
    if rounds < 1:
        raise AtollError(f"Nothing is learned in {rounds} rounds. Ask for 1 at least.")
    pairs: dict[str, tuple[Identity, Settings]] = {}
    alone: list[str] = []
    for name, work in asked_alike(spec, None) if methods is None else methods:
        found = identities(name)
        pairs |= {repr((one, work)): (one, {**WORK, **work}) for one in found}
        alone += [] if found else [name]
    fed = federation or load_data(spec)
    both = Sides(spec, fed, models or choose_models(spec.model, fed), rounds)
    checked: list[Checked] = []
    for one, work in pairs.values():
        if told:
            told(len(checked), len(pairs), title(one.method))
        checked.append(both.check(one, work))
    if told and checked:
        told(len(checked), len(pairs), "")
    without, partners = (tuple(dict.fromkeys(title(name) for name in alone if is_partner(name) == which)) for which in (False, True))
    return Verification(tuple(checked), without, partners, rounds, spec.seed)


def asked_alike(spec: Spec, names: Sequence[str] | None) -> list[tuple[str, Settings]]:
    """Methods (None: all of which an identity is known) at the rate, batch and epochs of a specification's common settings.

    AtollError for unknown methods, values out of range, and other settings, which identities have no use for.
    """
    for name in spec.settings:
        if name not in COMMON:
            raise unknown("setting that both sides of an identity have", name, COMMON)
    for name in names or ():
        identities(name)
    made = configured(class_of("fedavg"), spec.settings)  # reads them, and refuses what can't be
    work = {name: getattr(made, name) for name in spec.settings}
    return [(name, work) for name in (known() if names is None else names)]


def title(name: str) -> str:
    """What a method is called in tables."""
    entry = find(name)
    return entry.title if entry else name


class Sides:
    """Trains sides of identities, each once: many methods are FedAvg in some way."""

    def __init__(self, spec: Spec, federation: Federation, models: tuple[Model, ...], rounds: int):
        self._spec, self._fed, self._models, self._rounds = spec, federation, models, rounds
        self._known: dict[str, pl.DataFrame] = {}

    def check(self, one: Identity, work: Settings) -> Checked:
        """What comes of an identity where both sides work at these rates, batches and epochs."""
        told: dict[str, Any] = {
            "method": title(one.method), "settings": _texts(one.settings), "other": title(one.other), "partner": _texts(one.partner), "work": {},
            "model": one.model, "until": one.until, "why": one.why,
        }  # fmt: skip
        try:
            classes = class_of(one.method), class_of(one.other)
            alike = set.intersection(*({f.name for f in fields(cls)} for cls in classes)) - one.settings.keys() - one.partner.keys()
            told["work"] = {name: work[name] for name in COMMON if name in alike}
            tables = [self._scores(cls, {**told["work"], **own}) for cls, own in zip(classes, (one.settings, one.partner), strict=True)]
            found = compared(*(self._said(one, table) for table in tables))
            if found["state"] == FAILS and found["share"] <= BLURRED * (felt := self._felt(one, {**told["work"], **one.partner}, tables[1])):
                raise AtollError(
                    f"Here the least change grows large: another {told['other']} with a rate that differs by {NUDGE:.0e} of it is apart by {felt:.1%} of a "
                    f"client's loss, and this one by {found['share']:.1%}. Take a smaller lr, fewer rounds or a simpler model."
                )
            return Checked(**told, **found)
        except AtollError as error:
            return Checked(**told, state=CANNOT, reason=str(error))

    def _felt(self, one: Identity, partner: Settings, scores: pl.DataFrame) -> float:
        """By what share of a client's loss the partner moves where its rate changes by next to nothing; 0 where it has no rate."""
        cls = class_of(one.other)
        lr = getattr(configured(cls, filled(partner, self._fed, self._models)), "lr", None)
        if lr is None:
            return 0.0
        nudged = self._scores(cls, {**partner, "lr": lr * (1 + NUDGE)})
        return float(compared(self._said(one, nudged), self._said(one, scores))["share"])

    def _said(self, one: Identity, scores: pl.DataFrame) -> pl.DataFrame:
        """The scores that an identity is about."""
        rounds = min(self._rounds, one.until or self._rounds)
        there = (pl.col("model") == one.model) & (pl.col("rows") > 0) & (pl.col("round") <= rounds) & (pl.col("seen") | one.newcomers)
        return scores.filter(there).sort("round", "client", "split")

    def _scores(self, cls: type[Any], settings: Settings) -> pl.DataFrame:
        """Scores of all clients before training and after every round. AtollError where the method can't be trained here."""
        made = configured(cls, filled(settings, self._fed, self._models))
        key = repr(made)
        if key not in self._known:
            self._known[key] = self._trained(made)
        return self._known[key]

    def _trained(self, method: Any) -> pl.DataFrame:
        spec, pool = self._spec, self._spec.engine != "wire"
        check_method(method, facts_of(self._fed, self._models, has_pool=pool))
        facts = facts_of(self._fed, self._models, method, has_pool=pool)
        engine = make_engine(spec.engine, self._fed, facts, spec.seed, threads=spec.threads, lanes=spec.lanes, together=spec.together)
        try:
            training = Training(method, self._fed, facts, engine, seed=spec.seed, selector=Uniform(None), rounds=self._rounds)
            training.start()
            scores = [training.evaluate()]
            for _ in range(self._rounds):
                training.step()
                scores.append(training.evaluate())
            return pl.concat(scores)
        finally:
            engine.executor.close()


def _texts(settings: Settings) -> dict[str, Any]:
    return {name: value.value if isinstance(value, Value) else value for name, value in settings.items()}
