"""The first SIGTERM or SIGINT ends the daemon in order, the second one at once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)


class Signals:
    """Installed for the running loop; `first(name)` is called once, in the loop."""

    def __init__(self, first: Callable[[str], None]) -> None:
        self._first = first
        self._seen = False
        self._loop = asyncio.get_running_loop()
        for number in _numbers():
            if sys.platform == "win32":
                signal.signal(number, self._from_any_thread)
            else:
                self._loop.add_signal_handler(number, self._on_signal, number)

    def _from_any_thread(self, number: int, _frame: object) -> None:
        self._loop.call_soon_threadsafe(self._on_signal, number)

    def _on_signal(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._seen:
            # Everything that counts is on disk already: the next daemon recovers, as after a kill.
            os._exit(128 + number)
        self._seen = True
        _log.info("got %s: ending in order; a second one ends at once", name)
        self._first(name)


def _numbers() -> tuple[signal.Signals, ...]:
    if sys.platform == "win32":
        return (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
    # A terminal that is closed says SIGHUP to a daemon in its foreground; a detached one hears none.
    return (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
