"""The pool: as many worker processes, with as many seats, as the running tasks want.

Processes that are too many are drained, however long that takes: what is in flight was paid for. One
that ends unexpectedly is replaced, at once at first, then less and less often.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from batch_infer.protocol.text import Text
from batch_inferd.scheduling.background import Background
from batch_inferd.scheduling.worker_process import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from batch_inferd.scheduling.seat import Seat
    from batch_inferd.seams.clock import Clock
    from batch_inferd.seams.events import Events

_log = logging.getLogger(__name__)
_IDLE_S = 60.0  # without work before the workers end
_IDLE_GRACE_S = 5.0
_HELLO_S = 30.0
_RESPAWN_S = (0.0, 1.0, 5.0, 30.0)  # waits before starting a worker again that fails at once


class Layout(NamedTuple):
    """`processes` in all; the first of them has `threads` seats, each other one."""

    processes: int
    threads: int

    @classmethod
    def of(cls, execution: dict[str, Any]) -> Layout:
        """What a task with this `execution` section wants."""
        number = int(execution["processes"])
        match execution["mode"]:
            case "multiprocessing":
                return cls(number, 1)
            case "threading":
                return cls(1, number)
            case _:
                return cls(1, 1)

    @classmethod
    def largest(cls, layouts: Iterable[Layout]) -> Layout:
        """What is enough for each of several tasks; of none, no processes."""
        wanted = tuple(layouts)
        return cls(
            max((layout.processes for layout in wanted), default=0),
            max((layout.threads for layout in wanted), default=0),
        )


class Listener(Protocol):
    """Whoever deals with the seats."""

    def on_message(self, seat: Seat, method: str, params: dict[str, Any]) -> None:
        """A message of a seat."""

    def on_seat_gone(self, seat: Seat) -> int:
        """A seat has ended; returns how many chunks were still in its hands."""

    def wake(self) -> None:
        """The seats are not what they were."""


class Pool:
    """The worker processes of a daemon, the ones that are ending among them."""

    def __init__(self, folder: Path, clock: Clock, events: Events, listener: Listener) -> None:
        self._folder = folder
        self._clock = clock
        self._events = events
        self._listener = listener
        self.processes: list[WorkerProcess] = []
        self.failed_spawn: Text | None = None  # why there is no worker, for the monitor
        self._idle_since = clock.monotonic()
        self._failures = 0
        self._failed_at = 0.0
        self._respawn_at = 0.0
        self._background = Background("pool")

    @property
    def seats(self) -> list[Seat]:
        """Those that may be given chunks."""
        return [seat for process in self.processes for seat in process.seats if seat.alive]

    @property
    def leaving(self) -> list[Seat]:
        """Those that end as soon as their calls in flight have."""
        return [seat for process in self.processes for seat in process.seats if seat.stopping]

    async def size(self, wanted: Layout, *, busy: bool) -> None:
        """Come closer to `wanted`. `busy`: somebody may want workers again soon, so that all may stay."""
        now = self._clock.monotonic()
        if busy or wanted.processes:
            self._idle_since = now
        if not wanted.processes:
            if now - self._idle_since > _IDLE_S:
                for process in self._staying():
                    self._background.start(process.stop("drain", _IDLE_GRACE_S))
            return
        for process in self._staying()[wanted.processes :]:
            _log.info("worker %s is one too many, and ends", process.pid)
            process.drain()
        if now >= self._respawn_at:
            for _ in range(wanted.processes - len(self._staying())):
                if not await self._start(now):
                    break
        for index, process in enumerate(self._staying()):
            process.seat(1 if index else wanted.threads)

    def _staying(self) -> list[WorkerProcess]:
        return [process for process in self.processes if not process.leaving]

    async def _start(self, now: float) -> bool:
        process = WorkerProcess(self._folder)
        try:
            await process.start()
        except OSError as error:
            self._failed(Text("a worker could not be started: {error}", {"error": str(error)}), now)
            return False
        self._take(process)
        return True

    def take(self, process: WorkerProcess) -> None:
        """Have one among the others that was started before there was work for it."""
        self._take(process, ahead=True)

    def _take(self, process: WorkerProcess, *, ahead: bool = False) -> None:
        process.spawned = self._clock.monotonic()
        self.processes.append(process)
        process.listen(self._on_message, self._on_seat_ended, self._on_exit)
        self._background.start(self._await_hello(process, ahead=ahead))

    async def _await_hello(self, process: WorkerProcess, *, ahead: bool) -> None:
        hello = asyncio.create_task(process.ready.wait())
        gone = asyncio.create_task(process.exited.wait())
        await asyncio.wait([hello, gone], timeout=_HELLO_S, return_when=asyncio.FIRST_COMPLETED)
        for one in (hello, gone):
            one.cancel()
        if not process.ready.is_set() and not process.exited.is_set():
            _log.error("worker %s did not report within %d s and is ended", process.pid, _HELLO_S)
            process.kill()
        if process.is_foreign and ahead:
            process.drain()  # the one that is started for the work will tell
        elif process.is_foreign and not process.leaving:
            # Its successor would be of the same new build: the daemon itself has to follow.
            _log.warning("worker %s is of build %s: the program was replaced", process.pid, process.build)
            self._events.emit("program.replaced", build=process.build)
        self._listener.wake()

    async def stop(self, mode: str, grace_s: float) -> None:
        """End all (`drain`: calls in flight may finish within `grace_s`), and return when they have."""
        await asyncio.gather(*(process.stop(mode, grace_s) for process in tuple(self.processes)))
        await self._background.wait()

    # what becomes of them

    def _on_message(self, seat: Seat, method: str, params: dict[str, Any]) -> None:
        if method == "report" and seat.process.spawned >= self._failed_at:
            self._failures = 0  # what was started after the last failure works
            self.failed_spawn = None
        if method == "stopping":
            seat.leaving = True  # somebody else asked it to end
            self._listener.wake()
            return
        self._listener.on_message(seat, method, params)

    def _on_seat_ended(self, seat: Seat) -> None:
        lost = self._listener.on_seat_gone(seat)
        if lost:
            _log.error("seat %s ended with %d chunks in its hands", seat.name, lost)
        self._listener.wake()

    def _on_exit(self, process: WorkerProcess) -> None:
        self.processes.remove(process)
        expected = process.leaving
        lost = sum(self._listener.on_seat_gone(seat) for seat in process.seats)
        if not expected:
            self._failed(
                Text(
                    "worker {pid} ended unexpectedly with {count} chunks in its hands",
                    {"pid": process.pid, "count": lost},
                ),
                self._clock.monotonic(),
            )
        self._listener.wake()

    def _failed(self, message: Text, now: float) -> None:
        _log.error("%s", message)
        self.failed_spawn = message
        self._failed_at = now
        self._respawn_at = now + _RESPAWN_S[min(self._failures, len(_RESPAWN_S) - 1)]
        self._failures += 1
