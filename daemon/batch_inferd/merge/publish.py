"""Publishing a generation of outputs: staged as a whole, then renamed into place one by one.

1. `open_stage` makes `.stage-G` in the task's outputs, after removing what an earlier merge left.
2. merge writes the files there; `close_stage` makes them durable.
3. The caller commits the publication (G, files) in the task's database.
4. `publish` renames each file. After a crash from here on, `redo` does what is left of it.
5. The caller commits that it is done.

A crash before 3 leaves a stage that the next `open_stage` removes. Whoever merges again between 3 and 5
writes into the stage of the same generation: so nothing is renamed that is not what was committed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from typing import TYPE_CHECKING

from batch_infer.protocol.regular import NotRegularError
from batch_inferd.lines import BLOCK
from batch_inferd.seams.failpoint import failpoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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


def is_error_file(name: str) -> bool:
    """Whether it is that of some round."""
    return name.startswith("error_retry")


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


@contextlib.contextmanager
def new_stage(merged: Directory, generation: int) -> Iterator[str]:
    """`open_stage`; removed again when what happens inside raises, as it would keep a full disk full."""
    name = open_stage(merged, generation)
    try:
        yield name
    except BaseException:
        discard_stage(merged, generation)
        raise


def close_stage(merged: Directory, generation: int) -> None:
    """Make the stage's entries durable; its files are. Raises OSError."""
    merged.sync(stage_name(generation))
    merged.sync()
    failpoint("merge.staged")


def discard_stage(merged: Directory, generation: int) -> None:
    """Remove the stage as far as possible: what will never be published must not fill the disk.

    Nothing happens when the folder was removed or replaced meanwhile.
    """
    with contextlib.suppress(OSError):
        if merged.still_there():
            _remove(merged, stage_name(generation))


def publish(merged: Directory, generation: int, files: Mapping[str, FileFacts]) -> None:
    """Rename the staged files into place, durably. Blocks. Raises OSError, StageLost.

    Args:
        merged: merged/<task-id>/.
        generation: the one that was staged and committed.
        files: what was committed; `report.json` comes last, so that it stands for the whole. A staged
            file must have its size: with StageLost nothing has been renamed.
    """
    _publish(merged, generation, files, digests=False)


def redo(merged: Directory, generation: int, files: Mapping[str, FileFacts]) -> None:
    """As `publish`, for recovery: a staged file must have its digest too, as one that was renamed before.

    What stands in the stage may come of a later merge that was interrupted.
    """
    _publish(merged, generation, files, digests=True)


def _publish(merged: Directory, generation: int, files: Mapping[str, FileFacts], *, digests: bool) -> None:
    check_there(merged)
    failpoint("publish.committed")
    stage = stage_name(generation)
    staged = set(merged.listdir(stage)) if merged.is_folder(stage) else set()
    for name, facts in files.items():
        if name in staged:
            good = _is(merged, f"{stage}/{name}", facts, digest=digests)
        else:
            good = _is(merged, name, facts, digest=True)
        if not good:
            raise StageLost(f"{name} of generation {generation} is neither staged nor in its place")
    for name in sorted(staged & files.keys(), key=lambda name: name == REPORT):
        merged.rename(f"{stage}/{name}", name)
        failpoint("publish.renamed_one")
    merged.sync()
    failpoint("publish.renamed_all")
    _remove(merged, stage)


def check_there(merged: Directory) -> None:
    """Raises FileNotFoundError when the outputs' folder was removed or replaced: then nothing is written."""
    if not merged.still_there():
        raise FileNotFoundError(errno.ENOENT, "the folder was removed or replaced", str(merged.path))


def _is(merged: Directory, name: str, facts: FileFacts, *, digest: bool) -> bool:
    """Whether a file is there with its committed size, and with its digest where `digest` is set."""
    try:
        fd = merged.open(name, os.O_RDONLY)
    except (FileNotFoundError, NotRegularError):
        return False
    try:
        if os.fstat(fd).st_size != facts["bytes"]:
            return False
        return not digest or _digest(fd) == facts["sha256"]
    finally:
        os.close(fd)


def _digest(fd: int) -> str:
    digest = hashlib.sha256()
    while data := os.read(fd, BLOCK):
        digest.update(data)
    return digest.hexdigest()


def _remove(merged: Directory, name: str) -> None:
    if not merged.is_folder(name):
        merged.unlink(name)  # a link or a file of that name is not ours: never go through it
        return
    for inner in merged.listdir(name):
        merged.unlink(f"{name}/{inner}")
    merged.rmdir(name)
