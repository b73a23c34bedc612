r"""How client and daemon reach each other: a Unix socket, or a named pipe on Windows.

This is the one place that chooses. An endpoint is a string with its kind in front: `unix:/path/of.sock`
or `pipe:\\.\pipe\name`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from batch_infer.protocol.transport.base import Channel, Listener

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Channel", "Listener", "connect", "listen"]


def connect(endpoint: str, timeout: float) -> Channel:
    """Connect within `timeout` seconds.

    Raises OSError (FileNotFoundError, ConnectionRefusedError: nobody there), TimeoutError, or ValueError
    for an endpoint that cannot be one here.
    """
    kind, _, address = endpoint.partition(":")
    if kind == "unix" and sys.platform != "win32":
        from batch_infer.protocol.transport import unix

        return unix.connect(address, timeout)
    if kind == "pipe" and sys.platform == "win32":
        from batch_infer.protocol.transport import win32, windows

        return windows.connect(win32.load(), address, timeout)
    raise ValueError(f"no endpoint of this platform: {kind!r}")


def listen(root: Path) -> Listener:
    """Open the endpoint of the workspace at `root`; its lock must be held. Raises OSError."""
    if sys.platform == "win32":
        from batch_infer.protocol.transport import win32, windows

        return windows.PipeListener(win32.load())
    from batch_infer.protocol.transport import unix

    return unix.listen(root)
