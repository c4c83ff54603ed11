"""Methods can be told apart by any eye: by colour, and without it."""

from itertools import combinations

import numpy as np
import pytest

from atoll.report.colours import BASELINES, FAINT, GROUND, INK, METHODS, pairs, styles

# Linear RGB as seen by normal, protanopic and deuteranopic eyes: Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color
# Vision Deficiency", IEEE TVCG 15(6), 2009, severity 1.
EYES = {
    "normal": np.eye(3),
    "protanopic": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deuteranopic": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
}
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])  # sRGB, D65
WHITE = np.array([0.95047, 1.0, 1.08883])


def linear(colour: str) -> np.ndarray:
    """Linear RGB of #RRGGBB."""
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB."""
    t = TO_XYZ @ np.clip(rgb, 0, 1) / WHITE
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(a: str, b: str) -> float:
    """As WCAG has it: 1 to 21."""
    bright = sorted(float((TO_XYZ @ linear(c))[1]) for c in (a, b))
    return (bright[1] + 0.05) / (bright[0] + 0.05)


def test_the_yardstick():
    assert lab(linear("#FFFFFF")) == pytest.approx([100, 0, 0], abs=0.01)
    assert lab(linear("#FF0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.02)  # sRGB's red in CIELAB
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    grey = EYES["deuteranopic"] @ np.full(3, 0.5)
    assert grey == pytest.approx(np.full(3, 0.5), abs=0.001)  # greys stay grey to any eye


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("ground", [0, 1])
def test_any_two_methods_differ(eye, ground):
    seen = {pair[ground]: lab(EYES[eye] @ linear(pair[ground])) for pair in [*BASELINES.values(), *METHODS]}
    for a, b in combinations(seen, 2):
        assert np.linalg.norm(seen[a] - seen[b]) > 11, (a, b)


@pytest.mark.parametrize("ground", [0, 1])
def test_everything_stands_out_from_its_ground(ground):
    for pair in [*BASELINES.values(), *METHODS]:
        assert contrast(pair[ground], GROUND[ground]) >= 3, pair
    for pair in (INK, FAINT):  # text
        assert contrast(pair[ground], GROUND[ground]) >= 4.5, pair


def test_the_page_can_swap_colours_by_value():
    light = [a for a, _ in pairs()]
    assert len(set(light)) == len(light)
    assert all(len(c) == 7 and c.startswith("#") for pair in pairs() for c in pair)


def test_no_method_needs_its_colour():
    """The four baselines and 24 methods: symbol and dash differ for any two."""
    made = styles([*BASELINES, *(f"method {i}" for i in range(24))])
    assert len({(style.symbol, style.dash) for style in made.values()}) == 28


def test_baselines_look_the_same_in_every_run():
    assert styles(["FedPer", "Local"])["Local"] == styles(["Majority", "Local", "FedAvg"])["Local"]
