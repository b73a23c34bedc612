"""The time axis: which columns stand where, which idle times are hatched, and which are cut short."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from batch_inferd.exports.picture.series import Series

MOST = 240  # columns side by side
LEAST = 12  # columns that there is room for in any case: one alone is no wall
_ENOUGH = 8  # events in a column, on average: fewer say more of chance than of the run
_COARSE = 16  # columns that may have fewer
_CUTS = 6
_CUT_SHARE = 0.4  # of the axis: idle time that would take more is cut short
_SHOWN = 3  # columns of idle time that are worth a hatching


class Stretch(NamedTuple):
    """Columns from `first` to before `end`; `seconds` of them were idle."""

    first: int
    end: int
    seconds: float = 0.0

    @property
    def columns(self) -> int:
        """How many they are."""
        return self.end - self.first


class Span:
    """Where columns stand, in units of the picture, from `left` on.

    `parts` are the stretches that are drawn, in order; `cuts` stand between them, idle time that was cut
    short. `idle` are stretches within parts in which nothing was under way.
    """

    def __init__(self, series: Series, left: float, width: float, cut_width: float) -> None:
        self.parts, self.cuts, self.idle = _layout(series)
        self.columns = sum(part.columns for part in self.parts)
        self._left = left
        self._cut_width = cut_width
        room = width - cut_width * (len(self.parts) - 1)
        self.unit = room / max(self.columns, LEAST)

    def x(self, column: float) -> float:
        """Where the column begins. What was cut away stands at its beginning or its end."""
        at = self._left
        for part in self.parts:
            if column <= part.end:
                return at + max(0.0, column - part.first) * self.unit
            at += part.columns * self.unit + self._cut_width
        return at - self._cut_width

    def begin(self, part: int) -> float:
        """Where a part begins."""
        before = sum(one.columns for one in self.parts[:part])
        return self._left + before * self.unit + part * self._cut_width

    def end(self, part: int) -> float:
        """Where a part ends."""
        return self.begin(part) + self.parts[part].columns * self.unit


def fit(series: Series, left: float, width: float, cut_width: float) -> Span:
    """Widen the columns until they can be drawn and say something; then lay them out."""
    while True:
        span = Span(series, left, width, cut_width)
        events = sum(column.events for column in series.columns.values())
        thin = span.columns > _COARSE and events < _ENOUGH * len(series.columns)
        if span.columns <= MOST and not thin:
            return span
        series.widen()


def _layout(series: Series) -> tuple[list[Stretch], list[Stretch], list[Stretch]]:
    """Parts, cuts and idle times. There is at least one column."""
    numbers = sorted(series.columns)
    begin, idle = _idle(series, numbers)
    end = numbers[-1] + 1
    drawn = end - begin
    cuts: list[Stretch] = []
    for gap in sorted(idle, key=lambda gap: gap.columns, reverse=True)[:_CUTS]:
        if gap.columns < _SHOWN or gap.columns <= _CUT_SHARE * drawn:
            break
        cuts.append(gap)
        drawn -= gap.columns
    cuts.sort()
    edges = [begin, *(edge for cut in cuts for edge in (cut.first, cut.end)), end]
    parts = [Stretch(*edges[at : at + 2]) for at in range(0, len(edges), 2)]
    shown = [gap for gap in idle if gap not in cuts and gap.columns >= _SHOWN]
    return parts, cuts, shown


def _idle(series: Series, numbers: list[int]) -> tuple[int, list[Stretch]]:
    """When the first call began, and the times in which no call was under way that was answered later."""
    columns, found = series.columns, list[Stretch]()
    since = columns[numbers[-1]].since
    for before, number in reversed(list(pairwise(numbers))):
        since = min(since, columns[number].since)
        first = min(number, int(since // series.width))
        if before + 1 < first:
            found.append(Stretch(before + 1, first, since - columns[before].until))
    since = min(since, columns[numbers[0]].since)
    return min(numbers[0], int(since // series.width)), found[::-1]
