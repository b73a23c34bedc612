"""Publishing a generation of outputs: staged as a whole, then renamed into place one by one.

1. `open_stage` makes `.stage-G` in the task's outputs, after removing what an earlier merge left.
2. merge writes the files there; `close_stage` makes them durable.
3. The caller commits the publication (G, files) in the task's database.
4. `publish` renames each file. After a crash from here on, `redo` does what is left of it.
5. The caller commits that it is done.

A crash before 3 leaves a stage that the next `open_stage` removes; so between 3 and 5 nobody may merge.
"""

from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING

from batch_inferd.lines import BLOCK
from batch_inferd.seams.failpoint import failpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_inferd.merge.outputs import FileFacts
    from batch_inferd.seams.files import Directory

OUTPUT = "output.jsonl"
MISSING = "missing_records.jsonl"
REPORT = "report.json"
_STAGE = ".stage-"


class StageLost(Exception):  # noqa: N818  said of the stage
    """A file of a committed publication is neither staged nor in its place: merge again."""


def error_file(round: int) -> str:  # noqa: A002
    """The file of the records that still fail after round `round`."""
    return f"error_retry{round}.jsonl"


def stage_name(generation: int) -> str:
    """The folder in the task's outputs where generation G is made."""
    return f"{_STAGE}{generation}"


def open_stage(merged: Directory, generation: int) -> str:
    """Make an empty stage, removing all others; returns its name. Raises OSError, see `check_there`."""
    check_there(merged)
    for name in merged.listdir():
        if name.startswith(_STAGE):
            _remove(merged, name)
    name = stage_name(generation)
    merged.mkdir(name)
    return name


def close_stage(merged: Directory, generation: int) -> None:
    """Make the stage's entries durable; its files are. Raises OSError."""
    merged.sync(stage_name(generation))
    merged.sync()
    failpoint("merge.staged")


def publish(merged: Directory, generation: int, files: Mapping[str, FileFacts]) -> None:
    """Rename the staged files into place, durably. Blocks. Raises OSError, StageLost.

    Args:
        merged: merged/<task-id>/.
        generation: the one that was staged and committed.
        files: what was committed; `report.json` comes last, so that it stands for the whole.
    """
    check_there(merged)
    failpoint("publish.committed")
    stage = stage_name(generation)
    staged = set(merged.listdir(stage)) if merged.is_folder(stage) else set()
    for name in sorted(files, key=lambda name: name == REPORT):
        if name in staged:
            merged.rename(f"{stage}/{name}", name)
            failpoint("publish.renamed_one")
        elif not _is_in_place(merged, name, files[name]):
            raise StageLost(f"{name} of generation {generation} is neither staged nor in its place")
    merged.sync()
    failpoint("publish.renamed_all")
    _remove(merged, stage)


# What recovery calls: a file that was renamed before the crash is known by its size and digest.
redo = publish


def check_there(merged: Directory) -> None:
    """Raises FileNotFoundError when the outputs' folder was removed or replaced: then nothing is written."""
    if not merged.still_there():
        raise FileNotFoundError(errno.ENOENT, "the folder was removed or replaced", str(merged.path))


def _is_in_place(merged: Directory, name: str, facts: FileFacts) -> bool:
    try:
        fd = merged.open(name, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        if os.fstat(fd).st_size != facts["bytes"]:
            return False
        digest = hashlib.sha256()
        while data := os.read(fd, BLOCK):
            digest.update(data)
        return digest.hexdigest() == facts["sha256"]
    finally:
        os.close(fd)


def _remove(merged: Directory, name: str) -> None:
    if not merged.is_folder(name):
        merged.unlink(name)  # a link or a file of that name is not ours: never go through it
        return
    for inner in merged.listdir(name):
        merged.unlink(f"{name}/{inner}")
    merged.rmdir(name)
