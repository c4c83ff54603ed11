"""Numbers as people read them. None and NaN are a dash."""

from __future__ import annotations

import math

DASH = "\N{EN DASH}"


def percent(share: float | None) -> str:
    """0.8421 -> "84.2"; the sign stands in the column's head."""
    return DASH if _nothing(share) else f"{100 * share:.1f}"  # type: ignore[operator]


def share(value: float | None) -> str:
    """0.1429 -> "14.3 %"; in sentences."""
    return DASH if _nothing(value) else f"{percent(value)} %"


def loss(value: float | None) -> str:
    """Four significant digits."""
    return DASH if _nothing(value) else f"{value:#.4g}".rstrip(".")


def count(value: float | None) -> str:
    return DASH if _nothing(value) else f"{int(value):,}"  # type: ignore[arg-type]


def rounds(value: float | None) -> str:
    """A mean number of rounds."""
    return DASH if _nothing(value) else f"{value:.1f}".removesuffix(".0")


def index(value: float | None) -> str:
    """A number between -1 and 1 with two digits behind the point."""
    return DASH if _nothing(value) else f"{value:.2f}".replace("-0.00", "0.00")


def size(n: float | None) -> str:
    """Bytes with decimal prefixes: 12500 -> "12.5 kB"."""
    return _scaled(n, ("B", "kB", "MB", "GB", "TB", "PB"))


def work(n: float | None) -> str:
    """Floating-point operations: 2.1e9 -> "2.10 G"."""
    return _scaled(n, ("", "k", "M", "G", "T", "P", "E")).strip()


def seconds(s: float | None) -> str:
    """Durations: 0.004 -> "4.00 ms", 0.42 -> "0.420 s", 75 -> "1.25 min"."""
    if _nothing(s):
        return DASH
    assert s is not None
    for limit, unit, name in ((0.1, 1e-3, "ms"), (60.0, 1.0, "s"), (5400.0, 60.0, "min"), (math.inf, 3600.0, "h")):
        if abs(s) < limit:
            return f"{_three(s / unit)} {name}"
    return DASH


def some(names: list[str], at_most: int = 6) -> str:
    """ "A", "A and B", "A, B and C", "A, B, C and 9 more"."""
    if len(names) > at_most:
        names = [*names[: at_most - 1], f"{len(names) - at_most + 1} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def number(n: int, one: str, many: str | None = None) -> str:
    """1 client, 2 clients."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def short(text: str, length: int) -> str:
    """At most `length` characters, with an ellipsis where something was cut: out of the middle, since names often differ at their ends."""
    if len(text) <= length:
        return text
    tail = (length - 1) * 2 // 5
    return text[: length - 1 - tail].rstrip() + "…" + text[len(text) - tail :].lstrip()


def _scaled(n: float | None, units: tuple[str, ...]) -> str:
    if _nothing(n):
        return DASH
    assert n is not None
    power = 0
    while abs(n) >= 999.5 and power < len(units) - 1:
        n, power = n / 1000, power + 1
    return f"{_three(n) if power else f'{n:.0f}'} {units[power]}"


def _three(value: float) -> str:
    """Three significant digits without an exponent."""
    if value == 0:
        return "0"
    value = float(f"{value:.3g}")  # before counting digits, so that 9.996 is 10.0
    digits = max(0, 2 - math.floor(math.log10(abs(value) * (1 + 1e-12))))
    return f"{value:.{min(digits, 6)}f}"


def _nothing(value: float | None) -> bool:
    return value is None or math.isnan(value)
