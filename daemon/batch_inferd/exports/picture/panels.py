"""The three panels: the rate of answers, their latency, and what failed. Each returns where it ends."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.exports.picture import scale, style
from batch_inferd.exports.picture.clockface import duration
from batch_inferd.exports.picture.plot import AREA, STROKE, Item, Plot, legend

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batch_inferd.exports.picture.series import Series
    from batch_inferd.exports.picture.span import Span
    from batch_inferd.exports.picture.svg import Canvas

_HEIGHT = 150
_STRIP = 70
_LOW = 20
_APART = 34
BELOW_HEAD = 14
_PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_NAMES = {"p50": "median", "p95": "95 % within", "p99": "99 % within"}
_PATHS = ("online", "batch")
_UNIT_WORDS = {"s": "second", "min": "minute", "h": "hour"}


class Sheet(NamedTuple):
    """What all panels share: where to draw, what, and the x of time ticks."""

    canvas: Canvas
    series: Series
    span: Span
    times: Sequence[float]

    def nothing(self, y: float, head: str, text: str) -> float:
        """A panel that has nothing to show."""
        y = legend(self.canvas, y, head, [Item(text)])
        plot = Plot(self.canvas, self.span, scale.EMPTY, y + BELOW_HEAD, _LOW)
        plot.frame(str, self.times)
        plot.close()
        return plot.top + plot.height


class Unit(NamedTuple):
    """A rate's unit: its name, and how many seconds it is."""

    name: str
    seconds: int


def rate_unit(per_second: float) -> Unit:
    """In which the rate is a number that one can read."""
    for unit in (Unit("s", 1), Unit("min", 60)):
        if per_second * unit.seconds >= 1:
            return unit
    return Unit("h", 3600)


def rate_panel(sheet: Sheet, y: float) -> float:
    """Answers by time; online calls and batches apart where there are both."""
    series, span = sheet.series, sheet.span
    totals = {number: column.answers.total() for number, column in series.columns.items()}
    if not sum(totals.values()):
        return sheet.nothing(y, "Answers", "none")
    unit = rate_unit(max(totals.values()) / series.width)
    factor = unit.seconds / series.width
    whole = series.whole()
    found = whole.answers
    idle = sum(stretch.seconds for stretch in (*span.idle, *span.cuts))
    busy = max(series.width, whole.until - whole.since - idle)
    mean = scale.number(sum(totals.values()) * unit.seconds / busy)
    most = scale.number(max(totals.values()) * factor)
    items = [Item(f"{mean} on average, {most} at most")]
    if len(found) > 1:
        items += [Item(f"{path} {found[path]:,}", path, AREA) for path in _PATHS]
    y = legend(sheet.canvas, y, f"Answers per {_UNIT_WORDS[unit.name]}", items)
    plot = _plot(sheet, y, _HEIGHT, scale.linear(max(totals.values()) * factor))
    plot.frame(scale.number, sheet.times)
    plot.stack(
        {
            path: {number: column.answers[path] * factor for number, column in series.columns.items()}
            for path in _PATHS
        }
    )
    plot.close()
    return plot.top + plot.height


def latency_panel(sheet: Sheet, y: float) -> float:
    """Median and high percentiles of online calls."""
    levels: dict[str, dict[int, float]] = {name: {} for name in _PERCENTILES}
    for number, column in sheet.series.columns.items():
        found = column.latencies()
        for name, share in _PERCENTILES.items():
            ms = found.percentile(share)
            if ms is not None:
                levels[name][number] = max(1, ms)
    whole = sheet.series.whole()
    if not levels["p50"]:
        return sheet.nothing(y, "Latency", "answers of batches have none" if whole.answers else "no answers")
    overall = whole.latencies()
    items = [
        Item(f"{_NAMES[name]} {scale.milliseconds(overall.percentile(share) or 0)}", name, STROKE)
        for name, share in _PERCENTILES.items()
    ]
    y = legend(sheet.canvas, y, "Latency of online calls" if whole.answers["batch"] else "Latency", items)
    axis = scale.durations(min(levels["p50"].values()), max(levels["p99"].values()))
    plot = _plot(sheet, y, _HEIGHT, axis)
    plot.frame(scale.milliseconds, sheet.times)
    plot.band(levels["p50"], levels["p99"], "spread")
    for name in ("p99", "p95", "p50"):
        plot.lines(levels[name], name)
    plot.close()
    return plot.top + plot.height


def error_panels(sheet: Sheet, y: float) -> float:
    """Failed attempts, and below them the records that ended without an answer; colours by class."""
    columns = sheet.series.columns
    whole = sheet.series.whole()
    kinds = _kinds(whole.failed + whole.ended)
    failed = {number: column.failed for number, column in columns.items()}
    y = _strip(sheet, y, "Failed attempts, tried again", failed, kinds)
    ended = {number: column.ended for number, column in columns.items()}
    return _strip(sheet, y + _APART, "Records that ended without an answer", ended, kinds)


def _kinds(totals: Counter[str]) -> dict[str, str]:
    """A colour for each class, those of the most frequent ones first."""
    names = sorted(totals, key=lambda name: (-totals[name], name))
    return {name: f"e{at}" if at < style.CLASSES else "rest" for at, name in enumerate(names)}


def _strip(
    sheet: Sheet, y: float, head: str, counts: Mapping[int, Counter[str]], kinds: Mapping[str, str]
) -> float:
    totals: Counter[str] = Counter()
    for found in counts.values():
        totals.update(found)
    if not totals:
        return sheet.nothing(y, head, "none")
    order = [name for name in kinds if totals[name]]
    items = [Item(f"per {duration(sheet.series.width)}")]
    items += [Item(f"{name} {totals[name]:,}", kinds[name], AREA) for name in order]
    y = legend(sheet.canvas, y, head, items)
    layers: dict[str, dict[int, float]] = {}
    for name in order:
        layer = layers.setdefault(kinds[name], {})
        for number, found in counts.items():
            layer[number] = layer.get(number, 0) + found[name]
    most = max(found.total() for found in counts.values())
    plot = _plot(sheet, y, _STRIP, scale.linear(most, 2, whole=True))
    plot.frame(scale.number, sheet.times)
    plot.stack(layers)
    plot.close()
    return plot.top + plot.height


def _plot(sheet: Sheet, y: float, height: float, axis: scale.Scale) -> Plot:
    return Plot(sheet.canvas, sheet.span, axis, y + BELOW_HEAD, height)
