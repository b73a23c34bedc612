"""Setting aside what a chunk's journals have twice: no further round could ever mend it.

Our own writers never end a line twice. A journal that was copied or edited by hand may, and then the
identity fails until one of the records is out of the way.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.journal.format import Answer, Attempt, TakenBack
from batch_inferd.journal.names import chunk_folder, chunk_journals
from batch_inferd.journal.quarantine import Quarantine
from batch_inferd.journal.scan import Scanned, scan_journal
from batch_inferd.lines import BLOCK, read_range
from batch_inferd.seams.files import Directory, sync, write_all

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Found(NamedTuple):
    """A terminal record, or one that takes such back: its journal, its place there, its unix time."""

    journal: str
    line: Scanned
    t: float


def quarantine_extras(directory: Directory, chunk: int, round: int) -> int:  # noqa: A002
    """Move all terminal records that contradict another one to the chunk's quarantine file; how many.

    Kept are, as in a merge, the earliest answer of a line, whatever its round, and the first error or
    missing record of each round beside it. One of a round that has not begun, beyond `round`, is none, and
    takes nothing back. Nothing contradicts what was taken back: it stays where it is.

    Blocks. Durable when it returns; after a crash the journals are as they were or as they shall be, and
    the quarantine file may list a record twice. Only when no writer of this chunk lives. Raises OSError.
    """
    extras = _find(directory, chunk, round)
    if not extras:
        return 0
    quarantine = Quarantine(directory, chunk)
    for name, lines in extras.items():
        fd = directory.open(name, os.O_RDONLY)
        try:
            quarantine.add_extras(name, fd, lines)
            directory.sync(chunk_folder(chunk))
            _rewrite(directory, name, fd, lines)
        finally:
            os.close(fd)
    directory.sync(chunk_folder(chunk))
    return sum(map(len, extras.values()))


def _find(directory: Directory, chunk: int, round_now: int) -> dict[str, list[Scanned]]:
    answers: dict[int, tuple[int, _Found]] = {}  # line -> round, answer
    failures: dict[tuple[int, int], _Found] = {}  # line, round
    taken: dict[int, int] = {}  # line -> the round that took it back
    extras: list[_Found] = []
    for name in chunk_journals(directory, chunk):
        for scanned in _terminals(directory, name):
            entry = scanned.entry
            if entry is None:
                continue
            found = _Found(name, scanned, entry.t)
            if isinstance(entry, TakenBack) and entry.round <= round_now:
                taken[entry.line] = max(entry.round, taken.get(entry.line, 0))
                continue
            if isinstance(entry, TakenBack):
                extras.append(found)
                continue
            if entry.round < taken.get(entry.line, 0):
                continue
            if isinstance(entry, Answer):
                known = answers.get(entry.line)
                if known is None or found.t < known[1].t:
                    answers[entry.line] = entry.round, found
                    if known is not None:
                        extras.append(known[1])
                else:
                    extras.append(found)
            elif entry.round > round_now or (entry.line, entry.round) in failures:
                extras.append(found)
            else:
                failures[entry.line, entry.round] = found
    for line, (round_of_answer, _) in answers.items():
        failed = failures.get((line, round_of_answer))
        if failed is not None:
            extras.append(failed)
    return _by_journal(extras)


def _terminals(directory: Directory, name: str) -> Iterator[Scanned]:
    fd = directory.open(name, os.O_RDONLY)
    try:
        for scanned in scan_journal(fd):
            if scanned.entry is not None and not isinstance(scanned.entry, Attempt):
                yield scanned
    finally:
        os.close(fd)


def _by_journal(extras: list[_Found]) -> dict[str, list[Scanned]]:
    found: dict[str, list[Scanned]] = {}
    for extra in sorted(extras, key=lambda extra: (extra.journal, extra.line.offset)):
        found.setdefault(extra.journal, []).append(extra.line)
    return found


def _rewrite(directory: Directory, name: str, fd: int, without: list[Scanned]) -> None:
    """Put a copy of the journal, open at `fd`, in its place, without these lines."""
    temporary = f"{name}.tmp"  # no journal's name: nobody reads it
    directory.unlink(temporary)
    out = directory.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        try:
            at = 0
            for line in without:
                _copy(fd, out, at, line.offset, name)
                at = line.offset + line.length + 1
            _copy(fd, out, at, os.fstat(fd).st_size, name)
            sync(out, temporary)
        finally:
            os.close(out)
        directory.rename(temporary, name)
    except OSError:
        with contextlib.suppress(OSError):
            directory.unlink(temporary)
        raise


def _copy(fd: int, out: int, begin: int, end: int, name: str) -> None:
    while begin < end:
        data = read_range(fd, begin, min(BLOCK, end - begin))
        if not data:
            raise OSError(f"the journal {name} became shorter while it was rewritten")
        write_all(out, data, name)
        begin += len(data)
