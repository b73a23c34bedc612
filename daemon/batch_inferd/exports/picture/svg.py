"""Elements of an SVG as text. Every text that comes from elsewhere goes through `escape`."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def escape(text: str) -> str:
    """For the content of an element; what XML cannot carry becomes U+FFFD."""
    text = _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def coordinate(value: float) -> str:
    """A tenth of a unit is more than one can see."""
    return f"{value:.1f}".removesuffix(".0")


def width_of(text: str, size: float) -> float:
    """About how wide a text of this font size is: the fonts are the reader's."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return size * (wide + 0.56 * (len(text) - wide))


def shortened(text: str, size: float, width: float) -> str:
    """The text, or its beginning with `…`, no wider than `width`."""
    if width_of(text, size) <= width:
        return text
    while text and width_of(text + "…", size) > width:
        text = text[:-1]
    return text + "…"


class Canvas:
    """An SVG that is being drawn; `text` is what was drawn so far."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    @property
    def text(self) -> str:
        """All elements, one a line."""
        return "\n".join(self._parts)

    def label(
        self, x: float, y: float, text: str, kind: str = "", *, anchor: str = "", turn: bool = False
    ) -> None:
        """A line of text: its baseline begins at x, y; or it ends there, or has its middle there."""
        place = f'x="{coordinate(x)}" y="{coordinate(y)}"'
        if turn:
            place += f' transform="rotate(-90 {coordinate(x)} {coordinate(y)})"'
        place += f' text-anchor="{anchor}"' if anchor else ""
        place += f' class="{kind}"' if kind else ""
        self._parts.append(f"<text {place}>{escape(text)}</text>")

    def flow(self, x: float, y: float, spans: Sequence[str]) -> None:
        """A line of text from elements that are written already."""
        self._parts.append(f'<text x="{coordinate(x)}" y="{coordinate(y)}">{" ".join(spans)}</text>')

    def rect(self, x: float, y: float, width: float, height: float, kind: str, title: str = "") -> None:
        """A rectangle; a reader sees `title` when the mouse rests on it."""
        sides = zip(("x", "y", "width", "height"), (x, y, width, height), strict=True)
        place = " ".join(f'{name}="{coordinate(value)}"' for name, value in sides)
        inner = f"><title>{escape(title)}</title></rect>" if title else "/>"
        self._parts.append(f'<rect {place} class="{kind}"{inner}')

    def path(self, steps: str, kind: str) -> None:
        """A path; nothing where it is empty."""
        if steps:
            self._parts.append(f'<path d="{steps}" class="{kind}"/>')

    def line(self, x: float, y: float, to_x: float, to_y: float, kind: str) -> None:
        """A straight line."""
        at, to = (f"{coordinate(one)} {coordinate(other)}" for one, other in ((x, y), (to_x, to_y)))
        self.path(f"M{at}L{to}", kind)
