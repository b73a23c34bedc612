"""`-retry` of some records only: those that are left out keep their end, in a journal of the new round.

A record counts as ended in a round if it has a terminal record of that round, or an answer. So what is not
tried again gets a copy of its error or missing record there, and an answer that is asked for again is taken
back; nothing else has to know of the choice. Both are written beside the journals first, the round is
committed with their token, and then they are renamed into place: after a crash `finish_carrying` does the
rest.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.journal.format import encode_error, encode_missing, encode_taken_back
from batch_inferd.journal.names import BACK, chunk_journals, journal_name
from batch_inferd.merge.index import ANSWER, ERROR, MISSING, Journals, Terminals
from batch_inferd.merge.tally import Problems, Tally
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.seams.files import Directory, sync, write_all
from batch_inferd.tasks import states
from batch_inferd.tasks.chosen_rows import ChosenRows, RowReader
from batch_inferd.tasks.threads import in_thread

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from batch_inferd.store.taskdb import ChunkRow
    from batch_inferd.tasks.task import Task

INVALID = "invalid"
KINDS = {"failed": ERROR, "missing": MISSING, INVALID: ANSWER}
FACT = "carried"  # the token of journals that may not be in their places yet
_NEXT = ".next"
_PAGE = 256
_Range = tuple[int, int]


class Choice(NamedTuple):
    """Which records are tried again. None: both kinds without an answer, all rows, all chunks.

    With kind ANSWER, `wrong` says of an answer's line for the outputs what is wrong with it, in a word;
    None: nothing, and the answer stays.
    """

    kind: int | None = None  # ERROR, MISSING or ANSWER
    rows: ChosenRows | None = None
    chunks: list[_Range] | None = None  # first and last, inclusive
    wrong: Callable[[bytes], str | None] = lambda _: None

    def may_choose(self, row: ChunkRow) -> bool:
        """Whether a chunk is among those that are meant, and has such records."""
        if self.chunks is not None and not any(first <= row.n <= last for first, last in self.chunks):
            return False
        return bool(row.answered if self.kind == ANSWER else row.error + row.missing)


class Retried(NamedTuple):
    """What was opened for another round; `wrong` counts the answers taken back, by what was wrong."""

    records: int
    wrong: Counter[str]


class Reopened(NamedTuple):
    """A chunk with chosen records: what is wrong with each of them, and what of it stays as it is.

    "" is wrong with a record that has no answer.
    """

    chunk: int
    wrong: Counter[str]
    answered: int
    errors: int
    missing: int


async def retry_chosen(
    task: Task, choice: Choice, looked: Callable[[int], None], stop: threading.Event | None = None
) -> Retried:
    """Open the chosen records for another round.

    `looked` is called with numbers of chunks, in a thread; `stop` is set when nobody waits any more, and
    makes `looked` raise. Raises OSError, sqlite3.Error, and what `looked` and the choice raise: then nothing
    was opened.
    """
    await finish_carrying(task)
    token = uuid.uuid4().hex[:12]
    await in_thread(lambda: _discard(task.directory))
    try:
        opened = await _look_through(task, choice, token, looked, stop)
    except Exception:
        with contextlib.suppress(OSError):  # what is left would keep a full disk full
            await in_thread(lambda: _discard(task.directory))
        raise
    wrong = sum((one.wrong for one in opened), Counter[str]())
    records = wrong.total()
    if not records:
        return Retried(0, wrong)
    failpoint("retry.carried_beside")
    left = [(one.chunk, one.answered, one.errors, one.missing) for one in opened]
    await task.db.reopen_some(task.round + 1, left, **states.AGAIN, **{FACT: token})
    failpoint("retry.committed")
    task.facts |= {"round": task.round + 1, FACT: token}
    task.log(20, f"round {task.round}: {records} chosen records are tried again")
    del wrong[""]
    if wrong:
        task.log(20, f"answers that were taken back, by what was wrong with them: {dict(wrong)}")
    await task.reopened()  # its driver puts the journals in their places before anything reads them
    return Retried(records, wrong)


async def _look_through(
    task: Task, choice: Choice, token: str, looked: Callable[[int], None], stop: threading.Event | None
) -> list[Reopened]:
    """Prepare all chunks with chosen records."""
    opened: list[Reopened] = []
    after = 0
    while rows := await task.db.page(after, _PAGE):
        after = rows[-1].n
        opened += await in_thread(lambda rows=rows: _prepare(task, rows, choice, token, looked), stop)  # type: ignore[misc]
    return opened


async def finish_carrying(task: Task) -> None:
    """Put the journals of a committed round into their places, unless they are there.

    Raises OSError, sqlite3.Error.
    """
    token = task.facts.get(FACT)
    if token:
        await in_thread(lambda: _put_in_place(task.directory, str(token)))
        await task.db.set_facts(**{FACT: None})
        task.facts[FACT] = None


def _prepare(
    task: Task, rows: list[ChunkRow], choice: Choice, token: str, looked: Callable[[int], None]
) -> list[Reopened]:
    found = []
    for row in rows:
        looked(1)
        one = _prepare_chunk(task, row, choice, token) if choice.may_choose(row) else None
        if one is not None:
            found.append(one)
    return found


def _prepare_chunk(task: Task, row: ChunkRow, choice: Choice, token: str) -> Reopened | None:
    """Write what the new round begins with; None where no record of the chunk is chosen."""
    directory, now = task.directory, task.context.clock.now()
    journals = Journals(directory, chunk_journals(directory, row.n))
    try:
        terminals = Terminals(row.n, row.first_line, row.lines, Tally(), Problems())
        terminals.read(journals)
        chosen = _chosen(directory, row, choice, terminals, journals)
        if not chosen:
            return None
        back = [at for at in chosen if terminals.kind[at] == ANSWER]
        stay = [at for at, kind in enumerate(terminals.kind) if kind in (ERROR, MISSING) and at not in chosen]
        if back:
            lines = (encode_taken_back(line=row.first_line + at, round=task.round + 1, t=now) for at in back)
            _write(directory, journal_name(row.n, BACK + token) + _NEXT, b"".join(lines))
        if stay:
            lines = (_copy(task.round + 1, now, row, terminals, journals, at) for at in stay)
            _write(directory, journal_name(row.n, token) + _NEXT, b"".join(lines))
    finally:
        journals.close()
    errors = sum(terminals.kind[at] == ERROR for at in stay)
    answered = terminals.kind.count(ANSWER) - len(back)
    return Reopened(row.n, Counter(chosen.values()), answered, errors, len(stay) - errors)


def _chosen(
    directory: Directory, row: ChunkRow, choice: Choice, terminals: Terminals, journals: Journals
) -> dict[int, str]:
    """Index in the chunk of each chosen record, and what is wrong with its answer, "" without one."""
    if choice.kind == ANSWER:
        found = {
            at: what
            for at, kind in enumerate(terminals.kind)
            if kind == ANSWER and (what := choice.wrong(_rec(terminals, journals, at)))
        }
    else:
        kinds = (ERROR, MISSING) if choice.kind is None else (choice.kind,)
        found = {at: "" for at, kind in enumerate(terminals.kind) if kind in kinds}
    if choice.rows is not None and found:
        with RowReader(directory, row) as reader:
            found = {at: what for at, what in found.items() if choice.rows.has(*reader.names(at))}
    return found


def _copy(
    round_number: int, now: float, row: ChunkRow, terminals: Terminals, journals: Journals, at: int
) -> bytes:
    """The end of a line once more, in the next round; its tries are counted where it ended first."""
    line = row.first_line + at
    if terminals.kind[at] == MISSING:
        return encode_missing(line=line, round=round_number, attempt=0, t=now)
    rec = _rec(terminals, journals, at)
    return encode_error(
        line=line, round=round_number, attempt=0, t=now, failure=terminals.failure(at), rec=rec
    )


def _rec(terminals: Terminals, journals: Journals, at: int) -> bytes:
    return journals.read(terminals.journal[at], terminals.rec_offset[at], terminals.rec_length[at])


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
    end = f"{token}.jsonl"
    for name in _waiting(directory, end + _NEXT):
        directory.rename(name, name.removesuffix(_NEXT))
        failpoint("retry.carried_one")
    # All of them: what was renamed before a crash may not be on the disk yet.
    for folder in {name.partition("/")[0] for name in _waiting(directory, end)}:
        directory.sync(folder)
    failpoint("retry.carried_all")
