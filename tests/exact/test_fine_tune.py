"""Fine-tuning around any method: training is the inner method's, the model before is the inner method's, the model after is compared with closed forms."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.keys import shuffle
from atoll.core.method import label, method
from atoll.methods import get
from atoll.methods.apfl import APFL
from atoll.methods.aruba import ARUBA
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedavg_ft import FedAvgFT
from atoll.methods.fedper import FedPer
from atoll.methods.fedprox import FedProx
from atoll.methods.heterofl import HeteroFL
from atoll.methods.local import Local
from atoll.methods.majority import Majority
from atoll.methods.moon import MOON
from atoll.methods.per_fedavg import PerFedAvg
from atoll.methods.pfedme import PFedMe
from atoll.methods.pooled import Pooled
from atoll.methods.reptile import Reptile
from atoll.methods.scaffold import Scaffold
from atoll.parts.conditions import Conditions
from atoll.parts.wrappers import OWN_BATCHES, FineTune
from tests.exact.plain import key, loss, rows, sgd, weights
from tests.harness import Trained, assert_alike, assert_near, leaves, linear, normed, quadratics, seldom, small_digits, train

HOW = {"lr": 0.2, "epochs": 2, "batch": 4}
A, B = np.array([1.0, 2.0, 4.0, 0.5]), np.array([0.0, 1.0, -1.0, 3.0])
COMMON = [FedProx(**HOW, mu=1.0), Scaffold(**HOW), MOON(**HOW), Pooled(**HOW)]  # have a common model only
OWN = [PerFedAvg(batch=4, steps=3), PFedMe(batch=4, R=3, K=2), APFL(lr=0.2, batch=4), FedPer(**HOW), Local(**HOW), Reptile(batch=4, K=3)]


class Reply(NamedTuple):
    w: Any


def scores(trained: Trained, model: str) -> np.ndarray:
    """Rows answered correctly and summed loss of each client and split."""
    return np.array([[row["correct"], row["loss"]] for row in trained.training.evaluate().to_dicts() if row["model"] == model])


def predicted_with(trained: Trained) -> list[Any]:
    """The model of each client."""
    training = trained.training

    def personal(k: Any, shared: Any) -> Any:
        w = Reply(training.method.personalize(k, shared))
        return (w, k.state) if hasattr(training.method, "join") else w

    ids = training.fed.everyone()
    stacked = training.fed.ask(ids, personal, training.shared).reply.w
    return [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in ids]


@pytest.mark.parametrize("inner", seldom([*COMMON, *OWN], lambda inner: isinstance(inner, FedProx | Scaffold | APFL | FedPer)), ids=label)
def test_training_is_the_inner_methods(inner):
    """Bit for bit, with stragglers, whose work FedProx takes and others lose; costs too."""
    slow = Conditions(stragglers=0.3)
    plain, tuned = (train(made, small_digits(), 3, per_round=3, conditions=slow) for made in (inner, FineTune(inner)))
    assert_alike(tuned.server, plain.server)
    assert_alike(tuned.states, plain.states)
    for a, b in zip(plain.costs, tuned.costs, strict=True):
        assert (a.answered, a.bytes_down, a.bytes_up, a.steps, a.flops) == (b.answered, b.bytes_down, b.bytes_up, b.steps, b.flops)


@pytest.mark.parametrize("inner", COMMON, ids=label)
def test_what_was_before_is_the_common_model(inner):
    plain, tuned = (train(made, small_digits(), 2) for made in (inner, FineTune(inner)))
    assert_alike(scores(tuned, "global"), scores(plain, "global"))
    assert len(scores(tuned, "before")) == 0  # the row "global" is it
    assert (scores(tuned, "personal")[:, 1] != scores(plain, "personal")[:, 1]).all()


@pytest.mark.parametrize("inner", seldom(OWN, lambda inner: isinstance(inner, APFL | FedPer | Local)), ids=label)
def test_what_was_before_is_the_personal_model(inner):
    plain, tuned = (train(made, small_digits(), 2) for made in (inner, FineTune(inner, rate=0.1)))
    assert_alike(scores(tuned, "before"), scores(plain, "personal"))
    assert_alike(scores(tuned, "global"), scores(plain, "global"))  # where there is one
    assert (scores(tuned, "personal")[:, 1] != scores(plain, "personal")[:, 1]).all()


@pytest.mark.parametrize("none", [{"what": "none"}, {"epochs": 0}, {"what": "head", "epochs": 0}], ids=str)
@pytest.mark.parametrize("inner", seldom([Scaffold(**HOW), FedPer(**HOW), OWN[1], OWN[-1]], lambda inner: isinstance(inner, Scaffold | FedPer)), ids=label)
def test_without_fine_tuning_it_is_the_inner_method(inner, none):
    plain, tuned = (train(made, small_digits(), 2) for made in (inner, FineTune(inner, **none)))
    assert_alike(scores(tuned, "personal"), scores(plain, "personal"))


@pytest.mark.parametrize("what", ["all", "head"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_around_fedavg_it_is_fedavg_ft(what, batch_norm):
    fed = small_digits()
    models = (normed(fed) if batch_norm else "mlp:6",)
    one = train(FedAvgFT(**HOW, what=what, ft_epochs=3, ft_lr=0.1), fed, 2, models=models)
    other = train(FineTune(FedAvg(**HOW), what, epochs=3, rate=0.1), fed, 2, models=models)
    assert_alike(other.server, one.server)
    for model in ("personal", "global"):
        assert_alike(scores(other, model), scores(one, model))
    assert label(one.training.method) == label(other.training.method) == "FedAvg+FT"


@pytest.mark.parametrize("inner", [Scaffold(**HOW), PFedMe(batch=4, R=3, K=2)], ids=label)
def test_only_the_head_moves(inner):
    before, head, everything = (predicted_with(train(FineTune(inner, what, rate=0.1), small_digits(), 2)) for what in ("none", "head", "all"))
    for i in range(4):
        first, *_, last = before[i].tree
        assert_alike(head[i].tree[first], before[i].tree[first])
        assert abs(leaves(head[i].tree[last])[0] - leaves(before[i].tree[last])[0]).max() > 1e-3
        assert abs(leaves(everything[i].tree[first])[-1] - leaves(before[i].tree[first])[-1]).max() > 1e-3


@pytest.mark.parametrize(("asked", "J", "rate"), [({"steps": 4}, 4, 0.1), ({"epochs": 3}, 3, 0.1), ({"steps": 2, "rate": 0.2}, 2, 0.2), ({}, 5, 0.1)])
def test_fine_tuning_of_quadratics(asked, J, rate):
    """f_i = a_i/2 (w - b_i)^2: J full steps from w end at b_i + (1 - rate a_i)^J (w - b_i). No rate: that of training, 0.1; nothing asked: 5 epochs."""
    trained = train(FineTune(FedProx(lr=0.1, batch=0, mu=0.5), **asked), quadratics(list(A), list(B)), 4, **linear())
    w = leaves(trained.server)[0].item()
    for i, got in enumerate(predicted_with(trained)):
        assert leaves(got)[0].item() == pytest.approx(B[i] + (1 - rate * A[i]) ** J * (w - B[i]), abs=1e-5)


def test_fine_tuning_starts_from_the_personal_model():
    """pFedMe's theta_i, not its common w."""
    inner = PFedMe(lam=1.0, K=80, R=1, batch=1, eta=0.5, plr=0.2)
    trained = train(FineTune(inner, steps=3, rate=0.1), quadratics(list(A), list(B)), 6, **linear())
    theta = np.array([leaves(trained.states[i])[0].item() for i in range(4)])
    got = np.array([leaves(w)[0].item() for w in predicted_with(trained)])
    assert_near(got, B + (1 - 0.1 * A) ** 3 * (theta - B))
    assert abs(theta - leaves(trained.server)[0].item()).min() > 0.05


