"""Making the outputs of an ended task once more from its journals, beside those that stand there."""

from __future__ import annotations

import contextlib
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.merge.publish import check_there, discard_stage, stage_name
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.seams.files import Directory
from batch_inferd.tasks import merging
from batch_inferd.tasks.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from batch_inferd.merge.outputs import FileFacts
    from batch_inferd.tasks.task import Task

_FOLDER = ".rebuild"


class Rebuilt(NamedTuple):
    """The outputs, made again in `folder`/`stage`. `identity`: the accounting holds."""

    folder: Directory
    stage: str
    files: dict[str, FileFacts]
    identity: bool

    def open(self, name: str) -> int:
        """A descriptor of one of the files, for reading. Raises OSError."""
        return self.folder.open(f"{self.stage}/{name}", os.O_RDONLY)


@asynccontextmanager
async def rebuilt(
    task: Task, merged: Directory, generation: int, progress: Callable[[int], None]
) -> AsyncIterator[Rebuilt]:
    """The files of generation G as the journals give them; removed again in the end, but for what was moved.

    `progress` is called in a thread with the number of chunks done. Raises OSError, sqlite3.Error.
    """
    folder = await in_thread(lambda: _open(merged))
    try:
        ended = float(task.facts.get("ended") or 0.0)
        result = await merging.merge(task, folder, generation, ended=ended, progress=progress)
        yield Rebuilt(folder, stage_name(generation), result.files, result.identity)
    finally:
        await in_thread(lambda: _discard(merged, folder, generation))


def _open(merged: Directory) -> Directory:
    check_there(merged)
    merged.mkdir(_FOLDER)
    return Directory(merged.path / _FOLDER)


def _discard(merged: Directory, folder: Directory, generation: int) -> None:
    discard_stage(folder, generation)
    folder.close()
    with contextlib.suppress(OSError):
        merged.rmdir(_FOLDER)


def put_in_place(made: Rebuilt, merged: Directory, name: str) -> str | None:
    """Move a rebuilt file to where it belongs, durably; the name of the backup of what stood there.

    Blocks. After a crash in between the backup is there, and the file is missing. Raises OSError.
    """
    check_there(merged)
    backup: str | None = _free_name(merged, name)
    try:
        merged.rename(name, str(backup))
    except FileNotFoundError:
        backup = None
    failpoint("repair.backed_up")
    made.folder.rename(f"{made.stage}/{name}", name, target=merged)
    merged.sync()
    return backup


def _free_name(merged: Directory, name: str) -> str:
    base = f"{name}.bak-{time.strftime('%Y%m%d-%H%M%S')}"
    taken = set(merged.listdir())
    number, free = 1, base
    while free in taken:
        number += 1
        free = f"{base}-{number}"
    return free
