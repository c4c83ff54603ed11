"""The key of a chart: a button per method that shows and hides it, with the symbol and the dash it is drawn with."""

from __future__ import annotations

import math

from atoll.report.colours import Style
from atoll.report.figure import Chart
from atoll.report.markup import Html, e, join

WIDTH, HEIGHT = 30, 14  # of a swatch, pixels
REACH = 4.2  # of a symbol, from its middle
DASHED = {"solid": None, "dash": "7 4", "longdash": "11 4", "dot": "2 3", "dashdot": "7 3 2 3"}
CORNERS = {"square": 4, "diamond": 4, "triangle-up": 3}


def legend(chart: Chart, look: dict[str, Style]) -> Html | None:
    """Buttons for the methods of a chart; None where there are none. Pressed: drawn."""
    if not chart.legend:
        return None
    buttons = [_button(name, look[name], name not in chart.hidden) for name in chart.legend]
    if len(buttons) > 2:
        buttons += [e("button", word, type="button", class_="set", data_set=word) for word in ("all", "none")]
    return e("div", *buttons, class_="legend", role="group", aria_label=f"{chart.title}: methods shown")


def _button(name: str, style: Style, shown: bool) -> Html:
    return e("button", swatch(style), e("span", name), type="button", class_="key", data_method=name, aria_pressed="true" if shown else "false")


def swatch(style: Style) -> Html:
    """A piece of the method's line with its symbol, in the colour of the scheme."""
    middle = HEIGHT / 2
    line = e("line", x1=0, y1=middle, x2=WIDTH, y2=middle, stroke="currentColor", stroke_width=2, stroke_dasharray=DASHED[style.dash])
    picture = e("svg", line, _symbol(style.symbol), viewBox=f"0 0 {WIDTH} {HEIGHT}", width=WIDTH, height=HEIGHT, aria_hidden="true", focusable="false")
    return e("span", picture, class_="swatch", style=f"color:light-dark({style.colour},{style.dark})")


def _symbol(symbol: str) -> Html:
    kind, hollow = symbol.removesuffix("-open"), symbol.endswith("-open")
    paint = {"fill": "var(--ground)" if hollow else "currentColor", "stroke": "currentColor", "stroke_width": 1.6 if hollow else None}
    if kind == "circle":
        return e("circle", cx=WIDTH / 2, cy=HEIGHT / 2, r=REACH, **paint)
    if kind in ("cross", "x"):
        return _bars(0 if kind == "cross" else math.pi / 4)
    n = CORNERS[kind]
    turn = math.pi / 4 if kind == "square" else math.pi / 2
    reach = REACH * (1.25 if kind == "square" else 1.15)
    corners = [turn + 2 * math.pi * i / n for i in range(n)]
    points = " ".join(f"{WIDTH / 2 + reach * math.cos(a):.1f},{HEIGHT / 2 - reach * math.sin(a):.1f}" for a in corners)
    return e("polygon", points=points, **paint)


def _bars(turn: float) -> Html:
    """A plus, or turned by 45 degrees a cross."""
    bars = []
    for angle in (turn, turn + math.pi / 2):
        dx, dy = REACH * math.cos(angle), REACH * math.sin(angle)
        x, y = WIDTH / 2, HEIGHT / 2
        ends = {"x1": f"{x - dx:.1f}", "y1": f"{y - dy:.1f}", "x2": f"{x + dx:.1f}", "y2": f"{y + dy:.1f}"}
        bars.append(e("line", **ends, stroke="currentColor", stroke_width=3.4))
    return join(*bars)
