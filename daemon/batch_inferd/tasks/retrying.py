"""`-retry` of some records only: those that are left out keep their end, in a journal of the new round.

A record counts as ended in a round if it has a terminal record of that round. So what is not tried again
gets a copy of its error or missing record there, and nothing else has to know of the choice. The copies are
written beside the journals first, the round is committed with their token, and then they are renamed into
place: after a crash `finish_carrying` does the rest.
"""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.journal.format import encode_error, encode_missing
from batch_inferd.journal.names import chunk_journals, journal_name
from batch_inferd.merge.index import ERROR, MISSING, Journals, Terminals
from batch_inferd.merge.tally import Problems, Tally
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.seams.files import Directory, sync, write_all
from batch_inferd.tasks import states
from batch_inferd.tasks.chosen_rows import ChosenRows, RowReader
from batch_inferd.tasks.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_inferd.store.taskdb import ChunkRow
    from batch_inferd.tasks.task import Task

KINDS = {"failed": ERROR, "missing": MISSING}
FACT = "carried"  # the token of copies that may not be in their places yet
_NEXT = ".next"
_PAGE = 256
_Range = tuple[int, int]


class Choice(NamedTuple):
    """Which records that have no answer are tried again. None: both kinds, all rows, all chunks."""

    kind: int | None = None  # ERROR or MISSING
    rows: ChosenRows | None = None
    chunks: list[_Range] | None = None  # first and last, inclusive

    def has_chunk(self, number: int) -> bool:
        """Whether a chunk is among those that are meant."""
        return self.chunks is None or any(first <= number <= last for first, last in self.chunks)


class Reopened(NamedTuple):
    """A chunk with chosen records: how many those are, and what of it stays as it is."""

    chunk: int
    records: int
    errors: int
    missing: int


async def retry_chosen(task: Task, choice: Choice, looked: Callable[[int], None]) -> int:
    """Open the chosen records for another round; how many they are. `looked` is called with chunks.

    Raises OSError, sqlite3.Error, and what `looked` raises: then nothing was opened.
    """
    await finish_carrying(task)
    token = uuid.uuid4().hex[:12]
    await in_thread(lambda: _discard(task.directory))
    opened: list[Reopened] = []
    after = 0
    while rows := await task.db.page(after, _PAGE):
        after = rows[-1].n
        wanted = [row for row in rows if row.error + row.missing and choice.has_chunk(row.n)]
        opened += await in_thread(lambda wanted=wanted: _prepare(task, wanted, choice, token))  # type: ignore[misc]
        looked(len(rows))
    records = sum(one.records for one in opened)
    if not records:
        return 0
    left = [(one.chunk, one.errors, one.missing) for one in opened]
    await task.db.reopen_some(task.round + 1, left, **states.AGAIN, **{FACT: token})
    failpoint("retry.committed")
    task.facts |= {"round": task.round + 1, FACT: token}
    await finish_carrying(task)
    task.log(20, f"round {task.round}: {records} chosen records are tried again")
    await task.reopened()
    return records


async def finish_carrying(task: Task) -> None:
    """Put the copies of a committed round into their places, unless they are there.

    Raises OSError, sqlite3.Error.
    """
    token = task.facts.get(FACT)
    if token:
        await in_thread(lambda: _put_in_place(task.directory, str(token)))
        await task.db.set_facts(**{FACT: None})
        task.facts[FACT] = None


def _prepare(task: Task, rows: list[ChunkRow], choice: Choice, token: str) -> list[Reopened]:
    found = (_prepare_chunk(task, row, choice, token) for row in rows)
    return [one for one in found if one is not None]


def _prepare_chunk(task: Task, row: ChunkRow, choice: Choice, token: str) -> Reopened | None:
    """Write the copies of what stays; None where no record of the chunk is chosen."""
    directory = task.directory
    journals = Journals(directory, chunk_journals(directory, row.n))
    try:
        terminals = Terminals(row.n, row.first_line, row.lines, Tally(), Problems())
        terminals.read(journals)
        unanswered = [at for at, kind in enumerate(terminals.kind) if kind in (ERROR, MISSING)]
        chosen = {at for at in unanswered if choice.kind in (None, terminals.kind[at])}
        if choice.rows is not None and chosen:
            with RowReader(directory, row) as reader:
                chosen = {at for at in sorted(chosen) if choice.rows.has(*reader.names(at))}
        if not chosen:
            return None
        stay = [at for at in unanswered if at not in chosen]
        errors = sum(terminals.kind[at] == ERROR for at in stay)
        if stay:
            lines = (_copy(task, row, terminals, journals, at) for at in stay)
            _write(directory, journal_name(row.n, token) + _NEXT, b"".join(lines))
    finally:
        journals.close()
    return Reopened(row.n, len(chosen), errors, len(stay) - errors)


def _copy(task: Task, row: ChunkRow, terminals: Terminals, journals: Journals, at: int) -> bytes:
    """The end of a line once more, in the next round; its tries are counted where it ended first."""
    line, now = row.first_line + at, task.context.clock.now()
    if terminals.kind[at] == MISSING:
        return encode_missing(line=line, round=task.round + 1, attempt=0, t=now)
    rec = journals.read(terminals.journal[at], terminals.rec_offset[at], terminals.rec_length[at])
    return encode_error(
        line=line, round=task.round + 1, attempt=0, t=now, failure=terminals.failure(at), rec=rec
    )


def _write(directory: Directory, name: str, data: bytes) -> None:
    fd = directory.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        write_all(fd, data, name)
        sync(fd, name)
    finally:
        os.close(fd)
    directory.sync(name.rpartition("/")[0])


def _waiting(directory: Directory, end: str) -> list[str]:
    """The files in the chunks' folders whose names end so."""
    folders = [name for name in directory.listdir() if name.isdecimal() and directory.is_folder(name)]
    found = ((folder, name) for folder in folders for name in directory.listdir(folder))
    return [f"{folder}/{name}" for folder, name in found if name.endswith(end)]


def _discard(directory: Directory) -> None:
    """Remove what a crash before the commit left."""
    for name in _waiting(directory, _NEXT):
        directory.unlink(name)


def _put_in_place(directory: Directory, token: str) -> None:
    names = _waiting(directory, f".{token}.jsonl{_NEXT}")
    for name in names:
        directory.rename(name, name.removesuffix(_NEXT))
        failpoint("retry.carried_one")
    for folder in {name.partition("/")[0] for name in names}:
        directory.sync(folder)
