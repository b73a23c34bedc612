"""A value axis: round ticks, and where a value stands between bottom and top."""

from __future__ import annotations

import math
from typing import NamedTuple

_LOG_FROM = 12  # the largest is so many times the smallest: on a linear axis the smallest would lie flat
_ROUND = (1, 2, 5)
_MANY = 9  # ticks: more would touch each other


class Scale(NamedTuple):
    """From `bottom` to `top`, both of which are positive where the scale is logarithmic."""

    bottom: float
    top: float
    ticks: list[float]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """0 at the bottom, 1 at the top."""
        if not self.logarithmic:
            return (value - self.bottom) / (self.top - self.bottom)
        low, high = math.log(self.bottom), math.log(self.top)
        return (math.log(max(value, self.bottom)) - low) / (high - low)


EMPTY = Scale(0.0, 1.0, [])


def linear(most: float, ticks: int = 4, *, whole: bool = False) -> Scale:
    """From 0 to `most` or a little more, with about so many ticks above 0; `whole`: only whole numbers."""
    most = max(most, 1e-9)
    step = _round_up(most / ticks)
    if whole:
        step = max(1.0, step)
    count = max(1, math.ceil(most / step - 1e-9))
    return Scale(0.0, count * step, [round(n * step, 12) for n in range(count + 1)])


def durations(least: float, most: float) -> Scale:
    """For positive milliseconds: linear, or logarithmic where they differ by more than a power of ten."""
    least = max(least, 1.0)
    if most <= _LOG_FROM * least:
        return linear(most)
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    steps = [10.0**power * digit for power in powers for digit in _ROUND]
    ticks = [step for step in steps if least / 2.5 < step < most * 2.5]
    while ticks[1] <= least:
        ticks.pop(0)
    while ticks[-2] >= most:
        ticks.pop()
    if len(ticks) > _MANY:
        ticks = [10.0**power for power in powers]
    return Scale(ticks[0], ticks[-1], ticks, logarithmic=True)


def _round_up(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next((digit * power for digit in (*_ROUND, 10) if digit * power >= step * (1 - 1e-9)), 10 * power)


def number(value: float) -> str:
    """`1,200`, `12`, `0.5`: three digits, where there are no more before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def milliseconds(value: float) -> str:
    """`532 ms`, `1.2 s`, `90 s`, `20 min`; 0 needs no unit."""
    if value == 0:
        return "0"
    if value < 999.5:
        return f"{value:.0f} ms"
    seconds = value / 1000
    return f"{seconds:.3g} s" if seconds < 600 else f"{seconds / 60:,.0f} min"