def test_batches_of_fine_tuning_are_others_than_those_of_personalizing():
    """NumPy: Reptile's K steps to personalize in the batches of the program's own key, fine-tuning in those of a key of its own."""
    fed = small_digits()
    trained = train(FineTune(Reptile(lr=0.2, batch=100, K=2, first=9), epochs=2, rate=0.1), fed, 1, models=("softmax",))
    small = train(FineTune(Reptile(lr=0.2, batch=4, K=1, first=9), epochs=2, rate=0.1), fed, 1, models=("softmax",))
    for i in range(4):
        own = key("personalize", 1, i)
        tuning = jax.random.fold_in(own, (1 << 29) + OWN_BATCHES)
        w = sgd(weights(trained.server.w), *rows(fed, i), 0.2, 2, 100, own)
        w = sgd(w, *rows(fed, i), 0.1, 2, 100, own)
        assert scores(trained, "personal")[2 * i + 1, 1] == pytest.approx(loss(w, *rows(fed, i, "test")), rel=1e-5)
        x, y = rows(fed, i)
        some = np.asarray(order(len(x), own))[:4]
        start = sgd(weights(small.server.w), x[some], y[some], 0.2, 1, 4, own)
        wanted, other = (loss(sgd(start, x, y, 0.1, 2, 4, one), *rows(fed, i, "test")) for one in (tuning, own))
        assert scores(small, "personal")[2 * i + 1, 1] == pytest.approx(wanted, rel=1e-5)
        assert abs(wanted - other) > 1e-4


