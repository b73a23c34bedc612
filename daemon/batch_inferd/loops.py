"""Event loops: uvloop's where it is installed, else those of asyncio."""

from __future__ import annotations

import sysconfig
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What `asyncio.Runner` takes; None is asyncio's own."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return None  # threads that run at the same time gain more than a faster loop would
    try:
        import uvloop  # noqa: PLC0415  there is none on Windows
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
