"""Hashing and syncing beside the cutting: both leave Python to itself while they run."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from batch_inferd.seams.files import sync

if TYPE_CHECKING:
    from types import TracebackType

_AHEAD = 4  # pieces that may wait for their thread


class Chain:
    """The hash chain: each chunk's digest covers the one before and its own bytes. Work in order."""

    def __init__(self, chain: str) -> None:
        self._chain = chain
        self._digest = hashlib.sha256(chain.encode())

    def add(self, piece: bytes | memoryview) -> None:
        """More bytes of the chunk."""
        self._digest.update(piece)

    def end(self) -> str:
        """The chunk's link (hex); the next chunk begins."""
        self._chain = self._digest.hexdigest()
        self._digest = hashlib.sha256(self._chain.encode())
        return self._chain


class Aside:
    """Two threads: one hashes pieces in their order, one makes files durable and closes them.

    As a context: what was given to it is done, or given up, when the context ends; all files are closed.
    """

    def __init__(self, chain: str) -> None:
        """`chain` is the link of the chunk before."""
        self._chain = Chain(chain)
        self._hashing = ThreadPoolExecutor(1, "hash")
        self._syncing = ThreadPoolExecutor(1, "sync")
        self._hashes: deque[Future[None]] = deque()
        self._syncs: deque[Future[None]] = deque()
        self._given_up = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._given_up = kind is not None
        self._hashing.shutdown()
        self._syncing.shutdown()

    def hash(self, piece: bytes | memoryview) -> None:
        """Hash more bytes of the chunk; waits while many pieces wait."""
        self._hashes.append(self._hashing.submit(self._chain.add, piece))
        if len(self._hashes) > _AHEAD:
            self._hashes.popleft().result()

    def end_chunk(self) -> Future[str]:
        """The chunk's link, once it is known."""
        return self._hashing.submit(self._chain.end)

    def close(self, fd: int, name: str) -> None:
        """Make the file durable and close it, in a while. Raises OSError of an earlier one."""
        self._syncs.append(self._syncing.submit(self._sync, fd, name))
        if len(self._syncs) > _AHEAD:
            self._syncs.popleft().result()

    def finish(self) -> None:
        """Wait until all files are durable. Raises OSError."""
        while self._syncs:
            self._syncs.popleft().result()

    def _sync(self, fd: int, name: str) -> None:
        try:
            if not self._given_up:
                sync(fd, name)
        finally:
            os.close(fd)
