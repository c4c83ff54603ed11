"""Models of a run: chosen for the data, or by name."""

from __future__ import annotations

import importlib
import os
import sys

import numpy as np

from atoll.core.errors import AtollError
from atoll.core.model import Model
from atoll.data.federation import Federation
from atoll.models import TABLE, build, parse


def choose_models(texts: tuple[str, ...], fed: Federation) -> tuple[Model, ...]:
    """The models named by `texts` ("mlp:64", "resnet:norm=batch", "module:function" for the user's own), or one that suits the data."""
    shape, outputs, task = tuple(fed.x.shape[1:]), len(fed.labels) or 1, task_of(fed)
    return tuple(_model(text, shape, outputs, task) for text in texts or (_default(fed, task),))


def task_of(fed: Federation) -> str:
    """classification, regression or sequence (labels for every position of a row)."""
    if not fed.labels:
        return "regression"
    return "sequence" if fed.y.ndim == 2 else "classification"


def _default(fed: Federation, task: str) -> str:
    if task == "sequence":
        return "gru"
    if fed.x.dtype == np.int32:  # tokens of a text
        return f"bilstm:vocabulary={int(fed.x.max()) + 1}"
    return "mlp" if fed.x.ndim > 2 else "mlp:64"


def _model(text: str, shape: tuple[int, ...], outputs: int, task: str) -> Model:
    head = text.partition(":")[0]
    if head not in TABLE and ("." in head or os.path.exists(f"{head}.py")):
        return _own(text, shape, outputs)
    name, options = parse(text)
    return build(name, shape, outputs, task, **options)


def _own(text: str, shape: tuple[int, ...], outputs: int) -> Model:
    """The user's own model: `module:function`, called with the shape of a row and the number of outputs, returns a Model."""
    module, _, name = text.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        made = getattr(importlib.import_module(module), name)(shape, outputs)
    except (ImportError, AttributeError) as error:
        raise AtollError(f"Model {text!r} can't be loaded: {error}. Give module:function, a function (input_shape, outputs) -> Model.") from None
    finally:
        sys.path.pop(0)
    if not isinstance(made, Model):
        raise AtollError(f"Model {text!r}: {name} returned a {type(made).__name__}, not a Model. Wrap your network with atoll.models.own.")
    return made
