"""Colours, dashes and symbols of methods: the same in every plot of a report, tellable apart with any colour vision, on light and on dark ground.

Every method also has a pair of symbol and dash of its own (up to 24 beside the baselines), so no plot speaks by colour alone. Figures are made in
light colours; the page swaps each colour for its dark partner by value (`pairs`), which is why no two roles share one.
"""

from __future__ import annotations

from dataclasses import dataclass

# (on light ground, on dark ground). Chosen so that any two differ by more than 11 in CIELAB for normal, deuteranopic and protanopic eyes, and each has
# a contrast of at least 3 to its ground (tests/report).
BASELINES = {"Majority": ("#8A929A", "#8B939B"), "Local": ("#3D4650", "#D5DBE1"), "FedAvg": ("#0072B2", "#5AA9E6"), "FedAvg+FT": ("#C24A00", "#FF8A3D")}
METHODS = (("#009E73", "#1FB583"), ("#7B2D8B", "#D070C8"), ("#BF8C00", "#F2D45C"), ("#5B5BD6", "#7B6CF0"), ("#1FA0C4", "#7FDDF2"), ("#803020", "#B5764A"))

INK = ("#1C2329", "#E6EAEE")
FAINT = ("#5A6570", "#A3AEB9")
GRID = ("#DDE3E8", "#333C46")
GROUND = ("#FFFFFE", "#161B21")
HEAT = (("#F3F7FA", "#1D242C"), ("#A9D0E8", "#1F5578"), ("#4292C3", "#2F8CC4"), ("#08467E", "#B5E0FA"))  # from none to most

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")  # baselines have the first four, hollow
DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True)
class Style:
    """How a method is drawn. `dark` is the partner of `colour` on dark ground."""

    colour: str
    dark: str
    symbol: str
    dash: str


def styles(labels: list[str]) -> dict[str, Style]:
    """A style for each method. Baselines always look the same, hollow and broken; others take colours in turn, another symbol and dash at each turn."""
    made: dict[str, Style] = {}
    others = 0
    for label in labels:
        if label in BASELINES:
            at = list(BASELINES).index(label)
            made[label] = Style(*BASELINES[label], f"{SYMBOLS[at]}-open", ("dot", "dash", "dashdot", "longdash")[at])
        else:
            turn, at = divmod(others, len(METHODS))
            made[label] = Style(*METHODS[at], SYMBOLS[(at + turn) % len(SYMBOLS)], DASHES[turn % len(DASHES)])
            others += 1
    return made


def pairs() -> list[tuple[str, str]]:
    """Every (light, dark) pair, for the page."""
    return [*BASELINES.values(), *METHODS, INK, FAINT, GRID, GROUND, *HEAT]
