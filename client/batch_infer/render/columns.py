"""Columns of text that align on a terminal, where a Chinese character is two cells wide."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_UNSAFE = "\N{REPLACEMENT CHARACTER}"


def width(text: str) -> int:
    """The number of terminal cells that `text` takes."""
    return sum(_cells(char) for char in text)


def pad(text: str, cells: int, *, right: bool = False) -> str:
    """`text` with spaces up to a width of `cells`; to the right edge when asked."""
    gap = " " * (cells - width(text))
    return gap + text if right else text + gap


def cut(text: str, cells: int) -> str:
    """`text`, shortened with an ellipsis to at most `cells` (at least 1)."""
    return text if width(text) <= cells else _fitting(text, cells - 1) + "…"


def cut_middle(text: str, cells: int) -> str:
    """`text`, shortened in its middle to at most `cells` (at least 1): ids often begin alike."""
    if width(text) <= cells:
        return text
    tail = (cells - 1) // 2
    return _fitting(text, cells - 1 - tail) + "…" + _fitting(text[::-1], tail)[::-1]


def cell(text: str, cells: int) -> str:
    """What a service says, for a table: on one line, nothing that a terminal obeys, at most `cells` wide.

    Invisible characters go as well: a right-to-left override, for one.
    """
    line = " ".join(text[: cells * 8].split())
    return cut("".join(char if char.isprintable() else _UNSAFE for char in line), cells)


def table(rows: Sequence[Sequence[str]], right: Collection[int] = (), indent: str = "") -> list[str]:
    """Lines of aligned columns, two spaces apart. `right` names the columns aligned to the right."""
    if not rows:
        return []
    widths = [max(width(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        (indent + "  ".join(pad(cell, widths[i], right=i in right) for i, cell in enumerate(row))).rstrip()
        for row in rows
    ]


def wrap(text: str, cells: int) -> list[str]:
    """`text` in lines of at most `cells`, broken at spaces, and between Chinese characters."""
    lines, line = [], ""
    for piece in _pieces(text):
        if line and width(line + piece.rstrip()) > cells:
            lines.append(line.rstrip())
            line = ""
        line += piece if line else piece.lstrip()
    return [*lines, line.rstrip()]


def _fitting(text: str, cells: int) -> str:
    """As much of the beginning of `text` as fits."""
    used = 0
    for end, char in enumerate(text):
        used += _cells(char)
        if used > cells:
            return text[:end]
    return text


def _cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _pieces(text: str) -> list[str]:
    """Words with the spaces after them; a wide character is a piece unless punctuation follows it."""
    pieces = [""]
    for before, char in zip(" " + text, text, strict=False):
        wide_break = _cells(char) == 2 and not unicodedata.category(char).startswith("P")
        if (before == " " and char != " ") or wide_break or (_cells(before) == 2 and char.isalnum()):
            pieces.append("")
        pieces[-1] += char
    return [piece for piece in pieces if piece]
