"""A record in a worker's hands, and the lease that brought it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from batch_inferd.worker.chunk import LeasedChunk
    from batch_inferd.worker.strikes import Mark


class Lease(msgspec.Struct, frozen=True):
    """The daemon's LEASE message: which chunk, where, and under which plan."""

    lease: str
    task: str
    task_id: str
    chunk: int
    task_dir: str
    task_dir_id: tuple[int, int]
    chunk_file: str
    first_line: int
    lines: int
    round: int
    plan_version: int
    fresh: bool = False  # no lease of the chunk came before: it has no journals


class Record:
    """One input line that has not ended. Its bytes stay in the chunk file until it is sent."""

    __slots__ = (
        "attempts",
        "charged",
        "chunk",
        "length",
        "line",
        "mark",
        "offset",
        "outages",
        "room",
        "strikes",
        "tokens",
        "waiting",
    )

    def __init__(self, chunk: LeasedChunk, line: int, offset: int, length: int) -> None:
        self.chunk = chunk
        self.line = line  # in the whole input, from 1
        self.offset = offset
        self.length = length
        self.attempts = 0  # sent, whatever came of them
        self.charged = 0  # failures that used up a retry
        self.strikes = 0  # 429s that only this record met
        self.outages = 0  # failures that were an outage, and free
        self.waiting = False  # counted as such: it was sent before, and is to be sent again
        self.mark: Mark | None = None
        self.tokens = 0  # what the call under way was estimated to use
        self.room = 0  # bytes that it takes: the line, and the answer where it is expected to be large
