"""The seats of a worker process: each a thread with an event loop, a transport and a `Worker` of its own.

Seats share the process, the pipe and nothing else. Messages name the seat that they are for, or come
from, by its number; without one it is seat 0, which is there from the beginning. `seats` opens further
ones, and `shutdown` without a number ends all. The process ends with its last seat; a seat that fails
takes the process with it, so that the daemon gives its chunks to others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any

from batch_inferd.backends.http1_transport import Http1Transport
from batch_inferd.loops import loop_factory
from batch_inferd.seams.clock import make_clock
from batch_inferd.seams.events import Events
from batch_inferd.worker.core import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_inferd.worker.guard import Guards, WriteGuard
    from batch_inferd.worker.pipe import Channel, Outbox

_log = logging.getLogger(__name__)
_LOOK_S = 1.0  # on Windows a signal is handled only between two waits of the main thread
FAILED = 1  # exit status: a seat failed


class Seat:
    """One of them. `ended` and `failed` are called in its thread, one of them, once, at its end."""

    def __init__(
        self,
        number: int,
        channel: Channel,
        guard: WriteGuard,
        ended: Callable[[Seat], None],
        failed: Callable[[], object],
    ) -> None:
        self.number = number
        self._channel = channel
        self._guard = guard
        self._ended = ended
        self._failed = failed
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: Worker | None = None

    def start(self) -> None:
        """Return once it takes messages."""
        threading.Thread(target=self._run, name=f"seat-{self.number}", daemon=True).start()
        self._ready.wait()

    def handle(self, method: str, params: dict[str, Any]) -> None:
        """A message of the daemon, from any thread."""
        if self._worker is not None:
            self._call(self._worker.handle, method, params)

    def terminate(self, mode: str) -> None:
        """See `Worker.terminate`; from any thread."""
        if self._worker is not None:
            self._call(self._worker.terminate, mode)

    def _call(self, function: Callable[..., object], *arguments: Any) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                self._loop.call_soon_threadsafe(function, *arguments)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._serve())
        except BaseException:  # noqa: BLE001  whatever it is, it is the end, and must be in the log
            _log.exception("seat %d failed", self.number)
            self._failed()
        else:
            self._ended(self)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        transport = Http1Transport()
        self._worker = Worker(self._channel, self._guard, make_clock(), transport, Events())
        self._ready.set()
        await self._worker.run()
        await transport.close()


class Seats:
    """All of a process. `handle` is called by one thread, in the order of the messages."""

    def __init__(self, outbox: Outbox, guards: Guards) -> None:
        self._outbox = outbox
        self._guards = guards
        self._seats: dict[int, Seat] = {}
        self._lock = threading.Lock()  # held to change `_seats`, which is read without it: it is replaced
        self._ending = False
        self._asked: str | None = None  # how a signal ended all seats
        self._over = threading.Event()

    def open(self, number: int) -> None:
        """One more seat."""
        with self._lock:
            if self._ending or number in self._seats:
                return
            seat = Seat(
                number,
                self._outbox.channel(number),
                self._guards.new(),
                self._ended,
                lambda: self._guards.exit(FAILED),
            )
            self._seats = self._seats | {number: seat}
        seat.start()
        if self._asked is not None:
            seat.terminate(self._asked)

    def handle(self, method: str, params: dict[str, Any]) -> None:
        """A message of the daemon."""
        if method == "seats":
            for number in params["open"]:
                self.open(int(number))
            return
        if method == "shutdown" and "seat" not in params:
            with self._lock:
                self._ending = True
            for seat in self._seats.values():
                seat.handle(method, params)
            return
        addressed = self._seats.get(int(params.get("seat", 0)))
        if addressed is not None:
            addressed.handle(method, params)

    def terminate(self, mode: str) -> None:
        """End all seats (`drain`, `abort`). Takes no lock: a signal may come at any point."""
        self._asked = mode
        for seat in self._seats.values():
            seat.terminate(mode)

    def wait(self) -> None:
        """Until the last seat has ended."""
        while not self._over.wait(_LOOK_S):
            pass

    def _ended(self, seat: Seat) -> None:
        self._outbox.channel(seat.number).send("ended", {})
        with self._lock:
            self._seats = {number: other for number, other in self._seats.items() if other is not seat}
            if not self._seats:
                self._ending = True
                self._over.set()
