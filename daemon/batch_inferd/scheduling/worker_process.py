"""A worker process as the daemon sees it: started, spoken to, and never outliving its daemon."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from batch_infer.protocol import frames, rpc
from batch_infer.protocol.errors import ProtocolError
from batch_infer.protocol.process import boot_id, start_token
from batch_infer.version import __version__
from batch_inferd.scheduling.bandwidth import Bandwidth
from batch_inferd.scheduling.orphans import make_private
from batch_inferd.scheduling.seat import Seat
from batch_inferd.seams.files import Directory

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)
_UNREAD_MAX = 16 * 1024 * 1024  # bytes that wait for a worker to read them
# glibc gives every thread a heap of its own, and keeps what was freed there. A worker's threads are few and
# seldom busy: one heap does (docs/performance.md, "Memory").
_ALLOCATOR = {"MALLOC_ARENA_MAX": "1"}

OnMessage = Callable[[Seat, str, dict[str, Any]], None]
OnSeatEnded = Callable[[Seat], None]
OnExit = Callable[["WorkerProcess"], None]


def _nobody(*_: object) -> None:
    """Nobody listens yet."""


class WorkerProcess:
    """One worker, with its seats: `start` it, then `listen`."""

    def __init__(self, folder: Path) -> None:
        self.name = uuid.uuid4().hex[:12]
        self.pid = 0
        self.started = ""
        self.build = ""
        self.ready = asyncio.Event()
        self.exited = asyncio.Event()
        self.spawned = 0.0  # monotonic, as its pool says
        self.bandwidth = Bandwidth()
        self.seats = [Seat(self, 0)]
        self._next_seat = 1
        self._asked_to_end = False
        self._folder = folder
        self._on_message: OnMessage = _nobody
        self._on_seat_ended: OnSeatEnded = _nobody
        self._on_exit: OnExit = _nobody
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def key(self) -> str:
        """Process id and start time: a pid alone may be somebody else's tomorrow."""
        return f"{self.pid}:{self.started}"

    @property
    def is_foreign(self) -> bool:
        """Of another build than this daemon: the package was replaced on the disk meanwhile."""
        return self.ready.is_set() and self.build != __version__

    @property
    def leaving(self) -> bool:
        """Ending: it was asked to, or all its seats do."""
        return self._asked_to_end or all(seat.leaving for seat in self.seats)

    @property
    def serves(self) -> bool:
        """Started, greeted, and neither gone nor asked to end."""
        return (
            self.ready.is_set()
            and not self.exited.is_set()
            and not self._asked_to_end
            and not self.is_foreign
        )

    async def start(self) -> None:
        """Spawn it and record it in `.workers/`. Raises OSError."""
        await asyncio.to_thread(make_private, self._folder)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "batch_inferd.worker",
            "--lock",
            str(self._folder / f"{self.name}.lock"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=None,
            start_new_session=True,
            env=_ALLOCATOR | os.environ,
        )
        self.pid = self._process.pid
        self.started = start_token(self.pid) or ""
        try:
            await asyncio.to_thread(self._record)
        except BaseException:
            self.kill()  # a worker that is not recorded would not be found again
            await self._process.wait()
            raise

    def listen(self, on_message: OnMessage, on_seat_ended: OnSeatEnded, on_exit: OnExit) -> None:
        """Hear what it says from now on, and has said since it was started.

        `on_message` is called for each message of a seat, `on_seat_ended` after its last one when it ends
        before its process does, `on_exit` once after all of them.
        """
        if self._process is None:
            raise RuntimeError("the worker was not started")
        self._on_message, self._on_seat_ended, self._on_exit = on_message, on_seat_ended, on_exit
        self._reader = asyncio.create_task(self._read(self._process), name=f"worker-{self.pid}")

    def _record(self) -> None:
        record = {"pid": self.pid, "started": self.started, "boot": boot_id()}
        directory = Directory(self._folder)
        try:
            directory.write_atomic(f"{self.name}.json", json.dumps(record).encode())
        finally:
            directory.close()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        stream = process.stdout
        assert stream is not None  # noqa: S101  asked for above
        try:
            while True:
                length = frames.body_length(await stream.readexactly(frames.HEADER.size), frames.FRAME_CAP)
                message = frames.decode(await stream.readexactly(length))
                method, params = message.get("method"), message.get("params")
                if not isinstance(method, str) or not isinstance(params, dict):
                    continue
                if method == "hello":
                    self._greet(params)
                    continue
                try:
                    self._hear(method, params)
                except Exception:  # noqa: BLE001  one message must not end the worker
                    _log.exception("a message of worker %s could not be handled: %s", self.pid, method)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it ended: what that means is decided below
        except ProtocolError as error:
            _log.error("worker %s broke the protocol: %s", self.pid, error)
            self.kill()
        finally:
            if process.returncode is None:
                # The pipe is closed: a worker without it exits by itself; waiting is only for the reaping.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), 5)
                if process.returncode is None:
                    self.kill()
                    await process.wait()
            _log.info("worker %s ended with status %s", self.pid, process.returncode)
            for suffix in (".json", ".lock"):
                with contextlib.suppress(OSError):
                    (self._folder / f"{self.name}{suffix}").unlink()
            self.exited.set()
            self._on_exit(self)

    def _greet(self, params: dict[str, Any]) -> None:
        self.build = str(params.get("version"))
        self.ready.set()

    def _hear(self, method: str, params: dict[str, Any]) -> None:
        number = params.get("seat", 0)
        for seat in self.seats:
            if seat.number == number:
                if method != "ended":
                    self._on_message(seat, method, params)
                    return
                seat.ended = seat.leaving = True
                self.seats = [other for other in self.seats if other is not seat]
                self._on_seat_ended(seat)

    def seat(self, number: int) -> None:
        """Have as many seats as that: further ones are opened, the newest are asked to end."""
        present = [seat for seat in self.seats if not seat.leaving]
        fresh = [Seat(self, self._next_seat + index) for index in range(number - len(present))]
        if fresh:
            self._next_seat += len(fresh)
            self.seats += fresh
            self.send("seats", {"open": [seat.number for seat in fresh]})
        for seat in present[number:]:
            seat.leave()

    def send(self, method: str, params: dict[str, Any]) -> None:
        """Queue a message for it; dropped when it is gone."""
        process = self._process
        if process is None or process.stdin is None or self.exited.is_set() or process.stdin.is_closing():
            return
        if process.stdin.transport.get_write_buffer_size() > _UNREAD_MAX:
            _log.error("worker %s does not read any more and is ended", self.pid)
            self.kill()
            return
        process.stdin.write(frames.encode(rpc.notification(method, params)))

    def drain(self) -> None:
        """Ask it to end once its calls in flight have, however long that takes."""
        self._asked_to_end = True
        self.send("shutdown", {"mode": "drain"})

    async def stop(self, mode: str, grace_s: float) -> None:
        """Ask it to end (`drain` or `abort`), and kill it after `grace_s`."""
        self._asked_to_end = True
        self.send("shutdown", {"mode": mode})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.exited.wait(), grace_s)
        self.kill()
        if self._reader is not None:
            await asyncio.wait([self._reader])

    def kill(self) -> None:
        """At once."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
