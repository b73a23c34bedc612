"""How far a long request is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Self

from batch_infer.protocol.text import Text
from batch_infer.render import numbers
from batch_infer.render.columns import cut, width

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_infer.render.console import Console

_FIRST_S = 1.0  # what is over sooner needs no bar
_EACH_S = 10.0  # between two lines where nothing can be redrawn
_CELLS = 24


class Bar:
    """Shows `working` notifications on stderr. As a context it leaves no half line behind."""

    def __init__(self, console: Console, what: Text, monotonic: Callable[[], float]) -> None:
        """`what` says what is being done, in a word."""
        self._console = console
        self._what = what
        self._monotonic = monotonic
        self._live = console.live(console.err)
        self._begun = monotonic()
        self._last = self._begun
        self._shown = 0  # cells of the line that stands there

    def show(self, told: dict[str, Any]) -> None:
        """The newest `{done, total}`; total is None where nobody knows."""
        now = self._monotonic()
        if now - self._begun < _FIRST_S:
            return
        if self._live:
            self._draw(self._line(told, bar=True))
        elif now - self._last >= _EACH_S:
            self._last = now
            self._console.say(self._line(told, bar=False))

    def _line(self, told: dict[str, Any], *, bar: bool) -> str:
        done, total = int(told.get("done") or 0), told.get("total")
        values = {"what": self._what, "done": numbers.count(done)}
        if not total:
            return self._console.text(Text("{what}: {done}", values))
        share = min(done / total, 1.0)
        full = round(share * _CELLS)
        values |= {
            "total": numbers.count(total),
            "share": numbers.share(share),
            "bar": f"[{'#' * full}{'.' * (_CELLS - full)}] " if bar else "",
        }
        return self._console.text(Text("{what}: {bar}{share} ({done} of {total})", values))

    def _draw(self, line: str) -> None:
        line = cut(line, shutil.get_terminal_size().columns - 1)
        self._put(line)
        self._shown = width(line)

    def _put(self, line: str) -> None:
        self._console.err.write(f"\r{line}{' ' * max(0, self._shown - width(line))}")
        self._console.err.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._put("")
            self._console.err.write("\r")
            self._console.err.flush()