def order(n: int, of: Any) -> Any:
    return shuffle(np.arange(n, dtype=np.int32), jax.numpy.int32(n), of, 0)


@method
class Oracle:
    """Its personal model is no model."""

    lr: float = 0.1

    def init(self, fed):
        return fed.model.init(fed.key())

    def round(self, w, fed):
        return w

    def personalize(self, k, w):
        return {"w": w, "bias": np.float32(1)}


@pytest.mark.parametrize(
    ("inner", "says"),
    [
        (Majority(), "predicts in a way of its own"),
        (HeteroFL(), "predicts in a way of its own"),
        (ARUBA(), "ARUBA fine-tunes by itself: set its own ft_epochs"),
        (FedAvgFT(), "fine-tunes by itself"),
        (FineTune(FedAvg()), "fine-tunes by itself"),
    ],
    ids=lambda value: value if isinstance(value, str) else label(value),
)
def test_what_can_not_be_fine_tuned_is_refused(inner, says):
    with pytest.raises(AtollError, match=says):
        FineTune(inner)


def test_what_predicts_with_no_model_is_refused_before_training():
    tuned = FineTune(Oracle())
    with pytest.raises(AtollError, match=r"Oracle\+FT: what a client predicts with is no model 'mlp'"):
        train(tuned, small_digits(), 0).training.evaluate()


def test_epochs_or_steps():
    assert (FineTune(FedAvg()).ft_epochs, FineTune(FedAvg()).ft_steps) == (5, 0)
    assert (FineTune(FedAvg(), steps=7).ft_epochs, FineTune(FedAvg(), steps=7).ft_steps) == (0, 7)
    with pytest.raises(AtollError, match=r"FedAvg\+FT\(ft_epochs=2, ft_steps=3\).*Set the other to 0"):
        FineTune(FedAvg(), epochs=2, steps=3)


def test_batches_are_the_methods_own():
    assert FineTune(get("fedmd")()).ft_batch == 20
    with pytest.raises(AtollError, match="FedAvg has a batch of its own, 20"):
        FineTune(FedAvg(), batch=5)


def test_it_is_a_method_like_any_other():
    made = FineTune(FedProx(mu=0.3), "head", epochs=2, rate=0.01)
    assert made == FineTune(FedProx(mu=0.3), "head", epochs=2, rate=0.01) != FineTune(FedProx(mu=0.3), epochs=2, rate=0.01)
    assert type(made) is get("fedprox+ft") is get("FedProx+FT")
    assert made.inner == FedProx(mu=0.3)
    assert dataclasses.replace(made, mu=0.2).inner == FedProx(mu=0.2)
    assert not hasattr(made, "join")
    assert hasattr(FineTune(Scaffold()), "join")
    with pytest.raises(AtollError, match="lr \\* mu >= 2"):
        dataclasses.replace(made, mu=100.0)
