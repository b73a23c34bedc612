"""The Unix socket: where its file lies, listening on it, and connecting to it.

Importable everywhere, usable where there are Unix sockets. The file lies in a directory that only this
user can enter, so that nobody else can reach the socket; the daemon checks the peer's uid all the same.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKLOG = 128
# sun_path has 104 bytes on macOS and the BSDs and 108 on Linux, with its closing zero.
PATH_MAX = 107 if sys.platform.startswith("linux") else 103
_PROBE_S = 1.0


def connect(path: str, timeout: float) -> SocketChannel:
    """Connect to the socket at `path` within `timeout` seconds.

    Raises OSError; PermissionError when another user listens there.
    """
    if not path.startswith("/") or "\0" in path or len(os.fsencode(path)) > PATH_MAX:
        raise ValueError("a socket's path is absolute, and not that long")
    deadline = time.monotonic() + timeout
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(max(deadline - time.monotonic(), 0.001))
            sock.connect(path)
            stranger = foreign_uid(sock)
        except BlockingIOError:
            # Linux answers so, instead of waiting, while the queue of a listener is full.
            sock.close()
            if time.monotonic() >= deadline:
                raise TimeoutError("the daemon's queue of connections is full") from None
            time.sleep(0.02)
            continue
        except BaseException:
            sock.close()
            raise
        if stranger is not None:
            sock.close()
            raise PermissionError("the socket belongs to another user")
        return SocketChannel(sock)


class SocketChannel:
    """A connected socket as `Channel`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, data: bytes, timeout: float) -> None:
        """See `Channel.send`."""
        self._sock.settimeout(max(timeout, 0.001))
        self._sock.sendall(data)

    def receive(self, size: int, timeout: float) -> bytes:
        """See `Channel.receive`."""
        self._sock.settimeout(max(timeout, 0.001))
        return self._sock.recv(size)

    def close(self) -> None:
        """See `Channel.close`."""
        self._sock.close()


class UnixListener:
    """A bound, listening, non-blocking socket and the file that leads to it."""

    def __init__(self, path: str, sock: socket.socket) -> None:
        self.path = path
        self.sock = sock
        info = os.lstat(path)
        self._identity = (info.st_dev, info.st_ino)

    @property
    def endpoint(self) -> str:
        """See `Listener.endpoint`."""
        return f"unix:{self.path}"

    def present(self) -> bool:
        """See `Listener.present`."""
        try:
            info = os.lstat(self.path)
        except OSError:
            return False
        return (info.st_dev, info.st_ino) == self._identity

    def withdraw(self) -> None:
        """See `Listener.withdraw`."""
        if self.present():
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    def close(self) -> None:
        """See `Listener.close`."""
        self.sock.close()


def listen(root: Path) -> UnixListener:
    """Bind and listen for the workspace at `root` (a real path), whose lock the caller holds.

    Raises OSError; PermissionError when somebody else sits in the place for the socket.
    """
    path = socket_path(root)
    if not _free(path):
        # The lock is ours, so it is no daemon of this workspace: perhaps one in another container that
        # has the same path and the same runtime directory. Clients read the name from the beacon.
        import secrets  # here and below: only a daemon needs them, and they would slow every client

        path = f"{path.removesuffix('.sock')}-{secrets.token_hex(4)}.sock"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _umask(0o177):
            sock.bind(path)
        sock.listen(BACKLOG)
        sock.setblocking(False)
        return UnixListener(path, sock)
    except BaseException:
        sock.close()
        raise


def socket_path(root: Path) -> str:
    """The usual path of the socket for the workspace at `root`; makes its directory. Raises OSError."""
    import hashlib

    name = hashlib.blake2b(os.fsencode(root), digest_size=12).hexdigest() + ".sock"
    longest = PATH_MAX - 9  # room for `listen` to make the name unique
    runtime = _runtime_directory()
    if runtime is not None and len(os.fsencode(runtime / name)) <= longest:
        with contextlib.suppress(OSError):
            return str(_private(runtime) / name)
    path = str(_private(Path(f"/tmp/batch_infer-{os.geteuid()}")) / name)  # noqa: S108  checked to be ours
    if len(os.fsencode(path)) > longest:
        raise OSError(f"the socket's path is longer than {longest} bytes: {path}")
    return path


def foreign_uid(sock: socket.socket) -> int | None:
    """The user id at the other end if it is not ours; None if it is (or the system does not tell)."""
    uid = _peer_uid(sock)
    return uid if uid != os.geteuid() else None


def _peer_uid(sock: socket.socket) -> int | None:
    if hasattr(socket, "SO_PEERCRED"):
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", data)[1])
    if sys.platform.startswith(("darwin", "freebsd")):
        # struct xucred: version, uid, then groups. SOL_LOCAL is 0, LOCAL_PEERCRED is 1.
        return int(struct.unpack_from("=II", sock.getsockopt(0, 1, 128))[1])
    return None


def _runtime_directory() -> Path | None:
    """Our folder in the user's runtime directory, if that one exists and is ours."""
    import platformdirs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns about a missing XDG_RUNTIME_DIR, which is no news here
        try:
            path = Path(platformdirs.user_runtime_dir("batch_infer", appauthor=False))
            info = os.lstat(path.parent)
        except OSError:
            return None
    ours = stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid() and not info.st_mode & 0o022
    return path if ours else None


def _private(directory: Path) -> Path:
    """Make sure that `directory` is a real directory of ours with mode 0700. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    info = os.lstat(directory)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
        raise PermissionError(f"{directory} should be a directory of ours, but belongs to somebody else")
    if stat.S_IMODE(info.st_mode) != 0o700:
        os.chmod(directory, 0o700)
    return directory


def _free(path: str) -> bool:
    """Whether nobody listens at `path`; a socket that a killed daemon left is removed."""
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return True
    if not stat.S_ISSOCK(info.st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return True
        except FileNotFoundError:
            return True
        except OSError:
            return False
    return False


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
