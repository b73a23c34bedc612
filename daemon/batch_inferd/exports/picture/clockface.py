"""Times as people read them: ticks at round local times, dates, and durations."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

# Distances of ticks in seconds.
_STEPS = (
    0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200,
)  # fmt: skip
DAY = 86_400
_DAYS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_MOST = 200


def step_of(least: float) -> float:
    """The smallest round distance of ticks, in seconds, that is `least` or more."""
    for step in _STEPS:
        if step >= least:
            return step
    return next((days * DAY for days in _DAYS if days * DAY >= least), _DAYS[-1] * DAY)


def ticks(begin: float, end: float, step: float, zone: tzinfo | None = None) -> list[float]:
    """Round local times from `begin` to `end`, all in seconds since 1970; `zone` None is the machine's.

    Where clocks are turned, the ticks keep to the clocks: an hour may be skipped, or stand once for two.
    """
    local = _local(begin, zone).replace(tzinfo=None)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    if step >= DAY:
        midnight -= timedelta(days=midnight.toordinal() % round(step / DAY))
    passed = (local - midnight).total_seconds()
    number = int(passed // step)
    found: list[float] = []
    while len(found) < _MOST:
        try:
            t = (midnight + timedelta(seconds=number * step)).replace(tzinfo=zone).timestamp()
        except OverflowError:  # the end of all calendars
            break
        number += 1
        if t > end:
            break
        if t >= begin and (not found or t > found[-1]):
            found.append(t)
    return found


def time_of_day(t: float, step: float, zone: tzinfo | None = None) -> str:
    """`14:03`, with as many digits as ticks at a distance of `step` seconds need; or the date."""
    local = _local(t, zone)
    if step >= DAY:
        return f"{local:%Y-%m-%d}"
    if step >= 60:
        return f"{local:%H:%M}"
    return f"{local:%H:%M:%S}" if step >= 1 else f"{local:%H:%M:%S}.{local.microsecond // 100_000}"


def date(t: float, zone: tzinfo | None = None) -> str:
    """`2026-11-22`."""
    return f"{_local(t, zone):%Y-%m-%d}"


def moment(t: float, zone: tzinfo | None = None) -> str:
    """`2026-11-22 14:03:20`."""
    return f"{_local(t, zone):%Y-%m-%d %H:%M:%S}"


def offset(t: float, zone: tzinfo | None = None) -> str:
    """`UTC+08:00`."""
    plain = f"{_local(t, zone):%z}"
    return f"UTC{plain[:3]}:{plain[3:5]}"


def duration(seconds: float) -> str:
    """`3 d 4 h`, `1 h 6 min`, `5 min 3 s`, `8 s`, `0.5 s`: the two largest units."""
    if seconds < 10 and seconds != int(seconds):
        return f"{seconds:.3g} s"
    left = round(seconds)
    units: list[str] = []
    for name, length in (("d", DAY), ("h", 3600), ("min", 60), ("s", 1)):
        whole, left = divmod(left, length)
        if whole or units:
            units.append(f"{whole} {name}" if whole else "")
    return " ".join(filter(None, units[:2])) or "0 s"


def _local(t: float, zone: tzinfo | None) -> datetime:
    return datetime.fromtimestamp(t, zone) if zone else datetime.fromtimestamp(t).astimezone()
