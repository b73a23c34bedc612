"""Closing a lease: make everything durable, then say that the chunk is done, or give it back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.seams.failpoint import failpoint

if TYPE_CHECKING:
    from batch_inferd.worker.chunk import LeasedChunk


class End(NamedTuple):
    """How a lease ended. `reason` is None for a sealed chunk; `fault` is news for the daemon."""

    reason: str | None
    fault: OSError | None


async def close_chunk(chunk: LeasedChunk) -> End:
    """Sync and close a chunk that has nothing in flight. Its folder may be gone: then nothing is sealed."""
    try:
        return await _settle(chunk)
    finally:
        chunk.close()


async def _settle(chunk: LeasedChunk) -> End:
    if not await asyncio.to_thread(chunk.directory.still_there):
        return End("gone", None)
    faulted = chunk.ending == "fault"
    try:
        await chunk.journal.settle()
        if not chunk.counts.open and not faulted:
            failpoint("seal.synced")
    except OSError as error:
        # What was told before is not told again; a sync that failed is not tried again.
        return End("fault", None if faulted else error)
    if faulted:
        return End("fault", None)
    if not await asyncio.to_thread(chunk.directory.still_there):
        return End("gone", None)
    return End(chunk.ending if chunk.counts.open else None, None)
