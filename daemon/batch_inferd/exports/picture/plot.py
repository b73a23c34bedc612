"""A plot: its frame with ticks and idle times, and the shapes that show values of columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.exports.picture import style
from batch_inferd.exports.picture.svg import Canvas, coordinate, escape, width_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from batch_inferd.exports.picture.scale import Scale
    from batch_inferd.exports.picture.span import Span

_LINE = 17  # from a line of a legend to the next one
_GAP = 12  # between its words
AREA, STROKE = "■", "—"  # marks of a legend


class Item(NamedTuple):
    """A word of a legend: its text, its mark if it has one, and the class that colours that."""

    text: str
    kind: str = ""
    mark: str = ""


class Plot:
    """The rectangle from `top` on in which columns are drawn to a scale."""

    def __init__(self, canvas: Canvas, span: Span, scale: Scale, top: float, height: float) -> None:
        self.top, self.height = top, height
        self._canvas, self._span, self._scale = canvas, span, scale

    def y(self, value: float) -> float:
        """Where a value stands."""
        return self.top + self.height * (1 - self._scale.share(value))

    def frame(self, name: Callable[[float], str], times: Sequence[float]) -> None:
        """The grid, with `name` of each value tick beside it; `times` are the x of time ticks."""
        canvas, span, bottom = self._canvas, self._span, self.top + self.height
        right = max(span.end(len(span.parts) - 1), style.LEFT + style.PLOT)
        for idle in span.idle:
            begin, end = span.x(idle.first), span.x(idle.end)
            canvas.rect(begin, self.top, end - begin, self.height, "idle")
        for x in times:
            canvas.line(x, self.top, x, bottom, "grid")
        for tick in self._scale.ticks:
            y = self.y(tick)
            if tick != self._scale.ticks[0]:
                canvas.line(style.LEFT, y, right, y, "grid")
            canvas.label(style.LEFT - 8, y + 4, name(tick), "small muted", anchor="end")

    def close(self) -> None:
        """What stands over the values: the base line, and the idle times that were cut short."""
        canvas, span, bottom = self._canvas, self._span, self.top + self.height
        canvas.line(style.LEFT, bottom, style.LEFT + style.PLOT, bottom, "axis")
        for at in range(len(span.cuts)):
            begin, end = span.end(at), span.begin(at + 1)
            canvas.rect(begin, self.top - 1, end - begin, self.height + 2, "paper")
            canvas.rect(begin, self.top, end - begin, self.height, "idle")

    def stack(self, layers: Mapping[str, Mapping[int, float]]) -> None:
        """Values of columns one on the other: class -> column -> value. The first one stands lowest."""
        base: dict[int, float] = {}
        for kind, values in layers.items():
            filled = {number: value for number, value in values.items() if value > 0}
            top = {number: base.get(number, 0.0) + value for number, value in filled.items()}
            self._canvas.path(self._area(base, top), kind)
            base |= top

    def band(self, low: Mapping[int, float], high: Mapping[int, float], kind: str) -> None:
        """The room between two values of each column."""
        self._canvas.path(self._area(low, high), kind)

    def lines(self, values: Mapping[int, float], kind: str) -> None:
        """A level for each column, joined where columns stand side by side."""
        steps = []
        for run in _runs(values):
            steps.append(f"M{self._at(run[0], values[run[0]])}")
            steps += self._along(run, values)
        self._canvas.path("".join(steps), kind)

    def _area(self, low: Mapping[int, float], high: Mapping[int, float]) -> str:
        steps = []
        for run in _runs(high):
            steps.append(f"M{self._at(run[0], high[run[0]])}")
            steps += self._along(run, high)
            for number in reversed(run):
                begin, y = self._span.x(number), self.y(low.get(number, 0.0))
                steps.append(f"V{coordinate(y)}H{coordinate(begin)}")
            steps.append("Z")
        return "".join(steps)

    def _along(self, run: list[int], values: Mapping[int, float]) -> list[str]:
        steps, before = [], None
        for at, number in enumerate(run):
            y = coordinate(self.y(values[number]))
            after = coordinate(self.y(values[run[at + 1]])) if at + 1 < len(run) else None
            steps.append(f"V{y}" if before not in (None, y) else "")
            steps.append("" if after == y else f"H{coordinate(self._span.x(number + 1))}")
            before = y
        return steps

    def _at(self, column: int, value: float) -> str:
        return f"{coordinate(self._span.x(column))} {coordinate(self.y(value))}"


def _runs(values: Mapping[int, float]) -> Iterator[list[int]]:
    """The columns that stand side by side."""
    run: list[int] = []
    for number in sorted(values):
        if run and number != run[-1] + 1:
            yield run
            run = []
        run.append(number)
    if run:
        yield run


def legend(canvas: Canvas, y: float, head: str, items: Sequence[Item]) -> float:
    """A heading with the legend behind it, in as many lines as it takes; returns the last line's y.

    It flows as text does: how wide it is, the reader's fonts say. Only where lines end is a guess.
    """
    begin = style.LEFT + width_of(head, style.HEAD) * 1.1 + _GAP
    x, line = begin, [f'<tspan class="head">{escape(head)}</tspan>']
    at: float = style.LEFT
    for item in items:
        width = (width_of("■ ", style.TEXT) if item.mark else 0) + width_of(item.text, style.TEXT) + _GAP + 4
        if x + width > style.WIDTH and x > begin:
            canvas.flow(at, y, line)
            x, y, at, line = begin, y + _LINE, begin, []
        gap = f' dx="{_GAP}"' if line else ""
        if item.mark:
            line.append(f'<tspan{gap} class="{item.kind}">{item.mark}</tspan>')
            gap = ' dx="2"'
        line.append(f'<tspan{gap} class="muted">{escape(item.text)}</tspan>')
        x += width
    canvas.flow(at, y, line)
    return y
