"""What goes around a whole method: fine-tuning, the survey's "FL training + local adaptation", for any method."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
from tree_math import Vector

from atoll.core.client import Client
from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.local import fine_tune
from atoll.core.method import hyper, hyperparameters
from atoll.parts.around import Around, Wrapping, completed, title_of

OWN_BATCHES = 4096  # names the key of fine-tuning where the method inside draws batches to personalize


def FineTune(  # noqa: N802 - it makes a method, and reads like one
    inner: Any,
    what: str = "all",
    *,
    epochs: int | None = None,
    steps: int | None = None,
    rate: float | None = None,
    batch: int | None = None,
) -> Any:
    """The method `inner` (an instance) with fine-tuning: before it predicts, each client trains a copy of its model a little more on its own train rows.

    what: of the model is fine-tuned: "all", its last block ("head"), or "none". epochs or steps: how long, one of them; by default five epochs. rate: of
    SGD; by default the method's `lr`, and 0.05 where it has none. batch: rows per step, for a method without a `batch`; by default 20.

    The result is a method like any other; its hyperparameters are those of `inner` and ft_what, ft_epochs, ft_steps, ft_lr. On the command line it is
    --method fedprox+ft --set fedprox+ft.ft_epochs=5.
    """
    kind = fine_tuned(type(inner))
    epochs = 0 if epochs is None and steps else epochs
    asked = {"ft_what": what, "ft_epochs": epochs, "ft_steps": steps, "ft_lr": rate, "ft_batch": batch}
    given = {name: value for name, value in asked.items() if value is not None}
    if "ft_batch" in given and "ft_batch" not in {f.name for f in dataclasses.fields(kind)}:
        title = title_of(type(inner))
        raise AtollError(f"FineTune(batch={batch}): {title} has a batch of its own, {inner.batch}, and fine-tuning takes that too. Leave it out.")
    return kind(**hyperparameters(inner), **given)


@functools.cache
def fine_tuned(kind: type[Any]) -> type[Any]:
    """The class of a method's class with fine-tuning: the same hyperparameters and ft_what, ft_epochs, ft_steps, ft_lr (and ft_batch)."""
    _check_kind(kind)
    inside, title, personal = dataclasses.fields(kind), title_of(kind), hasattr(kind, "personalize")
    names = {f.name for f in inside}

    class FineTuned(Wrapping):
        around = Around(kind, "ft")
        label = f"{title}+FT"

        def check(self) -> None:
            super().check()
            if self.ft_epochs and self.ft_steps:
                raise AtollError(
                    f"{self.label}(ft_epochs={self.ft_epochs}, ft_steps={self.ft_steps}): fine-tuning is as long as one of them says. Set the other to 0."
                )

        def init(self, fed: Fed) -> Any:
            return self.inner.init(fed)

        def round(self, s: Any, fed: Fed) -> Any:
            return self.inner.round(s, fed)  # it asks for its own programs, under their own names

        def personalize(self, k: Client, shared: Any) -> Any:
            w = self._untuned(k, shared)
            _check_model(self.label, k, w)
            if self.ft_what == "none":
                return w
            key = k.key_for(OWN_BATCHES) if personal else None
            batch = self.batch if "batch" in names else self.ft_batch
            lr = (self.ft_lr or self.lr) if "lr" in names else self.ft_lr
            return fine_tune(k, w, lr, what=self.ft_what, batch=batch, epochs=self.ft_epochs, steps=self.ft_steps or None, key=key)

        def _untuned(self, k: Client, shared: Any) -> Any:
            return self.inner.personalize(k, shared) if personal else self.inner.global_model(k, shared)

    if personal:  # else what there was before is the common model, which has a row already
        FineTuned.before = FineTuned._untuned  # type: ignore[attr-defined]
    more = {
        "ft_what": ("str", hyper("all", choices=("all", "head", "none"))),
        "ft_epochs": ("int", hyper(5, ge=0, search=[1, 2, 5, 10])),  # one of these two; 0 = unused
        "ft_steps": ("int", hyper(0, ge=0)),
        "ft_lr": ("float", hyper(0.0, ge=0) if "lr" in names else hyper(0.05, gt=0)),  # 0 = as lr
    }
    if "batch" not in names:
        more["ft_batch"] = ("int", hyper(20, ge=0))  # 0 = all rows of the client
    return completed(FineTuned, more, "FineTuned", _DOC.format(title=title, model="its personal model" if personal else "the common model"))


_DOC = """{title} with fine-tuning: before it predicts, each client trains a copy of its model a little more on its own train rows.

    Training is {title}'s. What a client fine-tunes is what {title} gives it to predict with, {model}; the table scores it before and after.

    Wang, Mathews, Kiddon, Eichner, Beaufays, Ramage, "Federated Evaluation of On-device Personalization", arXiv 1910.10252, 2019, who evaluate
    fine-tuning of a common model; the survey calls it FL training + local adaptation. For {title}'s own paper see {title}.

    Kept: as in {title}, and nothing more: clients fine-tune anew whenever they predict.
    Traffic per round and client: {title}'s. To predict, every client needs the newest of what the server shares once, which is not counted.
    Identity: the server's state and the clients' are {title}'s, bit for bit; ft_what="none", or no epochs and no steps, predicts as {title} does; around
    FedAvg it is FedAvg+FT.
    Departures from the paper: (1) Those of {title}. (2) Every client takes its fine-tuned model, better or not. (3) ft_what="head" trains the last block
    alone, on features of the rest as it predicts (its BatchNorm statistics stay, and nothing is dropped out). (4) Fine-tuning is SGD whatever {title}
    trains with. The defaults are ours: five epochs of the method's batches (ft_batch where it has none), at its lr (ft_lr=0), or 0.05 where it has none.
    """


def _check_kind(kind: type[Any]) -> None:
    """Refuses methods that have no model to fine-tune, or have their own fine-tuning."""
    title = title_of(kind)
    if hasattr(kind, "predict"):
        raise AtollError(
            f"{title} can't be fine-tuned: it predicts in a way of its own (it defines `predict`), and not with one model of the client's architecture."
        )
    clash = [f.name for f in dataclasses.fields(kind) if f.name.startswith("ft_")]
    if clash:
        raise AtollError(f"{title} fine-tunes by itself: set its own {', '.join(clash)} and leave the wrapper out.")


def _check_model(label: str, k: Client, w: Any) -> None:
    """Refuses what is no model of the client's architecture."""
    like = jax.eval_shape(k.model.init, jax.random.key(0))
    same = isinstance(w, Vector) and jax.tree.structure(w) == jax.tree.structure(like)
    if not same or [leaf.shape for leaf in jax.tree.leaves(w)] != [leaf.shape for leaf in jax.tree.leaves(like)]:
        raise AtollError(f"{label}: what a client predicts with is no model {k.model.name!r}, so it can't be fine-tuned. Run the method without +ft.")
