"""Closing connections that their owner cannot be made to close.

pyreqwest gives up waiting for an answer when its caller is cancelled, but goes on with the call itself: the
connection stays open until the answer has come, and the service works on for nobody. So each pool of
connections bears a mark, a socket option with a value of its own, by which its sockets are found and shut.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys

AVAILABLE = sys.platform == "linux"  # elsewhere such connections end with their answer, or their time
_FDS = "/proc/self/fd"
_TCP_USER_TIMEOUT = 18  # socket.TCP_USER_TIMEOUT on Linux; missing elsewhere
_SOCKETS = frozenset({socket.AF_INET, socket.AF_INET6})


def hang_up(mark_ms: int) -> int:
    """Shut all TCP connections of this process that bear the mark; how many there were.

    `mark_ms` is the value of TCP_USER_TIMEOUT that only their pool gives to its sockets.
    """
    if not AVAILABLE:
        return 0
    try:
        names = os.listdir(_FDS)
    except OSError:  # no descriptor is left to look with: the next sweep may have one
        return 0
    found = 0
    for name in names:
        with contextlib.suppress(OSError, ValueError), _opened(int(name)) as sock:
            if sock.family not in _SOCKETS or sock.type != socket.SOCK_STREAM:
                continue
            if sock.getsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT) == mark_ms:
                found += 1
                sock.shutdown(socket.SHUT_RDWR)
    return found


def _opened(fd: int) -> socket.socket:
    """A socket over a duplicate, so that the number cannot come to mean another file meanwhile."""
    copy = os.dup(fd)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
