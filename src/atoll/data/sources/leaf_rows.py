"""Rows of LEAF's datasets as arrays, user by user: numbers and images."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.sources.files import given_folder, said
from atoll.data.sources.images import decoded, resized

CHARACTERS = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")  # FEMNIST's classes
SIDE = 28  # of FEMNIST's images


class Rows(NamedTuple):
    """All rows of a dataset."""

    x: np.ndarray
    y: np.ndarray
    labels: tuple[str, ...]
    user: np.ndarray  # str [rows]
    part: np.ndarray  # int8 [rows]
    by: str = "user"
    scale: float = 1.0
    note: str = ""


class Converted:
    """Collects what users have; `finish` makes arrays of it."""

    def __init__(self, **options: Any):
        self.options = options
        self.x: list[Any] = []
        self.y: list[Any] = []
        self.user: list[str] = []
        self.part: list[int] = []
        self.n: list[int] = []

    def add(self, user: str, part: int, x: list[Any], y: list[Any], where: str) -> None:
        try:
            x, y = self.convert(x, y, where)
        except (ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            raise AtollError(f"{where}: its rows are not like the first user's: {said(error)}.") from None
        self.x.append(x)
        self.y.append(y)
        self.user.append(user)
        self.part.append(part)
        self.n.append(len(x))

    def convert(self, x: list[Any], y: list[Any], where: str) -> tuple[Any, Any]:
        raise NotImplementedError

    def finish(self) -> Rows:
        raise NotImplementedError

    def rows(self, x: np.ndarray, y: np.ndarray, labels: tuple[str, ...], **more: Any) -> Rows:
        return Rows(x, y, labels, np.repeat(np.array(self.user), self.n), np.repeat(np.array(self.part, np.int8), self.n), **more)


class Numbers(Converted):
    """Rows of numbers: features, or images of 784 values from 0 to 1, kept as bytes where they were bytes once."""

    def convert(self, x: list[Any], y: list[Any], where: str) -> tuple[np.ndarray, np.ndarray]:
        values = np.array(x, np.float32)
        if values.ndim != 2 or (self.x and values.shape[1] != self.x[0].shape[1]):
            raise ValueError(f"x of shape {list(values.shape)}")
        if values.shape[1] == SIDE * SIDE:
            whole = np.rint(values * 255)
            if np.abs(whole - values * 255).max() < 1e-3 and whole.min() >= 0 and whole.max() <= 255:
                values = whole.astype(np.uint8)
        return values, whole_labels(y)

    def finish(self) -> Rows:
        image = self.x[0].shape[1] == SIDE * SIDE
        whole = image and all(one.dtype == np.uint8 for one in self.x)
        if not whole:
            self.x = [one / np.float32(255) if one.dtype == np.uint8 else one for one in self.x]
        x, y = np.concatenate(self.x), np.concatenate(self.y)
        classes = int(y.max()) + 1
        if not image:
            return self.rows(x, y, numbered(classes))
        labels = CHARACTERS if classes <= len(CHARACTERS) else numbered(classes)
        return self.rows(x.reshape(-1, SIDE, SIDE), y, labels, by="writer", scale=1 / 255 if whole else 1.0)


class Pictures(Converted):
    """Names of image files (CelebA): read and made `side` by `side`."""

    def convert(self, x: list[Any], y: list[Any], where: str) -> tuple[np.ndarray, np.ndarray]:
        side = self.options["side"]
        if isinstance(side, bool) or not isinstance(side, int) or side < 8:
            raise AtollError(f"side={side!r} must be a whole number of pixels, at least 8.")
        if self.options["images"] is None:
            raise AtollError(f"{where}: its rows are names of images. Give images=FOLDER (--option images=FOLDER), which for CelebA is img_align_celeba.")
        folder = given_folder(self.options["images"], "leaf")
        missing = next((name for name in x if not (folder / name).is_file()), None)
        if missing is not None:
            raise AtollError(f"{where}: {folder} has no {missing}.")
        pictures = [resized(decoded(folder / name)[..., :3], side, side) for name in x]
        return np.rint(np.stack(pictures)).astype(np.uint8), whole_labels(y)

    def finish(self) -> Rows:
        y = np.concatenate(self.y)
        labels = ("not smiling", "smiling") if y.max() <= 1 else numbered(int(y.max()) + 1)
        return self.rows(np.concatenate(self.x), y, labels, by="celebrity", scale=1 / 255)


def whole_labels(y: list[Any]) -> np.ndarray:
    """int32 [rows]. ValueError for labels that are not whole numbers from 0 on."""
    values = np.array(y, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all() or (values != np.floor(values)).any() or values.min() < 0:
        raise ValueError("labels must be whole numbers from 0 on")
    return values.astype(np.int32)


def numbered(classes: int) -> tuple[str, ...]:
    """Names of classes that have none."""
    return tuple(str(c) for c in range(classes))
