"""Every 5 s: is the socket still there, is the workspace?

logind removes a user's runtime directory at logout, and people clean up /tmp: then the socket is made
again. A workspace or a lock file that is gone cannot be made again: the daemon ends.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from batch_infer.protocol.locks import HeldLock
    from batch_inferd.lifecycle.presence import Presence
    from batch_inferd.seams.clock import Clock

EVERY_S = 5.0

_log = logging.getLogger(__name__)


async def watch(root: Path, lock: HeldLock, presence: Presence, clock: Clock) -> str:
    """Watch until the workspace at `root` is gone; says what happened."""
    identity = _identity(root)
    while True:
        await clock.sleep(EVERY_S)
        if _identity(root) != identity:
            return f"the workspace {root} was removed or replaced"
        if not lock.still_there():
            return f"{lock.path} was removed or replaced: another daemon may hold the workspace"
        try:
            await presence.heal()
        except OSError as error:
            _log.warning("the daemon cannot be reached: %s; trying again in %g s", error, EVERY_S)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino
