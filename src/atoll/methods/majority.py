"""Majority: the baseline without learning."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from atoll.core.client import Client
from atoll.core.federation import Fed
from atoll.core.method import method
from atoll.core.rows import Batch


@method
class Majority:
    """Every client always predicts the label that is most frequent among its own train rows, whatever the input; of equally frequent ones the first.

    Where clients have few labels each, this alone can beat a trained common model: an accuracy means nothing without it beside. For regression the
    prediction is the mean of the client's targets, for sequences its most frequent next token.

    A baseline; there is no paper.

    Kept: nothing: frequencies are counted when the client predicts.
    Traffic per round and client: nothing, nobody is asked.
    Identity: right for as many rows as have the client's most frequent train label. With c_l of n train rows of label l, of L labels, the loss is
    the mean of -log (c_l + 1) / (n + L): Laplace's rule, so that a label that is new to the client does not cost infinitely much.
    Departures from the paper: there is none to depart from.
    """

    many_architectures = True

    def init(self, fed: Fed) -> None:
        return None

    def round(self, _: None, fed: Fed) -> None:
        return None

    def personalize(self, k: Client, _: None) -> Array:
        """[outputs] log frequencies of the labels, or the mean target."""
        if k.model.task == "regression":
            return k.mean(lambda rows: jnp.tensordot(rows.mask, rows.y, axes=1) / rows.mask.sum())

        def count(rows: Batch) -> Array:
            weight = jnp.broadcast_to(rows.mask.reshape(-1, *[1] * (rows.y.ndim - 1)), rows.y.shape)
            return jnp.zeros(k.outputs).at[rows.y].add(weight)

        c = k.train.sum(count)
        return jnp.log((c + 1) / (c.sum() + k.outputs))

    def predict(self, k: Client, w: Array, x: Array) -> Any:
        places = x.shape[:2] if k.model.task == "sequence" else x.shape[:1]
        return jnp.broadcast_to(w, (*places, *w.shape))
