"""What the beginning of a CSV says: the delimiter, Excel's `sep=` line, and the columns."""

from __future__ import annotations

import csv
import re
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text
from batch_inferd.sources.csvrows import read_records

if TYPE_CHECKING:
    from collections.abc import Sequence

CANDIDATES = ",;\t|"
SAMPLE_LINES = 50
_SEP = re.compile(r"sep=(.)[,;\t|]*\s*", re.IGNORECASE)
_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}


class Dialect(NamedTuple):
    """The delimiter, and how many lines stand before the header."""

    delimiter: str
    skip: int


def delimiter_of(text: str) -> str:
    """One character, or its name. Raises InputError."""
    found = _NAMES.get(text.lower(), text)
    if len(found) != 1 or found in '"\r\n':
        raise InputError(
            Text('"{text}" is no delimiter', {"text": text}),
            hints=(Text("give one character, or: tab, comma, semicolon, pipe"),),
        )
    return found


def look(lines: Sequence[str], delimiter: str | None) -> Dialect:
    """By the first lines of the file (`SAMPLE_LINES` at most). A delimiter that is given is not doubted."""
    skip = 0
    if lines and (match := _SEP.fullmatch(lines[0])):
        skip, lines = 1, lines[1:]
        delimiter = delimiter or match[1]
    return Dialect(delimiter or max(CANDIDATES, key=lambda mark: _score(lines, mark)), skip)


def _score(lines: Sequence[str], mark: str) -> tuple[float, int]:
    """How many of the records have as many cells as the header, and how many that are."""
    try:
        records = [r for r in islice(read_records(iter(lines), mark), SAMPLE_LINES) if r.cells]
    except csv.Error:
        return 0.0, 0
    if not records or len(records[0].cells) < 2:
        return 0.0, 1
    width = len(records[0].cells)
    fitting = sum(len(record.cells) == width for record in records)
    return fitting / len(records), width


def columns_of(cells: Sequence[str], name: str) -> list[str]:
    """The names of the columns: stripped, without empty ones at the end, each once (`a`, `a.1`).

    An empty one in the middle is called by its place (`column 3`). Raises InputError when none is left.
    """
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise InputError(
            Text("the first row of {name} is empty: it should name the columns", {"name": name}),
            hints=(Text("write a name above each column"),),
        )
    found: dict[str, None] = {}
    for at, text in enumerate(names, start=1):
        wanted = unique = text or f"column {at}"
        again = 0
        while unique in found:
            again += 1
            unique = f"{wanted}.{again}"
        found[unique] = None
    return list(found)
