"""Numbers for people: the same in every language."""

from __future__ import annotations

import math
import time

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def count(number: float) -> str:
    """`1,234,567`."""
    return f"{int(number):,}"


def share(part: float) -> str:
    """`42.0%` for 0.42; rounded down, so that 100.0% means all."""
    return f"{int(max(0.0, min(part, 1.0)) * 1000) / 10:.1f}%"


def rate(per_second: float) -> str:
    """`12.3/s`."""
    return f"{per_second:,.1f}/s" if per_second < 1000 else f"{per_second:,.0f}/s"


def duration(seconds: float) -> str:
    """`0:01:12`: hours, minutes, seconds."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def span(seconds: float) -> str:
    """`3d 4h`, `2h 10m`, `5m 3s`, `45s`: an age or a time that is left, as its two largest units."""
    if not math.isfinite(seconds):
        return "?"
    left = max(0, int(seconds))
    units = []
    for name, length in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        whole, left = divmod(left, length)
        units.append((whole, name))
    first = next((i for i, (whole, _) in enumerate(units) if whole), len(units) - 1)
    shown = [units[first], *(unit for unit in units[first + 1 : first + 2] if unit[0])]
    return " ".join(f"{whole}{name}" for whole, name in shown)


def size(number: float) -> str:
    """`1.5 MiB`."""
    step = 0
    while number >= 1024 and step < len(_SIZES) - 1:
        number /= 1024
        step += 1
    return f"{number:.0f} {_SIZES[step]}" if step == 0 else f"{number:.1f} {_SIZES[step]}"


def money(amount: float, currency: str) -> str:
    """`1,234.5600 USD`; small amounts have as many digits as they need: `0.0000153 USD`."""
    digits = 4
    if 0 < abs(amount) < 0.01:
        digits = min(8, 2 - math.floor(math.log10(abs(amount))))
    return f"{amount:,.{digits}f} {currency}".rstrip()


def moment(unix: float) -> str:
    """Local date and time of a moment in seconds since 1970."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix))
