"""Large answers in memory, and images: bounded by the same bytes in flight as the lines that are sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from batch_inferd.backends.transport import LARGE

if TYPE_CHECKING:
    from batch_inferd.worker.gate import Gate

_BUFFERS = 2 * 2**20  # bytes that a connection holds beside the large answer that it reads
_LEARN = 1 / 16  # how much the last answer counts in what the next ones are expected to have


class AnswerRoom:
    """The large answers of one account in one worker, and the images of its requests.

    An answer takes its bytes before they are read, and waits while there is no room; unread, it stays in
    the service's hands, as images stay in their files. The call that came first never waits: so there is
    always one that can be finished, and what is held is at most the account's share and one call's more.

    An answer that waits unread still holds its connection's buffers. So where answers are mostly large, a
    call is sent only when there is room for its answer and them: for `expected` bytes, 0 for small ones.
    """

    def __init__(self, gate: Gate) -> None:
        self.expected = 0
        self._gate = gate
        self._mean = 0.0  # bytes of an answer
        self._holders: dict[HeldAnswer, None] = {}  # in the order in which they came
        self._waiting: list[asyncio.Future[None]] = []

    def learn(self, size: int) -> None:
        """An answer of `size` bytes came."""
        self._mean += (size - self._mean) * _LEARN
        self.expected = int(self._mean) + _BUFFERS if self._mean > LARGE else 0

    async def take(self, holder: HeldAnswer, size: int) -> None:
        """Wait until `holder` may have `size` more bytes in memory."""
        gate = self._gate
        self._holders.setdefault(holder)
        while next(iter(self._holders)) is not holder and gate.bytes_in_flight + size > gate.bytes:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        gate.bytes_in_flight += size

    def give_back(self, size: int) -> None:
        """A holder keeps less than it took."""
        self._gate.bytes_in_flight -= size
        self.wake()

    def free(self, holder: HeldAnswer, size: int) -> None:
        """What `holder` took is not needed any more."""
        self._holders.pop(holder, None)
        self.give_back(size)

    def wake(self) -> None:
        """There may be room: those who wait look again."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)


class HeldAnswer:
    """What one call takes for its images and its answer; see `transport.Room`.

    `reserved` bytes were taken with the call, for the answer.
    """

    __slots__ = ("_reserved", "_room", "_size")

    def __init__(self, room: AnswerRoom, reserved: int = 0) -> None:
        self._room = room
        self._reserved = reserved
        self._size: int | None = None

    async def take(self, size: int) -> None:
        """Wait for room for `size` more bytes of the answer."""
        covered = min(size, self._reserved)
        self._reserved -= covered
        if size > covered:
            await self.take_more(size - covered)

    async def take_more(self, size: int) -> None:
        """Wait for room for `size` bytes beside the answer's."""
        self._size = self._size or 0
        await self._room.take(self, size)
        self._size += size

    def give_back(self, size: int) -> None:
        """So many of the bytes that were taken are not needed."""
        if self._size is not None:
            self._size -= size
            self._room.give_back(size)

    def free(self) -> None:
        """The answer is recorded, or given up."""
        if self._size is not None:
            self._room.free(self, self._size)
            self._size = None
