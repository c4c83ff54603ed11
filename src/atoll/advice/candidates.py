"""What a pilot tries: baselines, and one method of each family that fits the federation and what was measured of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from atoll.core.model import BUFFERS, Model
from atoll.core.norm import shapes
from atoll.data.federation import Federation
from atoll.methods import row
from atoll.study.models import task_of

RATES = (0.05, 0.2)  # tried for every method that has one
FEW_ROWS = 20  # median train rows of a client below which linear models are tried


@dataclass(frozen=True)
class Candidate:
    """A method to try."""

    name: str  # on the command line
    role: str  # trivial, alone, pooled, common, tuned (FedAvg+FT) or personal
    why: str = ""  # of those that were chosen for the federation
    settings: dict[str, Any] = field(default_factory=dict)
    rated: bool = True  # it has a learning rate

    @property
    def title(self) -> str:
        return row(self.name).title

    @property
    def family(self) -> str:
        return row(self.name).family


BASELINES = (
    Candidate("majority", "trivial", rated=False),
    Candidate("local", "alone"),
    Candidate("pooled", "pooled"),
    Candidate("fedavg", "common"),
    Candidate("scaffold", "common"),
    Candidate("fedavg-ft", "tuned"),
)


def model_for(fed: Federation) -> tuple[str, ...]:
    """The model of a pilot where none was asked for: linear for tables with few rows per client; () leaves the choice to the data."""
    few = float(np.median(fed.count["train"][: fed.seen])) < FEW_ROWS
    return ("softmax",) if few and fed.x.ndim == 2 and fed.x.dtype != np.int32 and task_of(fed) == "classification" else ()


def candidates(words: dict[str, str], fed: Federation, model: Model, rounds: int) -> tuple[Candidate, ...]:
    """Baselines and candidates. words: kind of difference -> how much ("none", "weak", "strong"; kinds that could not be measured are missing)."""
    labels, features, preference = (words.get(kind, "") for kind in ("labels", "features", "preference"))
    few = float(np.median(fed.count["train"][: fed.seen])) < FEW_ROWS
    deep, normed = len(model.blocks) > 1, BUFFERS in shapes(model).tree
    linear = model.name.startswith("softmax") and task_of(fed) == "classification"
    found = [Candidate("scaffold+ft", "personal", "a common model that differences between clients pull less apart, fine-tuned")]
    if normed and features in ("weak", "strong"):
        found.append(Candidate("fedbn", "personal", f"what clients see differs ({features}), and the model has normalising layers to keep at home"))
    elif deep:
        about = f"labels differ ({labels}), which a last layer of one's own takes in" if labels in ("weak", "strong") else "its usual candidate"
        found.append(Candidate("fedper", "personal", about))
    if deep or not linear:
        found.append(Candidate("apfl", "personal", "its usual candidate: how much of the common model a client takes is learned"))
    if linear:
        found.append(
            Candidate("mocha", "personal", f"{'few rows per client and ' if few else ''}linear models, of which it learns who is like whom", rated=False)
        )
    else:
        found.append(Candidate("ditto", "personal", "its usual candidate: models of their own, held near the common one"))
    begin = {"first": max(1, rounds // 2)}
    found.append(Candidate("reptile", "personal", "few rows per client" if few else "its usual candidate: a start from which few steps go far", begin))
    if fed.seen > 2:
        reasons = {"clients call like rows by different labels": preference, "what clients see differs": features}
        grouped = next((f"{about} ({word}), as groups would" for about, word in reasons.items() if word in ("weak", "strong")), "")
        found.append(Candidate("hypcluster", "personal", grouped or "its usual candidate: there may be groups of clients"))
    return (*BASELINES, *found)
