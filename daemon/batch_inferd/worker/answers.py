"""Large answers in memory: bounded by the same bytes in flight as the lines that are sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch_inferd.worker.gate import Gate


class AnswerRoom:
    """The large answers of one account in one worker.

    An answer takes its bytes before they are read, and waits while there is no room; unread, it stays in
    the service's hands. The one that came first never waits: so there is always one that can be finished,
    and what is held is at most the account's share and one answer more.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._holders: dict[HeldAnswer, None] = {}  # in the order in which they came
        self._waiting: list[asyncio.Future[None]] = []

    async def take(self, holder: HeldAnswer, size: int) -> None:
        """Wait until `holder` may have `size` more bytes in memory."""
        gate = self._gate
        self._holders.setdefault(holder)
        while next(iter(self._holders)) is not holder and gate.bytes_in_flight + size > gate.bytes:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        gate.bytes_in_flight += size

    def free(self, holder: HeldAnswer, size: int) -> None:
        """What `holder` took is not needed any more."""
        self._holders.pop(holder, None)
        self._gate.bytes_in_flight -= size
        self.wake()

    def wake(self) -> None:
        """There may be room: those who wait look again."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)


class HeldAnswer:
    """What one call's answer takes; see `transport.Room`."""

    __slots__ = ("_room", "_size")

    def __init__(self, room: AnswerRoom) -> None:
        self._room = room
        self._size: int | None = None

    async def take(self, size: int) -> None:
        """Wait for room for `size` more bytes."""
        self._size = self._size or 0
        await self._room.take(self, size)
        self._size += size

    def free(self) -> None:
        """The answer is recorded, or given up."""
        if self._size is not None:
            self._room.free(self, self._size)
            self._size = None
