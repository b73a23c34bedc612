"""Opening a file where anything may stand: it never waits for a pipe's other end, and says what it found."""

from __future__ import annotations

import errno
import os
import stat

from batch_infer.protocol.text import Text

_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0) | _NONBLOCK
_KINDS = (
    (stat.S_ISDIR, errno.EISDIR, Text("it is a folder, and no file")),
    (stat.S_ISLNK, errno.ELOOP, Text("it is a link, and no file")),
    (stat.S_ISFIFO, errno.EINVAL, Text("it is a pipe, and no file")),
    (stat.S_ISSOCK, errno.EINVAL, Text("it is a socket, and no file")),
)
_DEVICE = Text("it is a device, and no file")


class NotRegularError(OSError):
    """Something else than a file stands there; `what` says it for a person."""

    def __init__(self, mode: int, name: str) -> None:
        """`mode` is the st_mode of what stands there."""
        found = ((code, text) for is_it, code, text in _KINDS if is_it(mode))
        code, self.what = next(found, (errno.EINVAL, _DEVICE))
        super().__init__(code, self.what.render("en"), name)


def open_regular(
    name: str | os.PathLike[str],
    flags: int = os.O_RDONLY,
    mode: int = 0o600,
    *,
    dir_fd: int | None = None,
    follow: bool = True,
) -> int:
    """A descriptor of a regular file.

    Args:
        name: relative to `dir_fd`, where that is given.
        flags: of os.open; what keeps it from blocking comes to them.
        mode: of a file that is made.
        dir_fd: an open directory.
        follow: whether a link at the end of the path is followed.

    Raises NotRegularError where something else stands, and OSError.
    """
    flags |= _FLAGS | (0 if follow else getattr(os, "O_NOFOLLOW", 0))
    try:
        fd = os.open(name, flags, mode, dir_fd=dir_fd)
    except OSError as error:
        found = _mode(name, dir_fd, follow=follow)
        if found is None or stat.S_ISREG(found) or flags & os.O_EXCL:
            raise
        raise NotRegularError(found, os.fspath(name)) from error
    found = os.fstat(fd).st_mode
    if stat.S_ISREG(found):
        return fd
    os.close(fd)
    raise NotRegularError(found, os.fspath(name))


def _mode(name: str | os.PathLike[str], dir_fd: int | None, *, follow: bool) -> int | None:
    """What stands there; None where nobody can tell."""
    try:
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=follow).st_mode
    except (OSError, ValueError):
        return None
