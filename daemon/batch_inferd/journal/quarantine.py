"""What was set aside of a chunk's journals, `chunk_N.quarantine`, for people to look at.

Damaged lines are listed, and stay in their journals as they are; the program reads the list only to
list none twice. Extra terminal records were moved here, whole (see `extras.py`).
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
_EXTRA = "extra"


class _Listed(msgspec.Struct, frozen=True):
    """One line: its journal, where it stands or stood (bytes), why, and how it begins; all of an extra."""

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

    def _read(self) -> set[tuple[str, int, int]]:
        known: set[tuple[str, int, int]] = set()
        try:
            fd = self._directory.open(self._name, os.O_RDONLY)
        except FileNotFoundError:
            return known
        with os.fdopen(fd, "rb") as file:
            for line in file:
                self._torn = not line.endswith(b"\n")
                try:
                    listed = msgspec.json.decode(line, type=_Listed)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue  # torn when it was written: it is listed once more
                if listed.fault != _EXTRA:
                    known.add((listed.journal, listed.offset, listed.length))
        return known

    def add(self, journal: str, fd: int, scanned: Scanned) -> None:
        """List a damaged line of `journal`, open at `fd`, unless it is listed. Durable. Raises OSError."""
        key = (journal, scanned.offset, scanned.length)
        if key in self._known:
            return
        self._append(journal, fd, [scanned], scanned.fault or "", _SHOWN_BYTES)
        self._known.add(key)

    def add_extras(self, journal: str, fd: int, lines: list[Scanned]) -> None:
        """List lines that will be taken out of `journal`, open at `fd`, whole. Durable. Raises OSError."""
        self._append(journal, fd, lines, _EXTRA, None)

    def _append(self, journal: str, fd: int, lines: list[Scanned], fault: str, most: int | None) -> None:
        out = self._directory.open(self._name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            for line in lines:
                length = line.length if most is None else min(line.length, most)
                begins = read_range(fd, line.offset, length).decode("utf-8", "backslashreplace")
                listed = _Listed(journal, line.offset, line.length, fault, begins)
                write_all(out, b"\n" * self._torn + msgspec.json.encode(listed) + b"\n", self._name)
                self._torn = False
            sync(out, self._name)
        except OSError:
            self._torn = True  # perhaps: an empty line more does no harm
            raise
        finally:
            os.close(out)
