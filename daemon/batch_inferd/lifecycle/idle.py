"""Ending for idleness, without ever turning away a task.

1. No task has been unfinished, and no request came, for the limit (30 min by default).
2. Take `.daemon.start.lock`. Where a client has it, somebody is coming: stay.
3. Stop listening. Clients that come now wait for the start lock.
4. Serve those who are connected for up to 5 s. If one of them submitted: listen again, stay.
5. Hang up in the same instant in which that was seen, so that no submit falls between. The caller ends
   the daemon, then releases both locks, the start lock last: the next client starts a new daemon.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from batch_infer.protocol import locks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_infer.protocol.locks import HeldLock
    from batch_inferd.lifecycle.presence import Presence
    from batch_inferd.seams.clock import Clock
    from batch_inferd.server.server import Server

DEFAULT_S = 30 * 60.0
GRACE_S = 5.0
_VARIABLE = "BATCH_INFER_IDLE_EXIT_S"

_log = logging.getLogger(__name__)


def limit_from_environment() -> float | None:
    """The seconds in BATCH_INFER_IDLE_EXIT_S; None where it is not set, or nonsense."""
    value = os.environ.get(_VARIABLE)
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not seconds > 0:
        _log.warning("%s must be a positive number of seconds, found %r", _VARIABLE, value)
        return None
    return seconds


async def wait_idle(
    limit_s: Callable[[], float],
    busy: Callable[[], bool],
    start_lock: Path,
    presence: Presence,
    server: Server,
    clock: Clock,
) -> HeldLock:
    """Return when the daemon should end, with the start lock, which the caller releases last."""
    active = clock.monotonic()
    while True:
        await clock.sleep(min(5.0, max(limit_s() / 10, 0.02)))
        if busy() or server.in_flight:
            active = clock.monotonic()
        if clock.monotonic() - max(active, server.last_request) < limit_s():
            continue
        try:
            lock = locks.acquire(start_lock)
        except OSError as error:
            _log.warning("cannot end for idleness: %s", error)
            active = clock.monotonic()
            continue
        if lock is None:
            continue
        try:
            if await _shut(busy, presence, server):
                return lock
        except BaseException:
            lock.release()
            raise
        lock.release()
        active = clock.monotonic()


async def _shut(busy: Callable[[], bool], presence: Presence, server: Server) -> bool:
    """Shut the door and serve who is inside; whether the daemon can end. If not, the door is open again."""
    await presence.close()
    await server.wait_quiet(GRACE_S)
    if not busy() and not server.in_flight:
        server.close()
        return True
    _log.info("a task came in the last moment: the daemon stays")
    try:
        await presence.open()
    except OSError as error:
        _log.warning("cannot listen again yet: %s", error)  # the socket watch goes on trying
    return False
