"""The advisor: measures how clients differ, runs pilots on several splits, and comes to an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from atoll.advice.candidates import RATES, candidates, model_for
from atoll.advice.command import next_command
from atoll.advice.conclude import concluded
from atoll.advice.differences import differences
from atoll.advice.pilot import Pilot, benign, carry_out, planned, same_tests, smaller
from atoll.advice.result import Advice
from atoll.core.errors import AtollError
from atoll.data.federation import Federation
from atoll.study.models import choose_models
from atoll.study.run import Watcher
from atoll.study.spec import Spec, load_data, make_spec

LEAST_SPLITS, MOST_SPLITS = 2, 5
ROUNDS = 40


def advise(
    data: str | Federation = "digits",
    *,
    private: float | None = None,
    minutes: float = 2.0,
    splits: int | None = None,
    worth: float | None = None,
    rates: Sequence[float] = RATES,
    out: str | Path | None = None,
    watcher: Callable[[int], Watcher] | None = None,
    **settings: Any,
) -> Advice:
    """Whether personalization pays on a federation, with which family of methods, and what it costs.

    data: a source's name (see atoll.data.load), or a Federation, whose split is then the only one: repetitions differ in their training alone. private:
    measures how clients differ from noised counts alone, with this epsilon (in the pilot clients report scores as they are). minutes: no further split is
    begun where they would be over; at least 2 and at most 5 splits are looked at. splits: so many instead. worth: the smallest gain that counts, of accuracy
    (default 0.01) or as a share of the common model's mean loss (0.01). rates: learning rates tried for every method. out: the folder of the pilots (default:
    runs/<time>-<data>); pilots of the same question that are there already are not run again, and one that was stopped goes on. watcher: makes, of a number
    of trainings, what is told how they go. settings: skew, clients, limit and other arguments of
    atoll.data.load (options of the source as options={...}), model, seed, rounds and any other key of a specification. AtollError for what can't be.
    """
    federation = data if isinstance(data, Federation) else None
    keys = ("skew", "clients", "unseen", "split", "public", "limit", "resample", "options")
    inside = {name: settings.pop(name) for name in keys if name in settings}
    if isinstance(settings.get("model"), str):
        settings["model"] = [settings["model"]]
    spec = make_spec({"rounds": ROUNDS, **settings, "data": {"source": "(given)" if federation is not None else data, **inside}})
    return advise_on(spec, federation, private=private, minutes=minutes, splits=splits, worth=worth, rates=rates, out=out, watcher=watcher)


def advise_on(
    asked: Spec,
    federation: Federation | None = None,
    *,
    private: float | None = None,
    minutes: float = 2.0,
    splits: int | None = None,
    worth: float | None = None,
    rates: Sequence[float] = RATES,
    out: str | Path | None = None,
    watcher: Callable[[int], Watcher] | None = None,
    command: str = "atoll.advise(...)",
) -> Advice:
    """The same for a specification, whose methods and settings are not looked at."""
    from atoll.api import new_folder
    from atoll.report.html import write_report

    began = time.perf_counter()
    _check(minutes, splits, worth, rates)
    whole = federation or load_data(asked)
    _check_data(whole)
    spec, note = (asked, "") if federation is not None else smaller(asked, whole)
    fed = whole if spec is asked else load_data(spec)
    differ = differences(whole, private, asked.seed)
    spec = spec.model_copy(update={"model": spec.model or model_for(fed)})
    if len(spec.model) > 1:
        raise AtollError(f"The advisor compares methods on one architecture, and {len(spec.model)} were given. Give one model.")
    (model,) = choose_models(spec.model, fed)
    tried = candidates(differ.words, fed, model, spec.rounds)
    folder = new_folder(spec, out)
    pilots: list[Pilot] = []
    drawn_anew = federation is None
    while _goes_on(len(pilots), splits, time.perf_counter() - began, 60 * minutes):
        here = _another(spec, len(pilots), federation is None)
        split = fed if federation is not None or not pilots else load_data(here)
        drawn_anew = drawn_anew and not (pilots and same_tests(fed, split))
        plan = planned(here, tried, rates, split)
        pilot = carry_out(plan, tried, folder / f"split-{len(pilots) + 1}", watcher(len(plan.entries)) if watcher else None, command)
        pilots.append(benign(pilot, split))
    write_report([one.folder for one in pilots], folder / "report.html")
    how: Any = {
        "drawn_anew": drawn_anew,
        "worth": worth,
        "epsilon": private,
        "model": next(iter(spec.model), ""),
        "rounds": spec.rounds,
        "note": note,
        "folder": folder,
    }
    made = concluded(pilots, tried, fed, differ, seconds=time.perf_counter() - began, **how)
    made = replace(made, command=next_command(made, asked))
    (folder / "advice.json").write_text(made.json(), encoding="utf-8")
    return made


def _another(spec: Spec, n: int, anew: bool) -> Spec:
    """The specification of pilot n: training with another seed and, if asked, other rows of the same clients to train, validate and test."""
    if not n:
        return spec
    seed = spec.seed + n
    data = spec.data.model_copy(update={"seed": spec.seed if spec.data.seed is None else spec.data.seed, "split_seed": seed if anew else spec.data.split_seed})
    return spec.model_copy(update={"seed": seed, "data": data})


def _goes_on(done: int, splits: int | None, spent: float, seconds: float) -> bool:
    """Whether one more split is looked at: as many as asked for, or as the time allows, where one takes as long as those before did on average."""
    if splits is not None or done < LEAST_SPLITS:
        return done < (LEAST_SPLITS if splits is None else splits)
    return done < MOST_SPLITS and spent * (done + 1) / done <= seconds


def _check(minutes: float, splits: int | None, worth: float | None, rates: Sequence[float]) -> None:
    if not minutes > 0:
        raise AtollError(f"minutes={minutes!r} must be above 0.")
    if splits is not None and splits < 1:
        raise AtollError(f"splits={splits!r} must be at least 1.")
    if worth is not None and not worth >= 0:
        raise AtollError(f"worth={worth!r} is the smallest gain that counts; it must be 0 or more.")
    if not rates or any(not rate > 0 for rate in rates):
        raise AtollError(f"rates={tuple(rates)!r} must be learning rates above 0, at least one.")


def _check_data(fed: Federation) -> None:
    if fed.drift is not None:
        raise AtollError(f"{fed.name}: the data change while clients train, and the advisor looks at data that stay. Compare methods with `atoll run`.")
    if fed.seen < 2:
        raise AtollError(f"{fed.name} has one client that takes part; whether to personalize is a question for two or more.")
    if not fed.count["validation"][: fed.seen].sum():
        raise AtollError(f"{fed.name} has no validation rows, on which methods, rates and rounds are chosen. Split it with some, such as 0.6, 0.2, 0.2.")
