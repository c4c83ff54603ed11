"""TiFL."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from atoll.core.errors import AtollError
from atoll.core.federation import Fed
from atoll.core.keys import host_generator
from atoll.core.method import checked, hyper
from atoll.parts.selection.drawing import check_size, draw


class State(NamedTuple):
    latency: np.ndarray  # float64 [n], sum of the seconds of the profiling rounds
    answers: np.ndarray  # int64 [n], of the profiling rounds
    tier: np.ndarray  # int64 [n], 0 is the fastest; -1 = in none
    credits: np.ndarray  # int64 [tiers], how often each may still be drawn
    P: np.ndarray  # float64 [tiers], probabilities
    A: np.ndarray  # float64 [tiers], accuracies when they were last looked at; NaN = never


@checked
class TiFL:
    """TiFL: clients are sorted into tiers by how long they take, and every round asks clients of one tier, so that nobody waits for the slow.

    In the first `profile` rounds all clients are asked and timed; who never answers is left out from then on. "adaptive": each `interval` rounds, where the
    accuracy of the tier just asked has not grown since the last look, tiers with less accuracy become more probable; a tier may be drawn `credits` times.
    "uniform", "fast" and "slow" keep fixed probabilities: all tiers alike, or one of them only.

    Chai, Ali, Zawad, Truex, Anwar, Baracaldo, Zhou, Ludwig, Yan, Cheng, "TiFL: A Tier-based Federated Learning System", HPDC 2020, arXiv 2001.09249.

    Sends: what the method shows to all clients of all tiers every `interval` rounds, and one number back ("adaptive" only).
    Identity: one tier is uniform sampling; of N tiers with credits, sorted by growing accuracy, the i-th has probability (N - i) / (N (N + 1) / 2).
    Departures: (1) Profiling rounds train, with all clients; the paper's only measure. (2) Accuracy is that on validation rows, not on test rows. (3) When all
    credits are spent, all tiers get them again. (4) credits=0 stands for rounds / tiers, rounded up: the paper leaves the number open.
    """

    per_round: int | None = hyper(None)
    tiers: int = hyper(5, ge=1)
    policy: str = hyper("adaptive", choices=("adaptive", "uniform", "fast", "slow"))
    interval: int = hyper(5, ge=1)  # I
    credits: int = hyper(0, ge=0)  # 0 = rounds / tiers
    profile: int = hyper(1, ge=1)  # sync_rounds

    needs_devices = True

    def check(self) -> None:
        check_size(self)

    def begin(self, fed: Fed, rounds: int | None) -> State:
        if not fed.timed:
            raise AtollError("TiFL sorts clients by the time that they take, and here nothing takes time. Say how fast they are (--devices tiers).")
        if self.tiers > fed.n:
            raise AtollError(f"TiFL(tiers={self.tiers}) has more tiers than the federation has clients ({fed.n}). Ask for fewer.")
        credits = self.credits or -(-(rounds or 1000) // self.tiers)
        P = {"fast": np.eye(self.tiers)[0], "slow": np.eye(self.tiers)[-1]}.get(self.policy, np.full(self.tiers, 1 / self.tiers))
        nothing = np.zeros(fed.n)
        return State(nothing, nothing.astype(int), np.full(fed.n, -1), np.full(self.tiers, credits), P, np.full(self.tiers, np.nan))

    def choose(self, fed: Fed) -> np.ndarray:
        s: State = fed.selection
        assert self.per_round is not None
        if (s.tier < 0).all():
            return fed.everyone()  # profiling
        random = host_generator(fed.seed, "select tifl", fed.round)
        P = s.P * (s.credits > 0) if self.policy == "adaptive" else s.P
        if not P.any():
            P = (s.credits > 0).astype(float)  # the probable tiers have no credits left
        t = random.choice(self.tiers, p=P / P.sum())
        return draw(random, np.flatnonzero(s.tier == t), self.per_round)  # |S| clients of the tier, uniformly

    def learn(self, fed: Fed) -> State:
        s: State = fed.selection
        assert fed.seen is not None
        if (s.tier < 0).all():
            return self._profiled(s, fed)
        t = s.tier[fed.seen.chosen[0]]
        credits = s.credits - (np.arange(self.tiers) == t)  # the pick costs a credit
        if (credits <= 0).all():
            credits = np.full(self.tiers, s.credits.max() if self.policy != "adaptive" else self.credits or int(fed.round / self.tiers) + 1)
        if self.policy != "adaptive" or fed.round % self.interval:
            return s._replace(credits=credits)
        A = self._accuracies(s, fed)
        P = s.P if np.isnan(s.A[t]) or A[t] > s.A[t] else probabilities(A, credits)  # A_t^r <= A_t^(r-I): change them
        return s._replace(credits=credits, P=P, A=A)

    def _profiled(self, s: State, fed: Fed) -> State:
        there = np.array(sorted(fed.traffic.answered), dtype=int)
        latency, answers = s.latency.copy(), s.answers.copy()
        latency[there] += fed.traffic.seconds[there]
        answers[there] += 1
        if fed.round < self.profile or not answers.any():
            return s._replace(latency=latency, answers=answers)
        order = np.argsort(np.where(answers > 0, latency / np.maximum(answers, 1), np.inf), kind="stable")[: (answers > 0).sum()]
        tier = np.full(fed.n, -1)
        for t, ids in enumerate(np.array_split(order, self.tiers)):
            tier[ids] = t
        empty = np.array([not (tier == t).any() for t in range(self.tiers)])
        return s._replace(latency=latency, answers=answers, tier=tier, credits=np.where(empty, 0, s.credits), P=np.where(empty, 0, s.P))

    def _accuracies(self, s: State, fed: Fed) -> np.ndarray:
        ids = np.flatnonzero(s.tier >= 0)
        known = dict(zip(ids.tolist(), fed.validate(ids), strict=True))
        each = [[known[i] for i in np.flatnonzero(s.tier == t).tolist() if np.isfinite(known[i])] for t in range(self.tiers)]
        return np.array([np.mean(values) if values else np.nan for values in each])


def probabilities(A: np.ndarray, credits: np.ndarray) -> np.ndarray:
    """Tiers with credits by growing accuracy: (N - i) / (N (N + 1) / 2) for the i-th of N; others 0."""
    live = np.flatnonzero((credits > 0) & ~np.isnan(A))
    P = np.zeros(len(A))
    if len(live):
        P[live[np.argsort(A[live], kind="stable")]] = np.arange(len(live), 0, -1)
    return P / max(P.sum(), 1)
