"""`-chunks 3,7-9`: numbers and ranges, as a person writes them, brought into order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batch_infer.protocol.errors import UsageError
from batch_infer.protocol.text import Text
from batch_infer.render import numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Range = tuple[int, int]

ENTRIES_MAX = 10_000
CHUNK_MAX = 10**9
_SHOWN_MAX = 40  # characters of a wrong entry that an error quotes
_WORD = re.compile(r"[0-9,\s-]*")
_DASH = re.compile(r"\s*-\s*")
_GAP = re.compile(r"\s*,\s*|\s+")
_ENTRY = re.compile(r"0*([0-9]{1,10})(?:-0*([0-9]{1,10}))?")


def is_list_like(word: str) -> bool:
    """Whether a word of the command line may belong to the list: digits, commas, dashes, spaces."""
    return _WORD.fullmatch(word) is not None


def parse_ranges(words: Sequence[str]) -> tuple[Range, ...]:
    """First and last numbers, in order, with those that touch made one. `words` are those after -chunks.

    Raises UsageError, which names what was found and what is expected.
    """
    text = _DASH.sub("-", " ".join(" ".join(words).split()))
    entries = _GAP.split(text)
    if len(entries) > ENTRIES_MAX:
        raise UsageError(
            Text(
                "-chunks takes at most {most} numbers and ranges; found {n}",
                {"most": numbers.count(ENTRIES_MAX), "n": numbers.count(len(entries))},
            )
        )
    return tuple(_merged(_range(entry) for entry in entries))


def shown_ranges(ranges: Iterable[Range]) -> str:
    """`3,7-9`."""
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _range(entry: str) -> Range:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise _wrong(entry, Text("expected are numbers and ranges of chunks, such as 3,7-9"))
    first, last = int(match[1]), int(match[2] or match[1])
    if first < 1 or max(first, last) > CHUNK_MAX:
        raise _wrong(
            entry, Text("expected are chunk numbers from 1 to {most}", {"most": numbers.count(CHUNK_MAX)})
        )
    if last < first:
        raise _wrong(
            entry,
            Text("expected is a range that goes up, such as {range}", {"range": f"{last}-{first}"}),
        )
    return first, last


def _wrong(entry: str, expected: Text) -> UsageError:
    short = entry if len(entry) <= _SHOWN_MAX else entry[: _SHOWN_MAX - 1] + "…"
    found = Text("-chunks: found {found!r}; {expected}", {"found": short, "expected": expected})
    if not entry:
        found = Text("-chunks: an entry is empty; {expected}", {"expected": expected})
    return UsageError(found)


def _merged(ranges: Iterable[Range]) -> list[Range]:
    merged: list[Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged
