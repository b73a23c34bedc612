"""`python -m batch_inferd.worker --lock FILE`: started by the daemon, with its pipe on stdin and stdout.

1. It takes the lock FILE for life; a daemon that finds it free knows that this worker is gone.
2. It moves stdin and stdout away, so that nothing else can read or write the pipe, and says hello.
3. It runs leases until a shutdown, a SIGTERM (which drains), or the pipe's end: that one ends it at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from typing import Any, NoReturn

import psutil
from filelock import FileLock, Timeout

from batch_infer.version import __version__
from batch_inferd.backends.aiohttp_transport import AiohttpTransport
from batch_inferd.seams.clock import make_clock
from batch_inferd.seams.events import Events
from batch_inferd.worker.core import Worker
from batch_inferd.worker.guard import WriteGuard
from batch_inferd.worker.pipe import Inbox, Outbox

_log = logging.getLogger("batch_inferd.worker")
_FLUSH_S = 5.0
_LOCKED = 3  # exit status: another worker holds the lock
_FILES = 1 << 16  # descriptors asked for; macOS has no higher limit to offer either


def main() -> NoReturn:
    """Run the worker; the process ends here, without the interpreter's own teardown."""
    parser = argparse.ArgumentParser(prog="python -m batch_inferd.worker", description=__doc__)
    parser.add_argument("--lock", required=True, help="file that is locked as long as the worker lives")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s worker[%(process)d] %(message)s",
    )
    lock = FileLock(arguments.lock, mode=0o600, timeout=0, fallback_to_soft=False, preserve_lock_file=True)
    try:
        lock.acquire()
    except Timeout:
        _log.error("the lock %s is held by another worker", arguments.lock)
        _end(_LOCKED)
    from_daemon, to_daemon = _take_pipe()
    _raise_file_limit()
    try:
        asyncio.run(_serve(from_daemon, to_daemon))
    except BaseException:  # noqa: BLE001  whatever it is, it is the end, and must be in the log
        _log.exception("the worker failed")
        _end(1)
    _end(0)


async def _serve(from_daemon: int, to_daemon: int) -> None:
    loop = asyncio.get_running_loop()
    guard = WriteGuard()
    outbox = Outbox(to_daemon, guard.exit)
    transport = AiohttpTransport()
    worker = Worker(outbox, guard, make_clock(), transport, Events())

    def deliver(method: str, params: dict[str, Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has just been closed
            loop.call_soon_threadsafe(worker.handle, method, params)

    outbox.start()
    outbox.send(
        "hello", {"pid": os.getpid(), "started": psutil.Process().create_time(), "version": __version__}
    )
    Inbox(from_daemon, deliver, guard.exit).start()
    _on_terminate(loop, worker)
    await worker.run()
    await transport.close()
    outbox.flush(_FLUSH_S)


def _on_terminate(loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
    """SIGTERM drains; a second one gives up what is in flight."""
    modes = iter(("drain", "abort"))

    def terminate() -> None:
        worker.terminate(next(modes, "abort"))

    try:
        loop.add_signal_handler(signal.SIGTERM, terminate)
    except NotImplementedError:  # Windows
        signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(terminate))


def _take_pipe() -> tuple[int, int]:
    """The pipe's two ends under other numbers; 0 becomes empty, and 1 goes where 2 goes."""
    sys.stdout.flush()
    from_daemon, to_daemon = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return from_daemon, to_daemon


def _raise_file_limit() -> None:
    """A call takes a descriptor: ask for as many as we may have."""
    try:
        import resource  # noqa: PLC0415  not on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _end(status: int) -> NoReturn:
    logging.shutdown()
    os._exit(status)


if __name__ == "__main__":
    main()
