"""The list of a chunk's damaged journal lines, `chunk_N.quarantine`, for people to look at.

The program reads it only to list no line twice. The journals themselves are left as they are.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from batch_inferd.journal.names import quarantine_name
from batch_inferd.lines import read_range
from batch_inferd.seams.files import Directory, sync, write_all

if TYPE_CHECKING:
    from batch_inferd.journal.scan import Scanned

_SHOWN_BYTES = 4096


class _Listed(msgspec.Struct, frozen=True):
    """One damaged line: its journal, where it stands (bytes), why, and how it begins."""

    journal: str
    offset: int
    length: int
    fault: str
    begins: str


class Quarantine:
    """The quarantine file of one chunk; made at the first damaged line."""

    def __init__(self, directory: Directory, chunk: int) -> None:
        """Read what is listed already. Raises OSError."""
        self._directory = directory
        self._name = quarantine_name(chunk)
        self._torn = False  # a crash left the file's last line unfinished
        self._known = self._read()

    def _read(self) -> set[tuple[str, int]]:
        known: set[tuple[str, int]] = set()
        try:
            data = self._directory.read(self._name)
        except FileNotFoundError:
            return known
        self._torn = not data.endswith(b"\n")
        for line in data.split(b"\n"):
            try:
                listed = msgspec.json.decode(line, type=_Listed)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # torn when it was written: it is listed once more
            known.add((listed.journal, listed.offset))
        return known

    def add(self, journal: str, fd: int, scanned: Scanned) -> None:
        """List a damaged line of `journal`, open at `fd`, unless it is listed. Durable. Raises OSError."""
        if (journal, scanned.offset) in self._known:
            return
        begins = read_range(fd, scanned.offset, min(scanned.length, _SHOWN_BYTES))
        listed = _Listed(
            journal,
            scanned.offset,
            scanned.length,
            scanned.fault or "",
            begins.decode("utf-8", "backslashreplace"),
        )
        out = self._directory.open(self._name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            write_all(out, b"\n" * self._torn + msgspec.json.encode(listed) + b"\n", self._name)
            self._torn = False
            sync(out, self._name)
        finally:
            os.close(out)
        self._known.add((journal, scanned.offset))
