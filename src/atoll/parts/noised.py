"""Noised counts: all that clients say of their rows where heterogeneity is to be measured privately."""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

import numpy as np

from atoll.core.federation import Fed
from atoll.core.method import checked, hyper, on_host

MOST = 1 << 30  # noise is cut here, so that counts fit in 32 bits


class Budget(NamedTuple):
    """What of epsilon each statistic spends. They are about the same rows, so they add up (sequential composition)."""

    sizes: float
    labels: float
    features: float

    @property
    def total(self) -> float:
        return self.sizes + self.labels + self.features


class Range(NamedTuple):
    """What the server sends: between which numbers the values of rows lie, agreed on without a look at them."""

    low: np.ndarray  # float32 [1]
    high: np.ndarray


class Counts(NamedTuple):
    """What a client replies, all int32 and all noised."""

    rows: np.ndarray  # scalar
    labels: np.ndarray  # [labels]; [0] where they are not asked for
    features: np.ndarray  # [values, bins]; [0, bins] for texts


@checked
class Noised:
    """Asks every client once for how many rows it has, how many of each label, and histograms of a few values, each with noise.

    Noise is Laplace's law on whole numbers, P(z) ~ exp(-|z| epsilon / sensitivity) (the geometric mechanism of Ghosh, Roughgarden, Sundararajan, STOC 2009),
    so that no low bits of a float can give the true count away. Who sees all replies can tell whether any one row was there by a factor of e^epsilon at most
    (row-level, add or remove one): one row changes the number of rows by 1, one count of labels by 1, and one bin of each histogram, so the sensitivity of
    all histograms together is the number of values. A second asking spends epsilon again.

    Values are the means of the quarters of an image, the columns of a table (so many of them, evenly spaced); they are cut to the range and counted in bins of
    equal width. Texts have none; for numbers to predict labels are not asked for. What is not asked for leaves its part of epsilon to the others.
    """

    epsilon: float = hyper(1.0, gt=0)
    values: int = hyper(4, ge=1)  # of a row, that get a histogram
    bins: int = hyper(10, ge=2)
    secret: bool = False  # noise from the operating system, as at real sites; False: from the seed, which the server knows, so that it can be repeated

    def budget(self, labels: bool, features: bool) -> Budget:
        """How epsilon is split: 1 part for sizes, 2 for labels, 2 for features, where they are asked for."""
        parts = np.array([1, 2 * labels, 2 * features], np.float64)
        return Budget(*(self.epsilon * parts / parts.sum()).tolist())

    def ask(self, fed: Fed, span: Range) -> Counts:
        """The noised counts of all seen clients, a leading axis [clients] on each."""
        up = fed.ask(fed.everyone(), self.noised_counts, span)
        return Counts(np.asarray(up.rows), np.asarray(up.labels), np.asarray(up.features))

    @on_host
    def noised_counts(self, k: Any, span: Range) -> Counts:
        labelled, shown = k.model.task == "classification", k.x.dtype != np.int32
        budget = self.budget(labelled, shown)
        random = np.random.default_rng(secrets.randbits(128)) if self.secret else k.random
        labels = np.bincount(k.y, minlength=k.outputs) if labelled else np.zeros(0, np.int64)
        features = histograms(some_values(k.x, self.values), span, self.bins) if shown else np.zeros((0, self.bins), np.int64)
        return Counts(
            whole_laplace(np.array(k.n), 1 / budget.sizes, random),
            whole_laplace(labels, 1 / budget.labels if labelled else 0, random),
            whole_laplace(features, len(features) / budget.features if shown else 0, random),
        )


def some_values(x: np.ndarray, most: int) -> np.ndarray:
    """[rows, values] of rows x [rows, ...]: mean brightness of the quarters of images, else columns, at most so many."""
    if x.ndim > 2:
        rows = (part for half in np.array_split(x, 2, axis=1) for part in np.array_split(half, 2, axis=2))
        quarters = [part.reshape(len(x), -1).mean(axis=1) for part in rows]
        return np.stack(quarters[:most], axis=1)
    return x[:, np.unique(np.linspace(0, x.shape[1] - 1, min(most, x.shape[1])).astype(int))]


def histograms(values: np.ndarray, span: Range, bins: int) -> np.ndarray:
    """int64 [values, bins] of values [rows, values], cut to the range."""
    low, high = float(span.low[0]), float(span.high[0])
    place = np.clip(((values - low) / (high - low) * bins).astype(np.int64), 0, bins - 1)
    return np.stack([np.bincount(column, minlength=bins) for column in place.T])


def whole_laplace(counts: np.ndarray, scale: float, random: np.random.Generator) -> np.ndarray:
    """Counts plus independent noise z with P(z) ~ exp(-|z| / scale), the difference of two geometric draws; int32. scale 0: none."""
    if not counts.size or scale <= 0:
        return counts.astype(np.int32)
    stop = max(-np.expm1(-1 / scale), 1e-15)
    noise = random.geometric(stop, counts.shape) - random.geometric(stop, counts.shape)
    return np.clip(counts + noise, -MOST, MOST).astype(np.int32)
