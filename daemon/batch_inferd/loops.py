"""Event loops: uvloop's where it is installed, else those of asyncio."""

from __future__ import annotations

import logging
import sysconfig
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_log = logging.getLogger(__name__)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What `asyncio.Runner` takes; None is asyncio's own."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return None  # threads that run at the same time gain more than a faster loop would
    try:
        import uvloop  # noqa: PLC0415  there is none on Windows
    except ImportError:
        return None

    def make() -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        loop.set_exception_handler(_tell)
        return loop

    return make


def _tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """As by default, but for what uvloop says of a TLS connection that was given up in its handshake."""
    error = context.get("exception")
    given_up = isinstance(error, RuntimeError) and "the handler is closed" in str(error)
    if given_up and "SSL protocol" in str(context.get("message")):
        _log.debug("a TLS connection was given up: %s", error)
        return
    loop.default_exception_handler(context)
