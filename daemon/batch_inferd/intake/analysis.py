"""A look at the input's beginning, for the head of the task's log: what kind of file is this?"""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from batch_infer.protocol.regular import open_regular
from batch_inferd.lines import BOM

SAMPLE = 1024 * 1024
_COLUMNS = 50  # of a table, that are named


class Analysis(NamedTuple):
    """What the first MiB says. `records` is an estimate for the whole file unless `whole`."""

    bytes: int
    records: int
    whole: bool
    blank: int
    invalid: int
    with_id: int
    mean_bytes: int
    longest: int
    crlf: bool
    bom: bool

    def __str__(self) -> str:
        about = "" if self.whole else "about "
        notes = [
            f"{self.bytes} bytes",
            f"{about}{self.records} records",
            f"lines of {self.mean_bytes} bytes on average, {self.longest} at most",
            f"{self.with_id} with custom_id",
            f"{self.blank} blank",
            f"{self.invalid} not valid",
            "CRLF line ends" if self.crlf else "LF line ends",
        ]
        if self.bom:
            notes.append("a BOM")
        return ", ".join(notes) + ("" if self.whole else " (counted in the first MiB)")


def analyse(path: str, size: int) -> Analysis:
    """Read at most 1 MiB of the file, whose pinned size is `size` bytes. Blocks. Raises OSError."""
    with os.fdopen(open_regular(path), "rb") as file:
        data = file.read(min(SAMPLE, size))
    whole = len(data) >= size
    bom = data.startswith(BOM)
    lines = data.removeprefix(BOM).split(b"\n")
    if not whole and len(lines) > 1:
        lines.pop()  # it is cut
    full = [line for line in lines if line.strip()]
    blank = len(lines) - len(full) - (lines[-1] == b"")
    fields = [_fields(line) for line in full]
    seen = sum(len(line) + 1 for line in lines)
    records = len(full) if whole or not seen else round(len(full) * size / seen)
    return Analysis(
        bytes=size,
        records=records,
        whole=whole,
        blank=blank,
        invalid=sum(1 for found in fields if found is None),
        with_id=sum(1 for found in fields if found is not None and "custom_id" in found),
        mean_bytes=round(sum(map(len, full)) / len(full)) if full else 0,
        longest=max(map(len, full), default=0),
        crlf=b"\r\n" in data,
        bom=bom,
    )


def about(kind: str, count: int | None, columns: list[str]) -> str:
    """What a source shows without being read: its kind, its records if they are known, a table's columns."""
    records = "records not counted" if count is None else f"{count} records"
    if not columns:
        return f"{kind}, {records}"
    more = f" … {len(columns) - _COLUMNS} more" if len(columns) > _COLUMNS else ""
    return f"{kind}, {records}, {len(columns)} columns: {', '.join(columns[:_COLUMNS])}{more}"


def _fields(line: bytes) -> set[str] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return set(found) if isinstance(found, dict) else None
