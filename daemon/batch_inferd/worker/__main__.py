"""`python -m batch_inferd.worker --lock FILE`: started by the daemon, with its pipe on stdin and stdout.

1. It takes the lock FILE for life; a daemon that finds it free knows that this worker is gone.
2. It moves stdin and stdout away, so that nothing else can read or write the pipe, and says hello.
3. Its seats run leases until a shutdown, a SIGTERM (which drains), or the pipe's end, which ends it at once.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import logging
import os
import signal
import sys
from typing import NoReturn

import psutil
from filelock import FileLock, Timeout

from batch_infer.version import __version__
from batch_inferd.worker import onecore
from batch_inferd.worker.guard import Guards
from batch_inferd.worker.pipe import Inbox, Outbox
from batch_inferd.worker.seats import FAILED, Seats

_log = logging.getLogger("batch_inferd.worker")
_FLUSH_S = 5.0
_GARBAGE = 10_000  # objects between two looks for cycles, of which a record leaves none
_LOCKED = 3  # exit status: another worker holds the lock
_FILES = 1 << 16  # descriptors asked for; macOS has no higher limit to offer either


def main() -> NoReturn:
    """Run the worker; the process ends here, without the interpreter's own teardown."""
    parser = argparse.ArgumentParser(prog="python -m batch_inferd.worker", description=__doc__)
    parser.add_argument("--lock", required=True, help="file that is locked as long as the worker lives")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()  # a crash of the interpreter itself leaves a trace where the daemon's goes
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s worker[%(process)d]/%(threadName)s %(message)s",
    )
    lock = FileLock(arguments.lock, mode=0o600, timeout=0, fallback_to_soft=False, preserve_lock_file=True)
    try:
        lock.acquire()
    except Timeout:
        _log.error("the lock %s is held by another worker", arguments.lock)
        _end(_LOCKED)
    from_daemon, to_daemon = _take_pipe()
    _raise_file_limit()
    if onecore.AVAILABLE:
        onecore.OneCore().start()
    gc.freeze()  # what is loaded now stays
    gc.set_threshold(_GARBAGE)
    guards = Guards()
    outbox = Outbox(to_daemon, guards.exit)
    seats = Seats(outbox, guards)
    _on_terminate(seats)
    hello = {"pid": os.getpid(), "started": psutil.Process().create_time(), "version": __version__}
    try:
        outbox.start()
        outbox.channel().send("hello", hello)
        seats.open(0)
        Inbox(from_daemon, seats.handle, guards.exit).start()
        seats.wait()
        outbox.flush(_FLUSH_S)
    except BaseException:  # noqa: BLE001  whatever it is, it is the end, and must be in the log
        _log.exception("the worker failed")
        guards.exit(FAILED)
    _end(0)


def _on_terminate(seats: Seats) -> None:
    """SIGTERM drains; a second one gives up what is in flight."""
    modes = iter(("drain", "abort"))
    signal.signal(signal.SIGTERM, lambda *_: seats.terminate(next(modes, "abort")))


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
