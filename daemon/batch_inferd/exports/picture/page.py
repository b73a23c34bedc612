"""The whole picture: heading, panels, time axis, and a line that explains it."""

from __future__ import annotations

import ntpath
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_inferd.exports.picture import clockface, style
from batch_inferd.exports.picture.panels import (
    BELOW_HEAD,
    Sheet,
    error_panels,
    latency_panel,
    rate_panel,
    rate_unit,
)
from batch_inferd.exports.picture.span import fit
from batch_inferd.exports.picture.svg import Canvas, escape, shortened
from batch_inferd.exports.picture.timeline import ticks, write_columns, write_idle, write_times

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo

    from batch_inferd.exports.picture.series import Series

_TOP = 112  # where the first panel begins
_APART = 36  # between panels


class Facts(NamedTuple):
    """What is said of the task in the heading; `summary` as exports have it."""

    task_id: str
    summary: Mapping[str, Any]


def draw(facts: Facts, series: Series, zone: tzinfo | None = None) -> str:
    """The SVG. Widens the columns of `series`; times are local in `zone`, None is the machine's."""
    canvas = Canvas()
    lines = _told(facts.summary, zone)
    _heading(canvas, facts, lines)
    if series.columns:
        bottom = _panels(canvas, series, zone)
    else:
        canvas.label(style.LEFT, _TOP, "Nothing was tried: there is nothing to show.", "muted")
        bottom = _TOP
    height = round(bottom + 24)
    title, about = escape(f"Run of {facts.task_id}"), escape(" ".join(lines))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{style.WIDTH}" height="{height}" '
        f'viewBox="0 0 {style.WIDTH} {height}" role="img" aria-labelledby="run-title run-about">\n'
        f'<title id="run-title">{title}</title>\n<desc id="run-about">{about}</desc>\n{style.sheet()}\n'
        f'<rect width="{style.WIDTH}" height="{height}" class="paper"/>\n{canvas.text}\n</svg>\n'
    )


def _heading(canvas: Canvas, facts: Facts, lines: list[str]) -> None:
    room = style.WIDTH - style.LEFT - style.RIGHT
    canvas.label(style.LEFT, 38, shortened(facts.task_id, style.TITLE, room * 0.95), "title")
    for at, line in enumerate(lines):
        canvas.label(style.LEFT, 60 + 18 * at, shortened(line, style.TEXT, room), "muted")


def _told(summary: Mapping[str, Any], zone: tzinfo | None) -> list[str]:
    counts = summary.get("counts") or {}
    total = counts.get("input", 0)
    parts = [f"{total:,} record{'' if total == 1 else 's'}: {counts.get('output', 0):,} answered"]
    named = (("error", "failed"), ("missing", "missing"), ("pending", "open"))
    parts += [f"{counts[name]:,} {word}" for name, word in named if counts.get(name)]
    what = [str(summary.get("state") or ""), ", ".join(parts), str(summary.get("model") or "")]
    what.append(ntpath.basename(str(summary.get("input") or "")))
    lines = [" · ".join(filter(None, what))]
    started, ended = summary.get("started"), summary.get("ended")
    if started is not None and ended is not None:
        end = clockface.moment(ended, zone)
        if clockface.date(started, zone) == clockface.date(ended, zone):
            end = end.partition(" ")[2]
        times = f"{clockface.moment(started, zone)} to {end}"
        place = clockface.offset(started, zone)
        lines.append(f"{times} ({place}) · {clockface.duration(max(0.0, round(ended - started, 1)))}")
    return lines


def _panels(canvas: Canvas, series: Series, zone: tzinfo | None) -> float:
    span = fit(series, style.LEFT, style.PLOT, style.CUT)
    found = ticks(series, span, zone)
    sheet = Sheet(canvas, series, span, [tick.x for tick in found])
    top = _TOP + BELOW_HEAD
    first = rate_panel(sheet, _TOP)
    bottom = error_panels(sheet, latency_panel(sheet, first + _APART) + _APART)
    write_idle(canvas, (top + first) / 2, span)
    most = max(column.answers.total() for column in series.columns.values())
    write_columns(canvas, top, bottom, series, span, rate_unit(most / series.width), zone)
    y = write_times(canvas, bottom, found, zone)
    explained = [f"One step is {clockface.duration(series.width)}."]
    if span.idle or span.cuts:
        explained.append("Hatched: no call was under way that was answered.")
    if span.cuts:
        explained.append("Long idle times are cut short.")
    canvas.label(style.LEFT, y + 26, " ".join(explained), "small muted")
    return y + 26
