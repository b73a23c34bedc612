"""A worker process as the daemon sees it: started, spoken to, and never outliving its daemon."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import signal
import stat
import sys
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from batch_infer.protocol import frames, rpc
from batch_infer.protocol.errors import ProtocolError
from batch_infer.protocol.process import boot_id, is_running, start_token
from batch_infer.version import __version__
from batch_inferd.seams.files import Directory

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)
_UNREAD_MAX = 16 * 1024 * 1024  # bytes that wait for a worker to read them
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows ends a process at once for any signal

OnMessage = Callable[["WorkerProcess", str, dict[str, Any]], None]
OnExit = Callable[["WorkerProcess"], None]


class WorkerProcess:
    """One worker. `on_message` is called for each of its messages, `on_exit` once after the last."""

    def __init__(self, folder: Path, on_message: OnMessage, on_exit: OnExit) -> None:
        self.name = uuid.uuid4().hex[:12]
        self.pid = 0
        self.started = ""
        self.build = ""
        self.ready = asyncio.Event()
        self.exited = asyncio.Event()
        self.stopping = False
        self._folder = folder
        self._on_message = on_message
        self._on_exit = on_exit
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
    def alive(self) -> bool:
        """Started, greeted, and neither gone nor going."""
        return self.ready.is_set() and not self.exited.is_set() and not self.stopping and not self.is_foreign

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
            # glibc gives every thread a heap of its own, and what a job frees there serves no other job.
            env={"MALLOC_ARENA_MAX": "1"} | os.environ,
        )
        self.pid = self._process.pid
        self.started = start_token(self.pid) or ""
        try:
            await asyncio.to_thread(self._record)
        except BaseException:
            self.kill()  # a worker that is not recorded would not be found again
            await self._process.wait()
            raise
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
                    self._on_message(self, method, params)
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

    async def stop(self, mode: str, grace_s: float) -> None:
        """Ask it to end (`drain` or `abort`), and kill it after `grace_s`."""
        self.stopping = True
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


def make_private(folder: Path) -> None:
    """A folder of our own, 0700. Raises PermissionError: it is somebody else's, or a link.

    What stands in it names processes to be killed: nobody else may write it.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    info = os.lstat(folder)
    if not stat.S_ISDIR(info.st_mode) or (hasattr(os, "geteuid") and info.st_uid != os.geteuid()):
        raise PermissionError(errno.EPERM, "not a folder of your own", str(folder))
    if info.st_mode & 0o077:
        folder.chmod(0o700)


def end_orphans(folder: Path, timeout_s: float = 30.0) -> int:
    """End the workers of an earlier daemon and wait for their locks; returns how many were alive.

    A worker ends by itself when its daemon's pipe closes; this makes sure of it before any journal is
    read. A recorded pid is only killed if its start time is the recorded one too. Raises TimeoutError.
    """
    ended = 0
    make_private(folder)
    directory = Directory(folder)
    for record in sorted(name for name in directory.listdir() if name.endswith(".json")):
        try:
            data = json.loads(directory.read(record))
            pid = int(data["pid"])
            if data["boot"] == boot_id() and is_running(pid, data["started"]) and pid != os.getpid():
                os.kill(pid, KILL)
                ended += 1
        except (ValueError, KeyError, TypeError, OSError):
            continue  # unreadable or gone: the lock below decides
    directory.close()
    deadline = time.monotonic() + timeout_s
    for lock_path in sorted(folder.glob("*.lock")):
        lock = FileLock(lock_path, mode=0o600, timeout=max(0.0, deadline - time.monotonic()))
        try:
            with lock:
                pass
        except Timeout as error:
            raise TimeoutError(f"a worker of an earlier daemon still holds {lock_path}") from error
        for path in (lock_path, lock_path.with_suffix(".json")):
            with contextlib.suppress(OSError):
                path.unlink()
    return ended
