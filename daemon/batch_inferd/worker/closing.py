"""Closing a lease: make everything durable, then say that the chunk is done, or give it back."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.seams.failpoint import failpoint
from batch_inferd.worker.bug import Bug

if TYPE_CHECKING:
    from batch_inferd.worker.chunk import LeasedChunk

_log = logging.getLogger(__name__)


class End(NamedTuple):
    """How a lease ended. `reason` is None for a sealed chunk; `fault` is news for the daemon."""

    reason: str | None
    fault: OSError | None


async def close_chunk(chunk: LeasedChunk) -> End:
    """Sync and close a chunk that has nothing in flight. Its folder may be gone: then nothing is sealed.

    Raises nothing: whatever happens, the lease ends, and a chunk whose files complained is not sealed.
    """
    try:
        end = await _settle(chunk)
    except Exception as error:  # noqa: BLE001  a bug must end in a pause that names it, not in a lease that hangs
        _log.exception("a bug: chunk %d of task %s", chunk.lease.chunk, chunk.lease.task_id)
        end = _faulted(chunk, Bug(error))
    try:
        chunk.close()
    except OSError as error:  # NFS tells at the close what it could not write
        if end.reason not in ("gone", "fault"):
            end = _faulted(chunk, error)
    return end


def _faulted(chunk: LeasedChunk, error: OSError) -> End:
    """What was told before is not told again."""
    return End("fault", None if chunk.ending == "fault" else error)


async def _settle(chunk: LeasedChunk) -> End:
    if not await asyncio.to_thread(chunk.directory.still_there):
        return End("gone", None)
    try:
        if not chunk.counts.open and chunk.ending != "fault":
            _append_index(chunk)
        await chunk.journal.settle()
        if not chunk.counts.open and chunk.ending != "fault":
            failpoint("seal.synced")
    except OSError as error:
        return _faulted(chunk, error)  # a sync that failed is not tried again
    if chunk.ending == "fault":
        return End("fault", None)
    if not await asyncio.to_thread(chunk.directory.still_there):
        return End("gone", None)
    return End(chunk.ending if chunk.counts.open else None, None)


def _append_index(chunk: LeasedChunk) -> None:
    """End a journal that holds all of its chunk with an index. It is a help: without room there is none."""
    if chunk.index.records != chunk.counts.input:
        return
    line = chunk.index.encode(chunk.journal.size, chunk.journal.checksum)
    if line is None:
        return
    try:
        chunk.journal.append(line)
    except OSError as error:  # one that broke the journal is met again by the sync
        _log.warning("no index of chunk %d of task %s: %s", chunk.lease.chunk, chunk.lease.task_id, error)
    else:
        failpoint("index.written")
