"""Covers and stego images: patches of photos, as they are and with a message hidden in them by LSB matching."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from atoll.core.errors import AtollError
from atoll.data.randomness import generator
from atoll.data.sources.files import given_folder, package_file
from atoll.data.sources.images import DRIVERS, decoded
from atoll.data.table import Table

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
CLIENTS = 6


def read(*, clients: int | None = None, seed: int = 0, path: str | Path | None = None, side: int = 32, rates: Sequence[float] = (1.0, 0.5, 0.25)) -> Table:
    """Grey patches [side, side], each twice: the cover (label 0) and the cover with a random message in it (label 1).

    A client is a region of one photo: a run of its patches, in the order in which one reads. Clients take the rates (message bits per pixel) in turn, and
    are grouped by them. A cover and its stego image stay in one client and in one split. path: a folder of images, else the two photos of scikit-learn.
    """
    files = _packaged() if path is None else _images(given_folder(path, "steganalysis"))
    clients = max(CLIENTS, len(files)) if clients is None else clients
    if isinstance(side, bool) or not isinstance(side, int) or side < 8:
        raise AtollError(f"side={side!r} must be a whole number of pixels, at least 8.")
    if not isinstance(rates, list | tuple) or not rates or any(isinstance(r, bool) or not isinstance(r, int | float) or not 0 <= r <= 1 for r in rates):
        raise AtollError(f"rates={rates!r} must be a list of numbers of message bits per pixel, each from 0 to 1.")
    if clients < len(files):
        raise AtollError(f"{len(files)} images need as many clients at least, not clients={clients}: a client is a region of one image.")
    covers, owner, names = [], [], []
    for n, file in enumerate(files):
        found, regions = patches(grey(file), side), clients // len(files) + (n < clients % len(files))
        if len(found) < 2 * regions:
            raise AtollError(f"{file} has {len(found)} patches of {side}x{side}, too few for {regions} clients: each needs 2. Take a smaller side.")
        owner.append(len(names) + np.arange(len(found)) * regions // len(found))
        names += [f"{file.stem} {i + 1}" for i in range(regions)]
        covers.append(found)
    cover, who = np.concatenate(covers), np.concatenate(owner)
    group = np.arange(clients) % len(rates)
    bits = np.rint(np.array(rates)[group[who]] * side * side).astype(int)
    random = generator(seed, "messages")
    stego = [embed(x, random.integers(0, 2, n), (seed, i)) for i, (x, n) in enumerate(zip(cover, bits, strict=True))]
    unit = np.arange(len(cover))
    return Table(
        name="steganalysis",
        x=np.concatenate([cover, np.stack(stego)]),
        y=np.repeat(np.array([0, 1], np.int32), len(cover)),
        labels=("cover", "stego"),
        owner=np.tile(who, 2),
        names=tuple(names),
        by="region",
        scale=1 / 255,
        unit=np.tile(unit, 2),
        groups=group,
        fixed="a cover and its stego image belong together",
        history=(
            f"{len(cover):,} patches of {side}x{side} from {len(files)} photos, as they are and with a message by LSB matching; "
            f"rates in turn {', '.join(f'{r:g}' for r in rates)} bits per pixel",
        ),
    )


def embed(cover: np.ndarray, message: np.ndarray, key: int | Sequence[int]) -> np.ndarray:
    """LSB matching: `message` (0 or 1, [bits]) into pixels that `key` picks and puts in order. Where a pixel's last bit is not the message's, the pixel
    goes up or down by 1 at random (up from 0, down from 255); so half of the picked pixels change.

    Sharp, "LSB Matching", IHW 2001. Replacing the last bit instead would leave odd pixels never higher and even ones never lower, which is easy to see.
    """
    random = np.random.default_rng(key)
    stego = cover.astype(np.int16).ravel()
    at = random.permutation(stego.size)[: len(message)]
    step = np.where(random.integers(0, 2, len(at)) == 1, 1, -1)
    step = np.where(stego[at] == 0, 1, np.where(stego[at] == 255, -1, step))
    stego[at] += (step * (stego[at] % 2 != message)).astype(np.int16)
    return stego.astype(np.uint8).reshape(cover.shape)


def extract(stego: np.ndarray, bits: int, key: int | Sequence[int]) -> np.ndarray:
    """The message of so many bits that `embed` hid under `key`."""
    return stego.ravel()[np.random.default_rng(key).permutation(stego.size)[:bits]] % 2


def patches(image: np.ndarray, side: int) -> np.ndarray:
    """uint8 [n, side, side], side by side from the upper left corner; what is left at the right and below is dropped."""
    down, across = image.shape[0] // side, image.shape[1] // side
    return image[: down * side, : across * side].reshape(down, side, across, side).swapaxes(1, 2).reshape(-1, side, side)


def grey(file: Path) -> np.ndarray:
    """An image file as uint8 [height, width]; of colours their luma, rounded."""
    pixels = decoded(file)
    if pixels.shape[-1] in (1, 2):  # grey, perhaps with transparency
        return pixels[..., 0]
    return np.rint(pixels[..., :3] @ np.array(LUMA)).astype(np.uint8)


def _packaged() -> list[Path]:
    found = [package_file("sklearn", f"datasets/images/{name}.jpg") for name in ("china", "flower")]
    files = [file for file in found if file is not None]
    if len(files) < len(found):
        raise AtollError("Source steganalysis needs the photos that come with scikit-learn, and this one has none. Give path=FOLDER, a folder of images.")
    return files


def _images(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in DRIVERS)
    if not files:
        raise AtollError(f"{folder} has no images. Source steganalysis reads {', '.join(DRIVERS)}.")
    if len({file.stem for file in files}) < len(files):
        raise AtollError(f"{folder} has two images of one name with different endings. Clients are named by them: rename one.")
    return files
