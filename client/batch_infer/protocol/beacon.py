"""The beacon `.daemon.json`: where the daemon of a workspace can be reached, and who it is.

It is advisory. The held `.daemon.lock` is the truth about whether a daemon lives; a beacon may be
stale, torn or forged, and then counts as none. Only the holder of the lock writes or removes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_infer.protocol.process import boot_id, is_running, start_token

if TYPE_CHECKING:
    from pathlib import Path

SIZE_CAP = 16 * 1024
_READ_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # somebody may have put a FIFO there
    | getattr(os, "O_BINARY", 0)
)
_WRITE_FLAGS = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
)


class Beacon(NamedTuple):
    """What a daemon says of itself. `protocol` is the range (lowest, highest) that it speaks."""

    pid: int
    process_started: str  # of batch_infer.protocol.process.start_token
    hostname: str
    boot_id: str
    protocol: tuple[int, int]
    version: str
    endpoint: str  # "unix:/path" or "pipe:\\.\pipe\name"
    secret: str
    stopping: bool = False  # it drains, and takes no new connections

    def __repr__(self) -> str:
        # The secret must not get into a log or a traceback.
        return f"Beacon(pid={self.pid}, endpoint={self.endpoint!r}, stopping={self.stopping})"


def of_this_process(
    endpoint: str, secret: str, protocol: tuple[int, int], version: str, *, stopping: bool = False
) -> Beacon:
    """The beacon that the calling daemon publishes."""
    pid = os.getpid()
    started = start_token(pid) or ""
    return Beacon(
        pid, started, socket.gethostname(), boot_id(), protocol, version, endpoint, secret, stopping
    )


def read(path: Path) -> Beacon | None:
    """The beacon at `path`; None when there is none, or it is not one.

    Whose file it is does not count: some network file systems give every file to `nobody`. A beacon
    that leads to another user's socket is found out there, by the socket's owner.
    """
    try:
        fd = os.open(path, _READ_FLAGS)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_size > SIZE_CAP:
            return None
        try:
            return _parse(json.loads(file.read(SIZE_CAP)))
        except (OSError, ValueError, RecursionError):
            return None


def write(path: Path, beacon: Beacon) -> None:
    """Publish: a reader sees the old beacon or the new one, never half of one. Raises OSError.

    Nothing is synced to the disk: after a power cut the daemon is gone, whatever the file says.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    fd = os.open(temporary, _WRITE_FLAGS, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(json.dumps({"schema": 1, **beacon._asdict()}, indent=1).encode())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def remove(path: Path, secret: str) -> None:
    """Take the beacon away if it is the one with `secret`."""
    found = read(path)
    if found is not None and found.secret == secret:
        with contextlib.suppress(OSError):
            os.unlink(path)


def living_pid(beacon: Beacon | None) -> int | None:
    """The daemon's pid, if that very process still runs on this machine; None if nobody can tell."""
    if beacon is None or beacon.hostname != socket.gethostname() or beacon.boot_id != boot_id():
        return None
    return beacon.pid if is_running(beacon.pid, beacon.process_started) else None


def _parse(data: Any) -> Beacon | None:
    if not isinstance(data, dict):
        return None
    texts = [data.get(k) for k in ("process_started", "hostname", "boot_id", "version", "endpoint", "secret")]
    pid, protocol = data.get("pid"), data.get("protocol")
    if not isinstance(pid, int) or not all(isinstance(text, str) for text in texts):
        return None
    if not (isinstance(protocol, list) and len(protocol) == 2 and all(isinstance(n, int) for n in protocol)):
        return None
    started, hostname, boot, version, endpoint, secret = (str(text) for text in texts)
    return Beacon(
        pid=pid,
        process_started=started,
        hostname=hostname,
        boot_id=boot,
        protocol=(protocol[0], protocol[1]),
        version=version,
        endpoint=endpoint,
        secret=secret,
        stopping=data.get("stopping") is True,
    )
