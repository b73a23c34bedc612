"""What stands below and over all panels: the times, the lengths of idle times, and what a column holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.exports.picture import clockface, scale, style
from batch_inferd.exports.picture.svg import width_of

if TYPE_CHECKING:
    from datetime import tzinfo

    from batch_inferd.exports.picture.panels import Unit
    from batch_inferd.exports.picture.series import Column, Series
    from batch_inferd.exports.picture.span import Span
    from batch_inferd.exports.picture.svg import Canvas

_APART = 14  # units between two labels
_LEAST = 78  # units between two ticks


class Tick(NamedTuple):
    """A time, where it stands, and how it is written; `text` is empty where there is no room for it."""

    t: float
    x: float
    text: str


def ticks(series: Series, span: Span, zone: tzinfo | None = None) -> list[Tick]:
    """Round times, and the begin of each part behind idle time that was cut short."""
    step = clockface.step_of(_LEAST / span.unit * series.width)
    begins: list[Tick] = []
    found: list[Tick] = []
    for at, part in enumerate(span.parts):
        first = part.first * series.width
        rounded = clockface.ticks(first, part.end * series.width, step, zone)
        found += [Tick(t, span.begin(at) + (t - first) / series.width * span.unit, "") for t in rounded]
        if at or not rounded:
            begins.append(Tick(first, span.begin(at), clockface.time_of_day(first, min(step, 60), zone)))
    taken = [_extent(tick) for tick in begins]
    for tick in found:
        named = tick._replace(text=clockface.time_of_day(tick.t, step, zone))
        begin, end = _extent(named)
        if all(end + _APART < other or begin > other_end + _APART for other, other_end in taken):
            begins.append(named)
            taken.append((begin, end))
        else:
            begins.append(tick)
    return sorted(begins, key=lambda tick: tick.x)


def _extent(tick: Tick) -> tuple[float, float]:
    half = width_of(tick.text, style.SMALL) / 2
    return tick.x - half, tick.x + half


def write_times(canvas: Canvas, y: float, found: list[Tick], zone: tzinfo | None = None) -> float:
    """The times, and below them the date wherever it is a new one; returns the last line's y."""
    shown, free = "", 0.0
    for tick in found:
        if not tick.text:
            continue
        canvas.line(tick.x, y, tick.x, y + 4, "axis")
        canvas.label(tick.x, y + 17, tick.text, "small muted", anchor="middle")
        date = clockface.date(tick.t, zone)
        half = width_of(date, style.SMALL) / 2
        if tick.text == date:  # days do not want it twice
            continue
        if date != shown and tick.x - half > free:
            canvas.label(tick.x, y + 32, date, "small muted", anchor="middle")
            shown, free = date, tick.x + half + _APART
    return y + (32 if shown else 17)


def write_idle(canvas: Canvas, middle: float, span: Span) -> None:
    """How long idle times were, where there is room to say so, at the height of `middle`."""
    for idle in span.idle:
        text, wide = clockface.duration(round(idle.seconds)), idle.columns * span.unit
        x = (span.x(idle.first) + span.x(idle.end)) / 2
        _tag(canvas, x, middle, text, turn=wide < width_of(text, style.SMALL) + 12, room=wide)
    for at, cut in enumerate(span.cuts):
        x = (span.end(at) + span.begin(at + 1)) / 2
        _tag(canvas, x, middle, clockface.duration(round(cut.seconds)), turn=True, room=style.CUT)


def _tag(canvas: Canvas, x: float, y: float, text: str, *, turn: bool, room: float) -> None:
    if room < 18:
        return
    long = width_of(text, style.SMALL) + 12
    width, height = (17.0, long) if turn else (long, 17.0)
    canvas.rect(x - width / 2, y - height / 2, width, height, "paper")
    if turn:
        canvas.label(x + 4, y, text, "small muted", anchor="middle", turn=True)
    else:
        canvas.label(x, y + 4, text, "small muted", anchor="middle")


def write_columns(
    canvas: Canvas, top: float, bottom: float, series: Series, span: Span, unit: Unit, zone: tzinfo | None
) -> None:
    """Over each column a field that tells what is in it when the mouse rests there."""
    for number, column in sorted(series.columns.items()):
        begin = span.x(number)
        begin_t = number * series.width
        step = 1 if series.width >= 1 else 0.1
        times = [clockface.time_of_day(t, step, zone) for t in (begin_t, begin_t + series.width)]
        title = "\n".join(
            [f"{clockface.date(begin_t, zone)} {times[0]} to {times[1]}", *_told(column, series.width, unit)]
        )
        canvas.rect(begin, top, span.unit, bottom - top, "hit", title)


def _told(column: Column, width: float, unit: Unit) -> list[str]:
    answers = column.answers.total()
    told = [f"{answers:,} answers, {scale.number(answers / width * unit.seconds)}/{unit.name}"]
    latencies = column.latencies()
    if latencies.count:
        shares = (("median", 0.5), ("95 %", 0.95), ("99 %", 0.99))
        named = [f"{name} {scale.milliseconds(latencies.percentile(share) or 0)}" for name, share in shares]
        told.append("latency: " + ", ".join(named))
    for what, counts in (("failed attempts", column.failed), ("ended without an answer", column.ended)):
        if counts:
            told.append(f"{what}: " + ", ".join(f"{name} {count:,}" for name, count in counts.most_common()))
    return told
